"""Logs of real runs in which something was changed: values, members, lines."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmlab.events import KINDS

FIXTURES = Path(__file__).parents[2] / "fixtures"
RECORDED = sorted(folder for folder in FIXTURES.glob("*/[0-9]"))

Line = dict[str, Any] | str
"""An event as JSON has it, or what is no event."""
Log = list[Line]
Logs = dict[str, Log]
"""Name of a file to its lines."""

NUMBERS = (0, 1, -1, 2, 7, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), 1_000_000_000)
TEXTS = (
    "",
    " ",
    "x" * 5_000,
    "unknown",
    "\x1b[2J",
    "$\\frac{",
    "<b>&\"'",
    "a\nb",
    "한글 🦖",
    "a/b[c]: d",
)
OTHERS = (None, True, 1.5, 1e308, float("nan"), float("inf"), 2**63, 10**30, "\ud800", [], [[]], {})
MEMBERS = sorted({name for kind in KINDS.values() for name in kind.__struct_fields__})


def mutated(seed: int) -> Logs:
    """The logs of one recorded run, with one to four things changed."""
    chance = random.Random(seed)
    logs = recorded(chance.choice(RECORDED))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        chance.choice(MUTATIONS)(chance, chance.choice(list(logs.values())))
    return logs


def recorded(folder: Path) -> Logs:
    """The logs of a recorded run."""
    return {
        file.name: [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        for file in sorted(folder.glob("*.jsonl"))
    }


def as_text(log: Log) -> str:
    """A log as its file holds it."""
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in log)


def _change_value(chance: random.Random, log: Log) -> None:
    _at_some_place(chance, log, lambda old: _another(chance, old))


def _change_type(chance: random.Random, log: Log) -> None:
    _at_some_place(chance, log, lambda old: chance.choice(OTHERS))


def _change_everywhere(chance: random.Random, log: Log) -> None:
    """One member of all events of a kind."""
    kind, name = chance.choice(_events(log) or [{}]).get("event"), chance.choice(MEMBERS)
    gone, value = chance.random() < 0.3, chance.choice(NUMBERS + TEXTS)
    for event in _events(log):
        if event.get("event") == kind and name in event:
            if gone:
                del event[name]
            else:
                event[name] = value if type(value) is type(event[name]) else _another(chance, value)


def _remove_member(chance: random.Random, log: Log) -> None:
    event = chance.choice(_events(log) or [{}])
    event.pop(chance.choice(list(event) or [""]), None)


def _add_member(chance: random.Random, log: Log) -> None:
    giver = chance.choice(_events(log) or [{}])
    name = chance.choice([*giver, *MEMBERS])
    event = chance.choice(_events(log) or [{}])
    event[name] = giver.get(name, chance.choice(NUMBERS + TEXTS + OTHERS))


def _change_kind(chance: random.Random, log: Log) -> None:
    event = chance.choice(_events(log) or [{}])
    event["event"] = chance.choice([*KINDS, "another kind"])


def _new_event(chance: random.Random, log: Log) -> None:
    """An event of any kind, with what others say of theirs."""
    givers = _events(log)
    event = {name: value for giver in givers for name, value in giver.items()}
    chosen = {"run", "host", "pid", "tid", "t_ns"} | set(chance.sample(MEMBERS, 8))
    event = {name: value for name, value in event.items() if name in chosen}
    event["event"] = chance.choice(list(KINDS))
    event.setdefault("what", "evictions")
    event.setdefault("bytes", chance.choice(NUMBERS))
    if givers:
        event["t_ns"] = chance.choice(givers).get("t_ns", 0)
    log.insert(chance.randint(0, len(log)), event)


def _change_times(chance: random.Random, log: Log) -> None:
    """All times from some line on: to one moment, backwards, or far away."""
    events = [event for event in _events(log) if isinstance(event.get("t_ns"), int)]
    start = chance.randrange(len(events) or 1)
    step = chance.choice((0, -1, 10**3, 10**9, 10**15, -(10**12)))
    for place, event in enumerate(events[start:]):
        event["t_ns"] = events[start]["t_ns"] + step * place


def _drop_lines(chance: random.Random, log: Log) -> None:
    begin = chance.randint(0, len(log))
    del log[begin : begin + chance.choice((1, 1, 2, len(log)))]


def _repeat_lines(chance: random.Random, log: Log) -> None:
    begin = chance.randint(0, len(log))
    log[begin:begin] = [
        dict(line) if isinstance(line, dict) else line for line in log[begin : begin + 3]
    ]


def _shuffle_lines(chance: random.Random, log: Log) -> None:
    begin = chance.randint(0, len(log))
    part = log[begin : begin + chance.choice((2, 5, len(log)))]
    chance.shuffle(part)
    log[begin : begin + len(part)] = part


def _break_line(chance: random.Random, log: Log) -> None:
    place = chance.randrange(len(log) or 1)
    text = as_text(log[place : place + 1]).rstrip("\n")
    cut = chance.randint(0, len(text))
    log[place : place + 1] = [
        chance.choice((text[:cut], text[cut:], "", "{}", "null", text + text))
    ]


MUTATIONS: tuple[Callable[[random.Random, Log], None], ...] = (
    _change_value, _change_value, _change_value, _change_type, _change_everywhere, _remove_member,
    _add_member, _change_kind, _new_event, _change_times, _drop_lines, _repeat_lines,
    _shuffle_lines, _break_line,
)  # fmt: skip


def _events(log: Log) -> list[dict[str, Any]]:
    return [line for line in log if isinstance(line, dict)]


def _at_some_place(chance: random.Random, log: Log, new: Callable[[Any], Any]) -> None:
    """Replace a value, at any depth of an event."""
    inside: Any = chance.choice(_events(log) or [{}])
    while True:
        places = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not places:
            return
        place = chance.choice(places)
        value = inside[place]
        if not isinstance(value, (dict, list)) or not value or chance.random() < 0.3:
            inside[place] = new(value)
            return
        inside = value


def _another(chance: random.Random, old: Any) -> Any:
    """Another value of the same type, most often."""
    match old:
        case bool() | None:
            return chance.choice(NUMBERS + TEXTS)
        case int():
            return chance.choice((*NUMBERS, old - 1, old + 1, -old))
        case str():
            return chance.choice((*TEXTS, old + "2", old[:1]))
        case list():
            return chance.choice(([], old * 2, old[::-1], old[:1]))
        case dict():
            return {chance.choice(TEXTS): value for value in old.values()}
    return chance.choice(OTHERS)
