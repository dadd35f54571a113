"""A pipeline in a fresh process."""
