"""Logs of real runs in which anything was changed give an answer or a sentence, from every call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmlab
from mmlab import Trace, lessons
from mmlab.draw.live import LivePicture
from mmlab.events import printable
from mmlab.reports.failure import explain
from tests.handlers import keyed
from tests.lanes import size
from tests.unit.trace.mutations import RECORDED, as_text, mutated, recorded

HANDLER = keyed([["KEY_1", "a"], ["KEY_2", "b"]], 1)

Call = Callable[[Trace, Path], Any]
QUICK: dict[str, Call] = {
    "repr": lambda trace, _: repr(trace),
    "summary": lambda trace, _: (str(trace.summary()), trace.summary()._repr_html_()),
    "counts": lambda trace, _: (trace.summary().counts(), trace.counts),
    "per_model": lambda trace, _: trace.per_model(),
    "residences": lambda trace, _: [(r.uses, r.loading) for r in trace.residences],
    "batches": lambda trace, _: list(trace.batches.uses()),
    "notes": lambda trace, _: (trace.notes, trace.incomplete, trace.torn, trace.dropped),
    "run": lambda trace, _: (trace.state, trace.error, trace.start_ns, trace.end_ns, trace.sharing),
    "models": lambda trace, _: [(trace.limits(model.step), model) for model in trace.models],
    "memory": lambda trace, _: (trace.memory, trace.held_now, trace.processes_by_time),
    "of_kind": lambda trace, _: trace.of_kind("limit", "memory_limit", "another kind"),
    "to_frame": lambda trace, _: trace.to_frame(),
    "to_perfetto": lambda trace, folder: trace.to_perfetto(folder / "perfetto.json"),
    "save": lambda trace, folder: Trace.load(trace.save(folder / "saved.jsonl")),
    "diagram": lambda trace, _: repr(mmlab.diagram(HANDLER, trace=trace)),
    "explain": lambda trace, _: [printable(sentence) for sentence in explain(trace.events)],
    "tables": lambda trace, _: (lessons.per_model(trace), lessons.compare({1: trace})),
}


def predictions(trace: Trace, _: Path) -> None:
    for step in {None, *(model.step for model in trace.models)}:
        if (prediction := answered(lambda step=step: mmlab.predict(trace, step=step))) is not None:
            for call in (repr, lambda it: it.table(), lambda it: it.advise(memory=1e9)):
                answered(lambda call=call, it=prediction: call(it))


def live_picture(trace: Trace, _: Path) -> None:
    picture = LivePicture("a run")
    for begin in range(0, len(trace.events), 40):
        picture.add(trace.events[begin : begin + 40])
        picture.line()
    picture.image()


PICTURES: dict[str, Call] = {
    "timeline": lambda trace, _: repr(trace.timeline()),
    "two lanes": lambda trace, _: trace.timeline(models=[m.model for m in trace.models][:2]),
    "live picture": live_picture,
    "show_memory": lambda trace, _: lessons.show_memory({"a run": trace}),
    "show_release": lambda trace, _: lessons.show_release({"a run": trace}),
    "predict": predictions,
}

MANY = size("traces", suite=200, full=2_000)
DRAWN = size("drawn_traces", suite=8, full=2_000)
AT_ONCE = 50


@pytest.mark.runs
@pytest.mark.part("traces", suite=True)
@pytest.mark.parametrize("first", range(0, MANY, AT_ONCE))
def test_each_call_answers_or_refuses_with_a_sentence(tmp_path, first):
    call_all(QUICK, range(first, first + AT_ONCE), tmp_path)


@pytest.mark.runs
@pytest.mark.part("drawn_traces", suite=True)
@pytest.mark.parametrize("first", range(0, DRAWN, AT_ONCE))
def test_each_picture_and_prediction_too(tmp_path, first):
    # The suite draws few, with others of the mutations than the first.
    step = 25 if DRAWN < AT_ONCE else 1
    call_all(PICTURES, range(first, first + min(DRAWN, AT_ONCE) * step, step), tmp_path)


def call_all(calls: dict[str, Call], seeds: range, folder: Path) -> None:
    for seed in seeds:
        for trace in loaded(folder, seed):
            for name, call in calls.items():
                try:
                    answered(lambda call=call, trace=trace: call(trace, folder))
                except Exception as problem:
                    raise AssertionError(f"{name} of mutated({seed})") from problem


def loaded(folder: Path, seed: int) -> list[Trace]:
    """The trace of mutated logs, read as a folder, and of the first of them, read as a file."""
    logs = {folder / str(seed) / name: as_text(log) for name, log in mutated(seed).items()}
    (folder / str(seed)).mkdir()
    for path, text in logs.items():
        path.write_text(text, "utf-8")
    read = [answered(lambda path=path: Trace.load(path)) for path in (path.parent, path)]
    return [trace for trace in read if trace is not None]


def answered(call: Callable[[], Any]) -> Any:
    """What a call answers; None where it refuses with a sentence."""
    try:
        return call()
    except (ValueError, OSError) as refusal:
        assert len(str(refusal).split()) > 3, f"{refusal!r} is no sentence"
        return None


def test_what_is_not_changed_is_read(tmp_path):
    for folder in RECORDED:
        for name, log in recorded(folder).items():
            assert as_text(log).count("\n") == len(log), name


def test_most_of_what_is_changed_can_still_be_loaded(tmp_path):
    """Otherwise the calls above would have nothing to answer."""
    assert sum(bool(loaded(tmp_path, seed)) for seed in range(40)) > 30
