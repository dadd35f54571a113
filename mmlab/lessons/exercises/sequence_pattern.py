"""The exercises of the lesson `sequence_pattern`."""

from __future__ import annotations

from mmlab.lessons.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
