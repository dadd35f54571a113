"""Beam's own objects: the only package that uses Beam's private names.

They were read in apache-beam 2.77, in `ml/inference/base.py` and `utils/multi_process_shared.py`.
When a name is gone, the functions raise `BeamChangedError`, which says what it was needed for.
"""
