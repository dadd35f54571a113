"""Beam's own objects: the only package that uses Beam's private names."""
