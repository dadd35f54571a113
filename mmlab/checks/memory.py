"""Compare the models that a run may hold at once with the memory available on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from apache_beam.ml.inference.base import ModelHandler
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from mmlab._files import size_bytes
from mmlab._text import in_bytes, joined, plural
from mmlab.beam.cards import count_or_none, model_cards
from mmlab.beam.handlers import cohort_handlers, keyed_handler, model_hint, shares_across_processes
from mmlab.beam.weights import weights_file
from mmlab.budget import limit_with
from mmlab.checks.handler import leaves_of
from mmlab.checks.problem import Problem
from mmlab.reports.words import hint_words


@dataclass(frozen=True)
class _Held:
    """Models that one step may hold at once.

    Attributes:
      step: label of the step.
      models: number of models held, with their copies.
      bytes: sum of their weights by file size; models of unknown size are not included.
      sizes: bytes of each model of known size, largest first.
      hint: `max_models_per_worker_hint`, or None.
      copies: copies of the keyed handler, each of which adds its hint to the limit; for a step with
        one model, copies of the model.
      unknown: number of models of unknown size.
    """

    step: str
    models: int
    bytes: int
    sizes: tuple[int, ...]
    hint: int | None
    copies: int
    unknown: int = 0


def held_by(
    handler: ModelHandler[Any, Any, Any], step: str, options: PipelineOptions | None = None
) -> _Held:
    """Models that the step may hold at once on this machine, with Beam's local runners.

    All workers share the models of a keyed handler, and each worker adds its hint to the limit.
    Other models are held once per process, or `model_copies` times.
    """
    mode, workers = _workers(options)
    of_model = zip(model_cards(handler, step), leaves_of(handler), strict=True)
    here = [(card, leaf) for card, leaf in of_model if card.device in (None, "cpu")]
    cards, leaves = [card for card, _ in here], [leaf for _, leaf in here]
    sizes = sorted(filter(None, map(_size, leaves)), reverse=True)
    unknown = len(cards) - len(sizes)
    if keyed_handler(handler) is not None:
        copies = 1 if mode == "in_memory" else workers
        hint = count_or_none(cards[0].hint) if cards else None
        most = len(cards) if hint is None else min(limit_with(hint, copies), len(cards))
        return _Held(step, most, sum(sizes[:most]), tuple(sizes), hint, copies, unknown)
    if shares_across_processes(handler):
        copies = handler.model_copies()
    else:
        copies = workers if mode == "multi_processing" else 1
    return _Held(
        step, copies * len(cards), copies * sum(sizes), tuple(sizes), None, copies, unknown
    )


def _size(leaf: ModelHandler[Any, Any, Any]) -> int | None:
    path = weights_file(leaf)
    return None if path is None else size_bytes(path)


def thread_problem(
    handler: ModelHandler[Any, Any, Any], step: str, options: PipelineOptions | None
) -> Problem | None:
    """A problem if a thread may evict a model that another thread is still loading.

    Each thread adds its hint to the limit before its first batch. The check assumes two threads,
    the case with the lowest limit.
    """
    mode, threads = _workers(options)
    keyed = keyed_handler(handler)
    if keyed is None or mode != "multi_threading" or threads < 2:
        return None
    models, hint = len(cohort_handlers(keyed)), model_hint(keyed)
    count = count_or_none(hint)
    if count is None or 2 * count >= models:
        return None
    rises = f", which each further thread raises by {count}" if threads > 2 else ""
    return Problem(
        f"{threads} threads share {models} models under a limit of {2 * count}{rises}: a thread "
        "may evict a model that another one is still loading, and the run then fails with a "
        "KeyError, because Beam does not lock its model manager.",
        step,
        "Run one thread per process (--direct_num_workers=1), or set max_models_per_worker_hint to "
        f"{-(-models // 2)} or more.",
    )


def _workers(options: PipelineOptions | None) -> tuple[str, int]:
    if options is None:
        return "in_memory", 1
    direct = options.view_as(DirectOptions)
    return direct.direct_running_mode, direct.direct_num_workers or os.cpu_count() or 1


def memory_problem(held: Sequence[_Held], room: int | None = None) -> Problem | None:
    """A problem if the models of all steps together exceed the available memory.

    Args:
      held: models of each step.
      room: available memory in bytes; None takes that of this machine.
    """
    need = sum(one.bytes for one in held)
    if not need:
        return None
    room = memory_left() if room is None else room
    if need <= room:
        return None
    models = sum(one.models for one in held)
    limits = joined(filter(None, map(_limit, held)))
    return Problem(
        f"up to {models} models may be held at once{f' ({limits})' if limits else ''}: "
        f"{in_bytes(need, 1)} of weights, and this machine has {in_bytes(room, 1)} of memory left.",
        ", ".join(one.step for one in held),
        _fix(held, room),
    )


def _limit(held: _Held) -> str:
    if held.hint is None:
        return f"{held.copies} copies of each" if held.copies > 1 else ""
    return f"{hint_words(held.hint)} × {plural(held.copies, 'copy', 'copies')}"


def _fix(held: Sequence[_Held], room: int) -> str:
    unknown = sum(one.unknown for one in held)
    if unknown:
        return (
            f"Take smaller models, a lower hint, fewer workers or a larger machine; how much less "
            f"is not known: {plural(unknown, 'model')} more of unknown size."
        )
    if len(held) == 1 and len(held[0].sizes) > 1:
        fits = sum(1 for n in range(1, len(held[0].sizes) + 1) if sum(held[0].sizes[:n]) <= room)
        hint = fits // held[0].copies
        if hint:
            return f"Set max_models_per_worker_hint to {hint} or less, or take a larger machine."
    return "Take smaller models, fewer workers or a larger machine."


def memory_left() -> int:
    """Available memory of this machine or of this process's container, in bytes."""
    available: int = psutil.virtual_memory().available
    return min([available, *_left_in_groups()])


def _left_in_groups(
    listing: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Bytes left in each control group of this process that has a limit."""
    try:
        lines = listing.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _left_upwards(root, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            yield from _left_upwards(root / "memory", path, *names)


def _left_upwards(root: Path, path: str, limit: str, used: str) -> Iterator[int]:
    inner = Path(path.lstrip("/"))
    for group in (root / inner, *(root / above for above in inner.parents)):
        try:
            most = int((group / limit).read_text())
            cache = _cache_bytes(group / "memory.stat")
            yield max(0, most - int((group / used).read_text()) + cache)
        except (OSError, ValueError):
            continue  # "max" (no limit), controller off, or a group outside this container


def _cache_bytes(stat: Path) -> int:
    """Bytes of cached file pages, which the kernel frees when memory runs short."""
    words = (line.split() for line in stat.read_text().splitlines())
    return next((int(n) for name, n in words if name == "inactive_file"), 0)
