"""The exercises of the lesson `key_mapping`."""

from __future__ import annotations

from mmlab.lessons.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
