"""Which engine can do an operation, and the rule that forbids it."""
