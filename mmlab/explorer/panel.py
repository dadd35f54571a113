"""The explorer's controls: widgets, and nothing but widgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets as widgets

from mmlab._arguments import parse_bytes
from mmlab.draw.theme import ALERT, MUTED
from mmlab.events import Event, UseBegins
from mmlab.explorer.setting import GROUPS, ORDERS, Setting

PROCESSES = "With several processes, one holds the models and the others call it: that is slow"


@dataclass(frozen=True)
class _Control:
    """One control: which part of a `Setting` it sets, and its values, as text to value."""

    part: str
    label: str
    values: dict[str, Any]
    help: str
    unit: str = ""

    def text(self, value: Any) -> str:
        """What stands for a value that is none of `values`."""
        if self.part == "memory_limit":
            value = f"{parse_bytes(value) / 1e6:g}"
        return f"{value}{self.unit}"


def _numbers(*numbers: int, unit: str = "") -> dict[str, Any]:
    return {f"{n}{unit}": n for n in numbers}


def _words(words: tuple[str, ...]) -> dict[str, Any]:
    return {word: word for word in words}


_CONTROLS = (
    _Control("hint", "hint", {**_numbers(*range(1, 9)), "none": None},
             "max_models_per_worker_hint"),
    _Control("models", "models", _numbers(*range(1, 9)), "Every second one answers two keys"),
    _Control("megabytes", "size of each", _numbers(8, 16, 32, 64, 128, unit=" MB"),
             "What its weights take in memory", " MB"),
    _Control("order", "order of keys", _words(ORDERS), "How the keys of the elements follow"),
    _Control("group", "group first", _words(GROUPS),
             "per key: GroupByKey; per model: mmlab.GroupByModel"),
    _Control("elements", "elements", _numbers(12, 24, 48, 96, 192), "How many are classified"),
    _Control("batch_size", "batch size", _numbers(1, 2, 4, 8, 16), "Elements per batch"),
    _Control("processes", "processes", _numbers(1, 2, 3, 4), PROCESSES),
    _Control("threads", "threads", _numbers(1, 2, 3, 4),
             "Workers that share one process; the local runner has these or processes"),
    _Control("memory_limit", "memory limit",
             {"none": None, **{f"{n} MB": f"{n}MB" for n in (150, 200, 300, 500, 1000)}},
             "What the run may take beyond PyTorch and Beam; Linux only", " MB"),
)  # fmt: skip


# Its name in ipywidgets 8, and in 7.7, which is Colab's.
_TOOLTIP = "tooltip" if hasattr(widgets.DOMWidget, "tooltip") else "description_tooltip"


class Panel:
    """The controls, the buttons, and one line that says how it goes.

    Args:
      setting: where the controls stand at first.
      on_run, on_stop, on_fit: called when a button is pressed.
    """

    def __init__(
        self,
        setting: Setting,
        on_run: Callable[[], None],
        on_stop: Callable[[], None],
        on_fit: Callable[[], None],
    ):
        # Their values are words, since a slider of ipywidgets cannot stand on None.
        self._values = {c.part: _values(c, setting) for c in _CONTROLS}
        self._controls = {c.part: _widget(c, setting, self._values[c.part]) for c in _CONTROLS}
        self._run = widgets.Button(description="Run", icon="play", button_style="primary")
        self._stop = widgets.Button(description="Stop", icon="stop", disabled=True)
        self._fit = widgets.Button(
            description="Find the hint that fits", icon="search",
            layout={"display": "none", "width": "auto"},
            **{_TOOLTIP: "mmlab.fit_hint: runs hints under this memory limit"},
        )  # fmt: skip
        self._fit.on_click(lambda _: on_fit())
        self._run.on_click(lambda _: on_run())
        self._stop.on_click(lambda _: on_stop())
        self._progress = widgets.IntProgress(max=setting.elements, layout={"width": "180px"})
        self._words = widgets.HTML()
        self._total = setting.elements
        self._seen = 0
        for part in ("processes", "threads"):
            self._controls[part].observe(self._one_kind_of_workers, "value")
        self._one_kind_of_workers()
        self.say("press Run")

    def setting(self) -> Setting:
        """Where the controls stand.

        Raises:
          ValueError: they ask for what cannot be.
        """
        return Setting(
            **{part: self._values[part][widget.value] for part, widget in self._controls.items()}
        )

    def begin(self, setting: Setting) -> None:
        """A run begins: it can be stopped, and no other can begin."""
        self._run.disabled, self._stop.disabled = True, False
        self._fit.layout.display = "none"
        self._seen, self._total = 0, setting.elements
        self._progress.value, self._progress.max = 0, setting.elements
        self._progress.bar_style = ""
        self.say("starting a fresh process …")

    def count(self, events: list[Event]) -> None:
        """Take events: how many elements are done."""
        self._seen += sum(event.n for event in events if isinstance(event, UseBegins))
        self._progress.value = min(self._seen, self._total)
        self.say(f"{self._seen} of {self._total} elements")

    def end(self, problem: str | None, *, out_of_memory: bool = False) -> None:
        """The run has ended, well or with a problem; out of memory, a button finds a hint."""
        self._fit.layout.display = None if out_of_memory else "none"
        self._run.disabled, self._stop.disabled = False, True
        self._progress.bar_style = "success" if problem is None else "danger"
        self.say("done" if problem is None else problem, wrong=problem is not None)

    def say(self, words: str, *, wrong: bool = False) -> None:
        """Put words beside the buttons."""
        colour = ALERT if wrong else MUTED
        self._words.value = f'<span style="color: {colour}">{escape(words)}</span>'

    def _one_kind_of_workers(self, change: Any = None) -> None:
        processes, threads = self._controls["processes"], self._controls["threads"]
        threads.disabled = processes.value != "1"
        processes.disabled = threads.value != "1"

    def display(self) -> None:
        """Show the controls under the running cell."""
        from IPython.display import display

        rows = list(self._controls.values())
        columns = widgets.HBox(
            [widgets.VBox(rows[:5]), widgets.VBox(rows[5:])], layout={"flex_flow": "row wrap"}
        )
        buttons = widgets.HBox(
            [self._run, self._stop, self._fit, self._progress, self._words],
            layout={"align_items": "center", "flex_flow": "row wrap"},
        )
        whole = widgets.VBox([columns, buttons])
        view = {"version_major": 2, "version_minor": 0, "model_id": whole.model_id}
        data = {
            "application/vnd.jupyter.widget-view+json": view,
            "text/plain": "Controls of the explorer, in a running notebook",
        }
        display(data, raw=True)


def _values(control: _Control, setting: Setting) -> dict[str, Any]:
    """The control's values, and that of the setting in its place where it is none of them."""
    value = getattr(setting, control.part)
    if value in control.values.values():
        return control.values
    known = {**control.values, control.text(value): value}
    nothing = {text: none for text, none in known.items() if none is None}
    sizes = {text: size for text, size in known.items() if size is not None}
    by_size = dict(sorted(sizes.items(), key=lambda item: parse_bytes(item[1])))
    none_is_first = next(iter(known.values())) is None
    return {**nothing, **by_size} if none_is_first else {**by_size, **nothing}


def _widget(control: _Control, setting: Setting, values: dict[str, Any]) -> widgets.ValueWidget:
    words = all(isinstance(value, str) for value in values.values())
    kind = widgets.Dropdown if words else widgets.SelectionSlider
    return kind(
        options=list(values),
        index=list(values.values()).index(getattr(setting, control.part)),
        description=control.label,
        style={"description_width": "100px"},
        layout={"width": "380px"},
        **{_TOOLTIP: control.help},
        **({} if words else {"continuous_update": False}),
    )
