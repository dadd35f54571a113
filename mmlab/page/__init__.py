"""The replay page: one file in which a run is stepped through, access by access."""
