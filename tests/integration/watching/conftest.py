"""Modules here that are run by tests, in processes of their own, and hold none themselves."""

collect_ignore = ["beams_own.py"]
