"""Sentences about what is missing in a trace."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator
from operator import attrgetter

from mmlab._text import joined, plural
from mmlab.events import (
    UNOBSERVED,
    Close,
    Conflicts,
    InMemory,
    LoadEnds,
    Process,
    ProcessBegins,
    ProcessInfo,
    RunBegins,
    RunEnds,
    UnknownKey,
    Unobserved,
    printable,
)
from mmlab.state import NS, State


def unseen(state: State) -> Iterator[str]:
    """Describe what cannot be observed with this version of Beam, these models and steps."""
    said: list[Unobserved | LoadEnds | InMemory] = [
        *state.facts(Unobserved),
        *state.facts(LoadEnds),
        *state.facts(InMemory),
    ]
    said.sort(key=attrgetter("t_ns"))
    for step, model, what in dict.fromkeys((e.step, e.model, e.what) for e in said):
        subject = f"{step}: model {model}: " if model else f"{step}: " if step else ""
        yield printable(f"{subject}{UNOBSERVED.get(what or '', what)}.")
    for step, key in dict.fromkeys((e.step, e.error) for e in state.facts(UnknownKey)):
        yield printable(f"{step}: key {key} is in the data, but no KeyModelMapping names it.")
    for step, error in dict.fromkeys((e.step, e.error) for e in state.facts(Conflicts)):
        yield printable(conflict_note(step, error))
    for (step, model), uses in _unanswered(state).items():
        yield printable(
            f"{step}: model {model}: the load of the model that answered "
            f"{plural(uses, 'batch')} was not seen."
        )
    yield from _of_sharing(state)
    yield from _of_attempts(state)
    for event in state.facts(ProcessBegins):
        if event.info.clock_off_ns:
            yield printable(_clock_note(event.process, event.info))


def _of_sharing(state: State) -> Iterator[str]:
    for steps in state.sharing:
        yield printable(
            f"{', '.join(steps)}: these steps share their models (model_identifier); a load, an "
            "eviction and the limit are shown at the step that loaded first, and each batch at the "
            "step that asked."
        )


def _of_attempts(state: State) -> Iterator[str]:
    for step, (reached, inferred) in _compared(state).items():
        if inferred > reached:
            yield printable(
                f"{step}: {plural(inferred, 'element')} were inferred for the {reached:,} that "
                "reached it: attempts were repeated, and each is counted."
            )
    if state.elsewhere and state.state == "DONE" and not state.element_counts:
        yield (
            "The runner counts no elements: whether every worker wrote to the log cannot be told."
        )


def _unanswered(state: State) -> Counter[tuple[str, str]]:
    """Number of batches of each model whose load was not seen, by step and name."""
    batches = state.batches
    asked = [batches.models[place][:2] for place in batches.asked[batches.residence < 0].tolist()]
    return Counter(asked)


def conflict_note(step: str | None, error: str | None) -> str:
    """Explain a `Conflicts` event, and say what to do."""
    return (
        f"{step}: {error}: one thread evicted a model that another thread was still loading or "
        "using; Beam does not lock its model manager. Run one thread per process, or set "
        "max_models_per_worker_hint to the number of models or leave it out."
    )


def _clock_note(process: Process, info: ProcessInfo) -> str:
    why = "it was set, or the machine slept"
    if info.boot is None:
        why += "; if the machine was restarted, or is another of that name, these times are wrong"
    return (
        f"{process}: its wall clock is {info.clock_off_ns * NS:+,.0f} s off that of the first "
        f"process of {process.host}, and times go by the first: {why}."
    )


def missing(state: State, torn: int = 0) -> Iterator[str]:
    """Describe missing events and data.

    Args:
      torn: number of log lines that are truncated or are not events.
    """
    if not state.processes:
        yield "There are no events: the log folder was removed, or could not be read."
    if torn:
        lines = plural(torn, "cut-off line")
        yield f"{lines}: a process ended while it wrote, or the disk was full."
    if state.dropped:
        events = plural(state.dropped, "event")
        yield f"{events} could not be written: is the log folder full or gone?"
    unclosed = _unclosed(state)
    for process, last_ns in unclosed.items():
        yield printable(
            f"{process}: events after second {(last_ns - state.start_ns) * NS:.1f} may be missing: "
            "it was killed, or had not written them when the trace was read."
        )
    if state.facts(RunEnds):
        yield from _missing_at_the_end(state, unclosed)
    elif state.facts(RunBegins):
        yield "The end of the run was not seen."


def _missing_at_the_end(state: State, unclosed: Container[Process]) -> Iterator[str]:
    for process, work in _unended(state).items():
        if process not in unclosed:
            yield printable(
                f"{process}: the end of {work} was not seen: the process was killed, could "
                "not write, or was still at work when the run ended."
            )
    for step in (silent := list(_unwritten(state))):
        yield printable(
            f"{step}: elements went through it, and no worker wrote of that: none could write "
            "to the log folder."
        )
    if state.elsewhere and not state.wrote_elsewhere and not silent and not state.inferred:
        yield "No worker wrote to the log: none was started, or none could write to the log folder."
    for step, (reached, inferred) in _compared(state).items():
        if 0 < inferred < reached and not state.dropped and not unclosed:
            yield printable(
                f"{step}: {plural(reached, 'element')} reached it, and workers wrote of "
                f"{inferred:,}: the others could not write to the log folder."
            )


def _unclosed(state: State) -> dict[Process, int]:
    """Processes that buffer events and wrote no `Close`, with the time of their last event."""
    segmented = {e.process for e in state.facts(ProcessBegins) if e.info.segments}
    segmented -= {e.process for e in state.facts(Close)}
    return {process: state.processes[process].last_ns for process in sorted(segmented)}


def _unended(state: State) -> dict[Process, str]:
    """Processes with unfinished loads or batches, and a description of these."""
    work = {}
    for process, of in sorted(state.processes.items()):
        loads = sum(load.end_ns is None and load.free_ns is None for load in of.loads)
        words = [
            plural(n, one) for n, one in ((len(of.open_batches()), "batch"), (loads, "load")) if n
        ]
        if words:
            work[process] = joined(words)
    return work


def _compared(state: State) -> dict[str, tuple[int, int]]:
    """Watched steps of a successful run: elements that reached the step, and elements inferred."""
    if state.state != "DONE":
        return {}
    unwatched, inferred = {event.step for event in state.facts(Unobserved)}, state.inferred
    return {
        step: (reached, inferred[step])
        for step, reached in state.reached.items()
        if step not in unwatched
    }


def _unwritten(state: State) -> Iterator[str]:
    """Watched steps that processed elements according to the runner, but wrote no events."""
    told = {event.step for event in state.facts(Unobserved)}
    for of in state.processes.values():
        told.update(load.step for load in of.loads)
        told.update(step for step, *_ in of.asked)
    for step in dict.fromkeys(model.step for model in state.models):
        of_step = re.compile(rf"(^|\]: ){re.escape(step)}(/|\[|$)")
        worked = any(n and of_step.search(name) for name, n in state.element_counts.items())
        if worked and step not in told and state.state == "DONE":
            yield step
