"""Motley's planner: what one GPU replica can serve and which replicas to buy. It knows numbers only:
no Kubernetes, no HTTP, no torch. The optimisation itself is in `ilp`, the only module that needs PuLP."""
