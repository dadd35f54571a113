"""Convert the monotonic times in logs to wall-clock time."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mmlab.events import Event, ProcessBegins

_CLOCK_TOLERANCE_NS = 10_000_000_000
"""Wall clocks of one machine that differ by less are taken as equal: a process that is descheduled
between reading its two clocks is off by a second or two."""
_BEYOND = 2**63


class Clocks(dict[str, int]):
    """Nanoseconds to add to each machine's monotonic clock to get epoch time, for one log.

    A monotonic clock restarts at each boot, and two machines may have the same name, so clocks are
    identified by host name and boot. The first process read of a boot sets the offset: setting the
    wall clock back later shifts no event.

    Args:
      beside: clocks of a log that is read together with this one, to share the known offsets.
    """

    def __init__(self, beside: Clocks | None = None):
        super().__init__()
        self._boots: dict[tuple[str, str | None], int] = {} if beside is None else beside._boots
        self._first: dict[str, int] = {} if beside is None else beside._first

    def __missing__(self, host: str) -> int:
        return self._first.get(host, 0)  # this log has no offset, another may

    def align(self, events: Iterable[Event]) -> None:
        """Convert the times of events, given in log order, to wall-clock time.

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
        """Record a process's clock offset; set `clock_off_ns` if it differs from the first one."""
        if not -_BEYOND <= own < _BEYOND:
            raise ValueError("not an event: a number has more than 64 bits")
        self[event.host] = self._boots.setdefault((event.host, event.info.boot), own)
        self._first.setdefault(event.host, own)
        off = own - self[event.host]
        if abs(off) > _CLOCK_TOLERANCE_NS:
            event.info = msgspec.structs.replace(event.info, clock_off_ns=off)
