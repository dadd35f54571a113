"""The exercises of the lesson `start_here`."""

from __future__ import annotations

from mmlab.lessons.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
