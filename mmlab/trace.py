"""What happened in one run: load it, ask it, save it."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from numbers import Real
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from mmlab._arguments import file_to_write, path_argument, short, whole_number
from mmlab._extras import extra_for
from mmlab._files import replacing
from mmlab._text import shown_everywhere
from mmlab.events import MOST_LINE_BYTES, Event
from mmlab.log.clock import Clocks
from mmlab.log.folders import (
    NOT_REGULAR,
    SUFFIX,
    Location,
    exists_remote,
    folder_at,
    location,
    open_regular,
    read_remote,
)
from mmlab.log.reader import BLOCK_BYTES, LogReader, parse
from mmlab.reports.notes import missing, unseen
from mmlab.reports.perfetto import write_perfetto
from mmlab.reports.summary import ModelCounts, Summary, count_per_model, summarize
from mmlab.state import State

if TYPE_CHECKING:
    import pandas as pd

    from mmlab.draw.picture import Picture
    from mmlab.page.build import ReplayPage

_MOST_BYTES = 2_000_000_000


@shown_everywhere
class Trace(State):
    """A recorded run that can be loaded, summarised, drawn and saved: a state with its events.

    Args:
      events: of one run.
      torn: lines that were cut off or are not events.

    Attributes:
      events: by time.
      torn: as given.

    Raises:
      TypeError: what it is made of are no events.
      ValueError: they are of several runs.
    """

    def __init__(self, events: Iterable[Event], torn: int = 0):
        self.events: Sequence[Event] = ()
        self.torn = torn
        super().__init__(events)

    def add(self, events: Iterable[Event]) -> None:
        new = sorted(_checked(events), key=attrgetter("t_ns"))
        self.events = sorted([*self.events, *new], key=attrgetter("t_ns")) if self.events else new
        with _collector_paused():
            super().add(new)

    def of_kind(self, *kinds: str) -> list[Any]:
        """Events of these kinds, by time; kinds are called as in a log: `load_begin`, …"""
        return [event for event in self.events if event.event in kinds]

    # Files

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, most_bytes: float | None = _MOST_BYTES) -> Trace:
        """Read a trace that was saved, or the log folder of a run, finished or not.

        A trace is read as data: nothing in it is ever run, and what does not have the form of an
        event is refused (in a file) or counted (in a folder, where killed processes cut lines off).

        Args:
          path: a file from `save`, or a folder of event logs; a path, or a URI that Beam knows.
          most_bytes: what the files may hold together, so that a wrong file does not fill the
            memory; None for no limit. A million events are about 200 MB, and take about 1 GB.

        Raises:
          TypeError: `path` is no path, or `most_bytes` no number.
          FileNotFoundError: there is nothing at `path`, or no trace in that folder.
          OSError: what is there cannot be read, or is no file, but a pipe or a device.
          ValueError: a file that is no trace, a folder with several runs, a newer format, or more
            than `most_bytes`, which is 1 or more.
        """
        path_argument("path", path, "a saved trace or the log folder of a run")
        most_bytes = _bytes_or_none("most_bytes", most_bytes)
        where = location(path)
        with _collector_paused():
            if isinstance(where, str):
                return _load_remote(where, most_bytes)
            if where.is_dir():
                return _load_folder(str(where), most_bytes)
            if not where.exists():
                raise FileNotFoundError(f"no trace at {where}: the file does not exist")
            with open_regular(where) as file:
                _check_size(where, where.stat().st_size, most_bytes)
                return _load_lines(where, file, most_bytes)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all events to one file of JSON lines, which `Trace.load` reads.

        The file is there whole or not at all. Returns its path.

        Args:
          path: of this machine.

        Raises:
          ValueError: `path` is a URI, or cannot be one of a file.
          OSError: the file cannot be written.
        """
        path = _local(path)
        with replacing(path, "w", encoding="utf-8") as file:
            file.writelines(event.to_json() + "\n" for event in self.events)
        return path

    def to_perfetto(self, path: str | os.PathLike[str]) -> Path:
        """Write the trace for https://ui.perfetto.dev, or for `chrome://tracing`.

        There, each process has a lane for each of its models, with loading and batches in it, and
        counters of its resident set size, models and limit. Nothing is sent: Perfetto reads the
        file in the browser. `Trace.load` does not read it back.

        Args:
          path: of this machine; Perfetto expects it to end in `.json`.

        Returns:
          The path. The file is there whole or not at all.

        Raises:
          ValueError: `path` is a URI, or cannot be one of a file.
          OSError: the file cannot be written.
        """
        path = _local(path)
        with replacing(path, "w", encoding="ascii") as file:
            write_perfetto(self, cast(TextIO, file))
        return path

    # The run

    @cached_property
    def notes(self) -> list[str]:
        """What this trace does not hold, in sentences: what is never seen, then `incomplete`."""
        return [*unseen(self), *self.incomplete]

    @cached_property
    def incomplete(self) -> list[str]:
        """What was seen, or must have been, and is missing here, in sentences.

        Events that could not be written, lines that were cut off, batches and loads whose end was
        not seen, processes that may have seen more, a run without its end. Empty when nothing is
        known to be missing: a process that was killed while it did nothing is not noticed.
        """
        return list(missing(self, self.torn))

    # Answers

    def summary(self) -> Summary:
        """The run in a few numbers: integers that can be compared, and figures."""
        return summarize(self)

    def per_model(self) -> list[ModelCounts]:
        """What each model did, in the order of `models`; models that were never asked for too."""
        return count_per_model(self)

    def to_frame(self) -> pd.DataFrame:
        """One row per event, with `seconds` since the run was submitted."""
        with extra_for("Trace.to_frame"):
            from mmlab.reports.frame import event_table

        return event_table(self.events, self.start_ns)

    def timeline(self, **options: Any) -> Picture:
        """The run as a picture: see `mmlab.draw.timeline.draw_timeline`."""
        with extra_for("Trace.timeline"):  # a trace is data, and needs no matplotlib
            from mmlab.draw.timeline import draw_timeline

        return draw_timeline(self, **options)

    def replay(self, *, first: int = 1) -> ReplayPage:
        """The run as a page to step through, access by access; see `mmlab.page.build.ReplayPage`.

        Each model manager has a stack of its models, the most recently used on top, and its limit
        is a line across it, which can be moved: the same accesses under another hint.

        A page holds up to 100,000 accesses and says which of how many. Its stack begins with the
        models that are in memory then; counts and loads over limits are those of the page.

        Args:
          first: access of each model manager with which the page begins, from 1; managers with
            fewer are left out.

        Raises:
          ValueError, TypeError: no manager has so many accesses, or they are of more than 2,000
            models until there.
        """
        first = whole_number("first", first)
        from mmlab.page.build import ReplayPage
        from mmlab.page.content import run_content

        with extra_for("Trace.replay"):
            return ReplayPage(run_content(self, first), self.timeline)

    def __repr__(self) -> str:
        s = self.summary()
        return (
            f"Trace({self.state}: {s.loads} loads, {s.evictions} evictions, {s.elements} elements, "
            f"{s.wall_seconds:.1f} s)"
        )


def _checked(events: Iterable[Event]) -> list[Event]:
    if isinstance(events, str | os.PathLike) or not isinstance(events, Iterable):
        raise TypeError(f"Trace takes events, not {short(events)}: read files with Trace.load")
    events = list(events)
    if all(issubclass(kind, Event) for kind in set(map(type, events))):
        return events
    place, other = next((i, e) for i, e in enumerate(events) if not isinstance(e, Event))
    raise TypeError(
        f"Trace takes events, and events[{place}] is {short(other)}: read files with Trace.load"
    )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Hold off the garbage collector, which looks for cycles among a million events, many times."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _bytes_or_none(name: str, value: float | None) -> int | None:
    if value is None:
        return None
    advice = "give a number of bytes from 1 on, such as 2e9, or None for no limit"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {short(value)}: {advice}")
    if not 1 <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}: {advice}")
    return int(value)


def _local(path: str | os.PathLike[str]) -> Path:
    path_argument("path", path, "the path of a file")
    where = location(path)
    if isinstance(where, str):
        raise ValueError(f"traces are saved to this machine, not to {where}")
    return file_to_write(where)


def _check_size(where: Location, size: int, most_bytes: int | None) -> None:
    if most_bytes is not None and size > most_bytes:
        raise ValueError(
            f"{where} holds {size:,} bytes, and a trace is read into memory: to read more than "
            f"{most_bytes:,}, give Trace.load(…, most_bytes=…)"
        )


def _load_folder(path: str, most_bytes: int | None) -> Trace:
    folder = folder_at(path)
    for name in folder.irregular():
        raise OSError(NOT_REGULAR.format(name))
    if not folder.logs():
        runs = folder.runs()
        if len(runs) == 1:
            return _load_folder(f"{path}/{runs[0]}", most_bytes)
        if runs:
            raise ValueError(f"{path} holds {len(runs)} runs, load one of: {', '.join(runs)}")
        raise FileNotFoundError(f"no trace in {path}: it holds no event log (*{SUFFIX})")
    _check_size(path, folder.size(), most_bytes)
    reader = LogReader(path, most_bytes)
    reader.fetch()
    _check_size(path, reader.bytes_read, most_bytes)  # it may have grown
    events = reader.parse()
    return Trace(events, torn=reader.torn)


def _load_remote(uri: str, most_bytes: int | None) -> Trace:
    if not uri.endswith(SUFFIX):
        return _load_folder(uri, most_bytes)
    if not exists_remote(uri):
        raise FileNotFoundError(f"no trace at {uri}: the file does not exist")
    data = read_remote(uri, None if most_bytes is None else most_bytes + 1)
    _check_size(uri, len(data), most_bytes)
    return _load_lines(uri, io.BytesIO(data), most_bytes)


def _load_lines(where: Location, file: BinaryIO, most_bytes: int | None) -> Trace:
    clocks = Clocks()
    events: list[Event] = []
    lines = size = 0
    while block := file.read(BLOCK_BYTES):
        block += file.readline(MOST_LINE_BYTES + 2)  # the rest of its last line
        size += len(block)
        _check_size(where, size, most_bytes)
        try:
            events += parse(block, clocks)
        except ValueError:
            events += _line_by_line(where, block, clocks, lines)
        lines += block.count(b"\n")
    if not events:
        raise ValueError(f"{where} is empty: not a trace")
    return Trace(events)


def _line_by_line(where: Location, block: bytes, clocks: Clocks, before: int) -> list[Event]:
    events: list[Event] = []
    for number, line in enumerate(block.splitlines(), before + 1):
        try:
            events += parse(line, clocks)
        except ValueError as problem:
            raise ValueError(f"{where}, line {number}: {problem}") from None
    return events
