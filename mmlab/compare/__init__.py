"""Comparisons of runs of one pipeline."""
