"""Event logs: written by every process of a run, and read while they grow."""
