"""The explorer's controls as widgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets as widgets

from mmlab._arguments import parse_bytes
from mmlab.draw.theme import ALERT, MUTED
from mmlab.events import Event, UseBegins
from mmlab.explorer.setting import GROUPS, ORDERS, Setting

_PROCESSES = "With several processes, one holds the models and the others call it: that is slow"


@dataclass(frozen=True)
class _Control:
    """One control: the field of `Setting` that it sets, and its values keyed by text."""

    part: str
    label: str
    values: dict[str, Any]
    help: str
    unit: str = ""

    def text(self, value: Any) -> str:
        """Text of a value that is not in `values`."""
        if self.part == "memory_limit":
            amount = parse_bytes(value)
            value = None if amount is None else f"{amount / 1e6:g}"
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
    _Control("processes", "processes", _numbers(1, 2, 3, 4), _PROCESSES),
    _Control("threads", "threads", _numbers(1, 2, 3, 4),
             "Workers that share one process; the local runner has these or processes"),
    _Control("memory_limit", "memory limit",
             {"none": None, **{f"{n} MB": f"{n}MB" for n in (150, 200, 300, 500, 1000)}},
             "What the run may take beyond PyTorch and Beam; Linux only", " MB"),
)  # fmt: skip


# The name in ipywidgets 8, and in 7.7, which Colab uses.
_TOOLTIP = "tooltip" if hasattr(widgets.DOMWidget, "tooltip") else "description_tooltip"


@dataclass(frozen=True)
class Pressed:
    """Callbacks of the buttons; the argument of `picture` and `replay` is the number of a run."""

    run: Callable[[], None]
    race: Callable[[], None]
    fit: Callable[[], None]
    stop: Callable[[], None]
    picture: Callable[[int], None]
    replay: Callable[[int], None]


class Panel:
    """The controls, the buttons, and a status line.

    Args:
      setting: initial values of the controls.
      pressed: callbacks of the buttons.
      projector: see `mmlab.explore`.
    """

    def __init__(self, setting: Setting, pressed: Pressed, *, projector: bool = False):
        self._projector = projector
        # The values of the sliders are text, as sliders of ipywidgets cannot have the value None.
        self._values = {c.part: _values(c, setting) for c in _CONTROLS}
        label = "136px" if projector else "100px"
        self._controls = {
            c.part: _widget(c, setting, self._values[c.part], label) for c in _CONTROLS
        }
        self._run = widgets.Button(description="Run", icon="play", button_style="primary")
        self._stop = widgets.Button(description="Stop", icon="stop", disabled=True)
        self._fit = widgets.Button(
            description="Find the hint that fits", icon="search",
            layout={"display": "none", "width": "auto"},
            **{_TOOLTIP: "mmlab.fit_hint: runs hints under this memory limit"},
        )  # fmt: skip
        self._race = widgets.Button(
            description="Race", icon="flag-checkered", button_style="primary",
            **{_TOOLTIP: "Several hints at once: mmlab.compare_hints(…, together=True)"},
        )  # fmt: skip
        columns = 3 if projector else 2
        rows = list(self._controls.values())
        most = -(-len(rows) // columns)
        self._sliders = widgets.HBox(
            [widgets.VBox(rows[i : i + most]) for i in range(0, len(rows), most)],
            layout={"flex_flow": "row wrap"},
        )
        self._sliders_shown = widgets.ToggleButton(description="Controls", value=True)
        self._sliders_shown.observe(self._show_sliders, "value")
        self._fit.on_click(lambda _: pressed.fit())
        self._run.on_click(lambda _: pressed.run())
        self._race.on_click(lambda _: pressed.race())
        self._stop.on_click(lambda _: pressed.stop())
        self._shelf = _Shelf(pressed)
        self._progress = widgets.IntProgress(max=setting.elements, layout={"width": "180px"})
        self._words = widgets.HTML()
        self._total = setting.elements
        self._seen = 0
        for part in ("processes", "threads"):
            self._controls[part].observe(self._one_kind_of_workers, "value")
        self._one_kind_of_workers()
        self.say("press Run")

    def setting(self) -> Setting:
        """The setting of the controls.

        Raises:
          ValueError: the values of the controls cannot be combined.
        """
        return Setting(
            **{part: self._values[part][widget.value] for part, widget in self._controls.items()}
        )

    def begin(self, setting: Setting, runs: int = 1) -> None:
        """Show that runs have begun: they can be stopped, and no other run can be started."""
        self._run.disabled = self._race.disabled = True
        self._stop.disabled = False
        self._fit.layout.display = "none"
        self._seen, self._total = 0, setting.elements * runs
        self._progress.value, self._progress.max = 0, self._total
        self._progress.bar_style = ""
        self._sliders_shown.value = runs == 1  # a race needs the whole screen of a projector
        self.say("starting a fresh process …" if runs == 1 else "starting fresh processes …")

    def count(self, events: list[Event]) -> None:
        """Update the number of processed elements from events."""
        self._seen += sum(event.n for event in events if isinstance(event, UseBegins))
        self._progress.value = min(self._seen, self._total)
        self.say(f"{self._seen} of {self._total} elements")

    def end(self, problem: str | None, *, out_of_memory: bool = False) -> None:
        """Show the end of a run and its problem; out of memory, offer a button to find a hint."""
        self._fit.layout.display = None if out_of_memory else "none"
        self._over("success" if problem is None else "danger")
        self.say("done" if problem is None else problem, wrong=problem is not None)

    def stopped(self, elements: int) -> None:
        """Show that the run was stopped after `elements`."""
        self._over("")
        self._progress.value = min(elements, self._total)
        self.say(f"Stopped after {elements} of {self._total} elements.")

    def _over(self, style: str) -> None:
        self._run.disabled = self._race.disabled = False
        self._stop.disabled = True
        self._progress.bar_style = style

    def say(self, words: str, *, wrong: bool = False) -> None:
        """Show words beside the buttons."""
        colour = ALERT if wrong else MUTED
        self._words.value = f'<span style="color: {colour}">{escape(words)}</span>'

    def _one_kind_of_workers(self, change: Any = None) -> None:
        processes, threads = self._controls["processes"], self._controls["threads"]
        threads.disabled = processes.value != "1"
        processes.disabled = threads.value != "1"

    def _show_sliders(self, change: Any) -> None:
        if self._projector:
            self._sliders.layout.display = None if change["new"] else "none"

    def display(self) -> None:
        """Show the controls below the running cell."""
        buttons = widgets.HBox(
            [self._run, self._race, self._stop, *([self._sliders_shown] if self._projector else []),
             self._fit, self._progress, self._words],
            layout={"align_items": "center", "flex_flow": "row wrap"},
        )  # fmt: skip
        _note(_FOR_PROJECTOR if self._projector else "")
        panel = widgets.VBox([self._sliders, buttons])
        if self._projector:
            for box in (panel, self._shelf.box):
                box.add_class("mmlab-projector")
        _show(panel, "Controls of the explorer, in a running notebook")

    def display_shelf(self) -> None:
        """Show the controls that display an earlier run again."""
        _show(self._shelf.box, "Pictures of earlier runs, in a running notebook")

    def offer(self, runs: Sequence[str]) -> None:
        """Offer runs by name; the first has number 1."""
        self._shelf.offer(runs)


class _Shelf:
    """A list of runs, and buttons that display the selected run again."""

    def __init__(self, pressed: Pressed):
        self._runs = widgets.Dropdown(description="run", layout={"width": "480px"})
        picture = widgets.Button(description="Picture", icon="image")
        replay = widgets.Button(description="Replay", icon="step-forward")
        picture.on_click(lambda _: self._call(pressed.picture))
        replay.on_click(lambda _: self._call(pressed.replay))
        self.box = widgets.HBox(
            [self._runs, picture, replay], layout={"flex_flow": "row wrap", "display": "none"}
        )

    def offer(self, runs: Sequence[str]) -> None:
        """Set the runs of the list, and select the last."""
        self._runs.options = [(f"{n}: {name}", n) for n, name in enumerate(runs, start=1)]
        if runs:
            self._runs.value = len(runs)
            self.box.layout.display = None

    def _call(self, show: Callable[[int], None]) -> None:
        if self._runs.value is not None:
            show(self._runs.value)


_WORDS = "The controls need a running kernel: run this cell again."
_LIVE = ".mmlab-panel:not(.jupyter-widgets-disconnected)"
_NOTE = f"""<style>
.mmlab-panel.jupyter-widgets-disconnected {{ display: none !important; }}
.jp-OutputArea:has({_LIVE}) .mmlab-note {{ display: none; }}
body:not(:has(.jp-OutputArea)):has({_LIVE}) .mmlab-note {{ display: none; }}
</style><p class="mmlab-note">{_WORDS}</p>"""
"""Shown instead of widgets without a kernel: after a restart, or in a saved notebook."""


_FULL = ".jp-OutputArea:fullscreen"
_FOR_PROJECTOR = f"""<style>
.mmlab-projector {{ --jp-widgets-font-size: 20px; --jp-widgets-inline-height: 34px; }}
.mmlab-projector .widget-label, .mmlab-projector .widget-readout, .mmlab-projector button,
.mmlab-projector select, .mmlab-projector .widget-html-content {{
  font-size: 20px; height: 34px; line-height: 34px;
}}
.mmlab-projector select {{ line-height: normal; }}
.mmlab-projector .widget-readout {{ min-width: 84px; }}
.jp-OutputArea:has(.mmlab-projector) table {{ font-size: 20px; margin: 0; }}
.jp-OutputArea:has(.mmlab-projector) :is(td, th) {{ padding: 0 12px; white-space: nowrap; }}
.mmlab-full {{ font-size: 20px; }}
{_FULL} {{ background: var(--jp-layout-color0, white); overflow: auto; padding: 4px 12px; }}
{_FULL} :is(.jp-OutputPrompt, .jp-OutputArea-promptOverlay, .mmlab-full) {{ display: none; }}
{_FULL} .jp-OutputArea-output {{ padding: 0; }}
{_FULL} p {{ margin: 0; }}
</style><button class="mmlab-full" onclick="
  (this.closest('.jp-OutputArea') || document.documentElement).requestFullscreen()
">Full screen (Esc leaves it)</button>"""
"""Style of the projector mode: text of at least 20 pixels, and a full-screen button."""


def _note(more: str = "") -> None:
    from IPython.display import display

    display({"text/html": _NOTE + more, "text/plain": _WORDS}, raw=True)


def _show(widget: widgets.DOMWidget, text: str) -> None:
    """Show a widget below the running cell, or text where widgets cannot be shown."""
    from IPython.display import display

    widget.add_class("mmlab-panel")
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": text}
    display(data, raw=True)


def _values(control: _Control, setting: Setting) -> dict[str, Any]:
    """Values of the control; a different value of the setting is inserted in order."""
    value = getattr(setting, control.part)
    if value in control.values.values():
        return control.values
    known = {**control.values, control.text(value): value}
    nothing = {text: none for text, none in known.items() if none is None}
    sizes = {text: size for text, size in known.items() if size is not None}
    by_size = dict(sorted(sizes.items(), key=lambda item: parse_bytes(item[1]) or 0))
    none_is_first = next(iter(known.values())) is None
    return {**nothing, **by_size} if none_is_first else {**by_size, **nothing}


def _widget(
    control: _Control, setting: Setting, values: dict[str, Any], label_width: str
) -> widgets.ValueWidget:
    words = all(isinstance(value, str) for value in values.values())
    kind = widgets.Dropdown if words else widgets.SelectionSlider
    return kind(
        options=list(values),
        index=list(values.values()).index(getattr(setting, control.part)),
        description=control.label,
        style={"description_width": label_width},
        layout={"width": "400px"},
        **{_TOOLTIP: control.help},
        **({} if words else {"continuous_update": False}),
    )
