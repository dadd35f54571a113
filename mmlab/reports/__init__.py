"""A run in words and files: notes, shortage of memory, Perfetto."""
