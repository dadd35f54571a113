"""Turns events into the state of a run; no other package does."""

from mmlab.events import TracedModel
from mmlab.state.intervals import Ints, covered_ns, over_time
from mmlab.state.process import UNSEEN, Curve, Load, ProcessState
from mmlab.state.records import (
    Batches,
    Counts,
    MachineMemory,
    Residence,
    RunMemory,
    Use,
    held_as,
    held_over_time,
    most_bytes_held,
)
from mmlab.state.run import NS, State

__all__ = [
    "NS",
    "UNSEEN",
    "Batches",
    "Counts",
    "Curve",
    "Ints",
    "Load",
    "MachineMemory",
    "ProcessState",
    "Residence",
    "RunMemory",
    "State",
    "TracedModel",
    "Use",
    "covered_ns",
    "held_as",
    "held_over_time",
    "most_bytes_held",
    "over_time",
]
