"""Runs of one pipeline beside each other."""
