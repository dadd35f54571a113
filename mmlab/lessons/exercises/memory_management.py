"""The exercises of the lesson `memory_management`."""

from __future__ import annotations

from mmlab.lessons.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
