"""`Trace`: a recorded run, loaded, summarised, drawn and saved."""

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
      events: the events of one run.
      torn: number of lines of the log that were cut off or are not events.

    Attributes:
      events: all events, sorted by time.
      torn: as given.

    Raises:
      TypeError: `events` holds something that is not an event.
      ValueError: the events are of several runs.
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
        """Return the events of these kinds, sorted by time; kinds as in the log (`load_begin`)."""
        return [event for event in self.events if event.event in kinds]

    # Files

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, most_bytes: float | None = _MOST_BYTES) -> Trace:
        """Read a trace that was saved, or the log folder of a run, finished or not.

        A trace is read as data; no code in it is run. In a file, a line that is not an event is an
        error. In a folder, such lines are counted, because killed processes leave incomplete ones.

        Args:
          path: a file from `save`, or a folder of event logs; a path, or a URI that Beam knows.
          most_bytes: limit of the total size of the files, in bytes, so that a wrong file does not
            fill the memory; None for no limit. A million events take about 200 MB on disk and about
            1 GB of memory.

        Raises:
          TypeError: `path` is not a path, or `most_bytes` is not a number.
          FileNotFoundError: `path` does not exist, or is a folder without a trace.
          OSError: `path` cannot be read, or is a pipe or a device.
          ValueError: the file is not a trace, the folder holds several runs, the format is newer
            than this version of mmlab, the files are larger than `most_bytes`, or `most_bytes` is
            less than 1.
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

        Args:
          path: a file of this machine.

        Returns:
          The path. The file is written completely or not at all.

        Raises:
          ValueError: `path` is a URI, or not a valid path of a file.
          OSError: the file cannot be written.
        """
        path = _local(path)
        with replacing(path, "w", encoding="utf-8") as file:
            file.writelines(event.to_json() + "\n" for event in self.events)
        return path

    def to_perfetto(self, path: str | os.PathLike[str]) -> Path:
        """Write the trace for https://ui.perfetto.dev, or for `chrome://tracing`.

        For each process, it has a lane per model with loads and batches, and counters of resident
        set size, models and limit. Perfetto reads the file in the browser and uploads nothing.
        `Trace.load` cannot read this file.

        Args:
          path: a file of this machine; Perfetto expects a name that ends in `.json`.

        Returns:
          The path. The file is written completely or not at all.

        Raises:
          ValueError: `path` is a URI, or not a valid path of a file.
          OSError: the file cannot be written.
        """
        path = _local(path)
        with replacing(path, "w", encoding="ascii") as file:
            write_perfetto(self, cast(TextIO, file))
        return path

    # The run

    @cached_property
    def notes(self) -> list[str]:
        """What this trace lacks, in sentences: what mmlab cannot see, then `incomplete`."""
        return [*unseen(self), *self.incomplete]

    @cached_property
    def incomplete(self) -> list[str]:
        """What was lost, in sentences; empty if nothing is known to be missing.

        It reports events that could not be written, lines that were cut off, batches and loads
        without an end, processes that may have recorded more, and a run without an end. A process
        killed while idle is not noticed.
        """
        return list(missing(self, self.torn))

    # Answers

    def summary(self) -> Summary:
        """Return the run in numbers: counts, seconds, and bytes of memory."""
        return summarize(self)

    def per_model(self) -> list[ModelCounts]:
        """Return the counts of each model, in the order of `models`, including unused models."""
        return count_per_model(self)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per event and `seconds` since the run was submitted."""
        with extra_for("Trace.to_frame"):
            from mmlab.reports.frame import event_table

        return event_table(self.events, self.start_ns)

    def timeline(self, **options: Any) -> Picture:
        """Draw the run: lanes of models, models resident, and memory, over seconds.

        Args:
          title: replaces the step's label in the header.
          models: names of the models to draw in lanes of their own, in this order; all others share
            one lane. By default the 40 models with the most loads and batches.

        Raises:
          ValueError, TypeError: `models` is not a list of names of models of this run.
        """
        with extra_for("Trace.timeline"):  # only drawing needs matplotlib
            from mmlab.draw.timeline import draw_timeline

        return draw_timeline(self, **options)

    def replay(self, *, first: int = 1) -> ReplayPage:
        """Return a page to step through the run by access; see `mmlab.page.build.ReplayPage`.

        Each model manager has a stack of its models, the most recently used on top, and a line
        across the stack at its limit. Move the line to see the same accesses under another hint.
        A page shows up to 100,000 accesses and states which. Its stack begins with the models in
        memory before the first of them, and its counts are those of the accesses on the page.

        Args:
          first: number of the first access on the page, for each model manager, from 1. Managers
            with fewer accesses are left out.
        Raises:
          ValueError, TypeError: `first` is not a positive integer, no manager has so many accesses,
            or the accesses up to the end of the page use more than 2,000 models.
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
        raise TypeError(
            f"events must be events of a run, got {short(events)}: read files with Trace.load"
        )
    events = list(events)
    if all(issubclass(kind, Event) for kind in set(map(type, events))):
        return events
    place, other = next((i, e) for i, e in enumerate(events) if not isinstance(e, Event))
    raise TypeError(
        f"events[{place}] must be an event, got {short(other)}: read files with Trace.load"
    )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Disable the garbage collector, which would repeatedly scan a million events for cycles."""
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
    allowed = "a number of bytes, 1 or more, such as 2e9, or None for no limit"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {allowed}, got {short(value)}")
    if not 1 <= value < float("inf"):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return int(value)


def _local(path: str | os.PathLike[str]) -> Path:
    path_argument("path", path, "the path of a file")
    where = location(path)
    if isinstance(where, str):
        raise ValueError(f"path must be a file of this machine, got {where}")
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
    _check_size(path, reader.bytes_read, most_bytes)  # it may have grown meanwhile
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
        block += file.readline(MOST_LINE_BYTES + 2)  # the rest of the block's last line
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
