"""Reports of a run: summary, notes, out of memory, tables, Perfetto."""
