"""What happened, for people and machines: structured logs."""
