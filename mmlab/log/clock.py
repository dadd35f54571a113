"""Clocks of machines: from the time that a process noted to the time of all."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mmlab.events import Event, ProcessBegins

_CLOCK_TOLERANCE_NS = 10_000_000_000
"""Wall clocks of one machine that differ by less agree: a process that waits for its turn between
two looks at the clock is a second or two off."""
_BEYOND = 2**63


class Clocks(dict[str, int]):
    """Nanoseconds from machines' monotonic clocks to the epoch, for the events of one log.

    A monotonic clock begins anew when its machine does, and two machines may have one name: so
    clocks are told apart by name and boot. The first process of a boot that is read says how its
    clock stands, so that a wall clock that is set back later moves nothing.

    Args:
      beside: of a log that is read beside this one, to share what is known of machines.
    """

    def __init__(self, beside: Clocks | None = None):
        super().__init__()
        self._boots: dict[tuple[str, str | None], int] = {} if beside is None else beside._boots
        self._first: dict[str, int] = {} if beside is None else beside._first

    def __missing__(self, host: str) -> int:
        return self._first.get(host, 0)  # the process that wrote this log did not say, others may

    def align(self, events: Iterable[Event]) -> None:
        """Put events, in the order in which they stand in a log, on the wall clock.

        Raises:
          ValueError: a time has more than 64 bits.
        """
        host, offset = None, 0
        for event in events:
            if type(event) is ProcessBegins:
                if event.wall_ns is not None:
                    self._anchor(event, event.wall_ns - event.t_ns)
                event.wall_ns, host = event.t_ns + self[event.host], None
            if event.host != host:
                host = event.host
                offset = self[host]
            t_ns = event.t_ns + offset
            if not -_BEYOND <= t_ns < _BEYOND:
                raise ValueError("not an event: a number has more than 64 bits")
            event.t_ns = t_ns

    def _anchor(self, event: ProcessBegins, own: int) -> None:
        """Take note of a process's clock; where it disagrees with the first, the event says so."""
        if not -_BEYOND <= own < _BEYOND:
            raise ValueError("not an event: a number has more than 64 bits")
        self[event.host] = self._boots.setdefault((event.host, event.info.boot), own)
        self._first.setdefault(event.host, own)
        off = own - self[event.host]
        if abs(off) > _CLOCK_TOLERANCE_NS:
            event.info = msgspec.structs.replace(event.info, clock_off_ns=off)
