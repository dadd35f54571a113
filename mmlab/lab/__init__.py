"""Experiments: each in a process of its own, under several hints, with a limit of memory."""
