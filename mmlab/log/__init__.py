"""Event logs: written by each process of a run and read while they grow."""
