"""Run a pipeline in a fresh process."""
