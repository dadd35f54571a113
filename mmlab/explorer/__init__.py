"""The explorer: controls for a pipeline of several models."""
