"""What runs in the serving path. Never imports the operator, and of the solver only `steptime` and `policy`."""
