"""Controls for a pipeline of several models."""
