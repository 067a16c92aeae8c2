"""Pure rules that really serve and that the replay follows."""
