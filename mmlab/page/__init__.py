"""The replay page: one file to step through a run, access by access."""
