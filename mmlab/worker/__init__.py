"""What runs in the workers: handlers that record, and what they record with."""
