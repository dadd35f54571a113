"""Access to Beam's objects: the only package that uses Beam's private names.

The names are those of apache-beam 2.77, `ml/inference/base.py` and
`utils/multi_process_shared.py`. If one is missing, functions raise `BeamChangedError`, which says
what it is needed for.
"""
