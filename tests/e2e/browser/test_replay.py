"""The replay page in a real browser, from its file alone, without a network."""

from __future__ import annotations

import itertools
import random
import re
from collections import OrderedDict

import pytest

from mmlab import Trace
from mmlab.page.renew import _FILE
from tests.e2e.browser.limits import PATIENCE
from tests.events import Event
from tests.lanes import size
from tests.unit.diagrams.pipelines import HOSTILE_LABELS
from tests.unit.page.runs import STEP, lru_run, random_accesses

pytestmark = pytest.mark.runs

RUNS = size("replay", suite=10, full=200)
ACCESSES = [f"CONFIG_{n}" for n in (1, 2, 1, 3, 2, 3, 1, 2, 4, 1, 4, 2)]


@pytest.fixture(scope="module")
def tab(browser):
    """One page for all tests; what it says in its console and asks of the network is noted."""
    context = browser.new_context(reduced_motion="reduce", color_scheme="light", offline=True)
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.said = []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.on("request", lambda request: tab.said.append(request.url))
    yield tab
    context.close()


@pytest.fixture
def show(tab, tmp_path):
    """Opens a page from its file; afterwards it must have said and asked for nothing."""
    opened = []

    def show(replay, width=1440, height=900):
        file = replay.save(tmp_path / f"{len(opened)}.html")
        tab.set_viewport_size({"width": width, "height": height})
        opened.append(file.as_uri())
        tab.goto(file.as_uri())
        return tab

    tab.said.clear()
    yield show
    assert [said for said in tab.said if said not in opened] == []


def states(tab, hint, steps):
    """`state()` after each of these steps, under a hint."""
    return tab.evaluate(
        """([hint, steps]) => {
            window.replay.setHint(hint);
            return steps.map((step) => (window.replay.goto(step), window.replay.state()));
        }""",
        [hint, list(steps)],
    )


def lru_states(accesses, limit):
    """What an LRU does, access by access."""
    memory, loads, evictions = OrderedDict(), 0, 0
    yield {"slots": [], "loads": 0, "evictions": 0, "hit": None, "evicted": None}
    for model in accesses:
        hit, evicted = model in memory, None
        if not hit:
            loads += 1
            if limit is not None and len(memory) == limit:
                evicted, _ = memory.popitem(last=False)
                evictions += 1
        memory[model] = True
        memory.move_to_end(model)
        yield {
            "slots": list(memory),
            "loads": loads,
            "evictions": evictions,
            "hit": hit,
            "evicted": evicted,
        }


def check_states(tab, accesses, hint, steps, recorded):
    expected = list(lru_states(accesses, hint))
    for step, state in zip(steps, states(tab, hint, steps), strict=True):
        about = {"process": "host-1:1", "step": step, "hint": hint, "recorded": recorded}
        assert state == about | expected[step]


@pytest.mark.part("replay", suite=True)
def test_every_state_of_random_runs_is_that_of_an_lru(show):
    draw = random.Random(33)
    for _ in range(RUNS):
        models = draw.randint(1, 8)
        accesses = random_accesses(draw, models, draw.randint(1, 40))
        limit = draw.choice([*range(1, models + 2), None])
        tab = show(lru_run(accesses, limit).replay())
        steps = list(range(len(accesses) + 1))
        for hint in [*range(1, models + 3), None]:
            order = draw.choice([steps, steps[::-1], draw.sample(steps, len(steps))])
            check_states(tab, accesses, hint, order, recorded=hint == limit)


def test_at_the_recorded_limit_it_is_the_trace(show):
    trace = lru_run(ACCESSES, 2)
    tab = show(trace.replay())
    [*_, last] = states(tab, 2, range(len(ACCESSES) + 1))
    assert last["recorded"]
    assert last["loads"] == trace.summary().loads
    assert last["evictions"] == trace.summary().evictions
    assert tab.inner_text("#source-kind") == "Recorded:"
    assert tab.inner_text("#pill") == "limit 2 · recorded"


def test_another_limit_is_simulated_and_says_so(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    states(tab, 3, [4])
    assert tab.inner_text("#source-kind") == "Simulated:"
    assert "the same 12 accesses under limit 3" in tab.inner_text("#source")
    assert tab.inner_text("#pill") == "limit 3 · simulated"
    assert "no seconds" in tab.inner_text("#timeline-head")
    assert "recorded limit 2" in tab.inner_text("#recorded-line")
    tab.click("#back")
    assert tab.evaluate("replay.state().recorded") is True


def test_a_limit_above_the_number_of_models_keeps_its_value(show):
    tab = show(lru_run(ACCESSES, 9).replay())
    assert tab.evaluate("replay.state().hint") == 9
    assert "limit 9" in tab.inner_text("#source")
    assert states(tab, None, [3])[0]["recorded"] is False


def test_bad_hints_are_refused(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    for hint in (0, -1, 1.5, "2"):
        with pytest.raises(Exception, match="whole number from 1 on, or null"):
            states(tab, hint, [])


# Sentences


def sentence(tab, step):
    tab.evaluate("step => replay.goto(step)", step)
    return [" ".join(line.split()) for line in tab.inner_text("#sentence").splitlines() if line]


def test_sentences(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    assert sentence(tab, 0)[0] == "Nothing has happened yet."
    assert sentence(tab, 1)[1:] == [
        "Miss: A CONFIG_1 is loaded.",
        "Memory is not full: 1 of 2 models are held, and nothing is evicted.",
    ]
    assert sentence(tab, 3)[1:] == [
        "Hit: A CONFIG_1 is in memory.",
        "It was used 2 accesses ago and moves to the top. Nothing is loaded.",
    ]
    assert sentence(tab, 4)[1:] == [
        "Miss: C CONFIG_3 is loaded, B CONFIG_2 is evicted.",
        "CONFIG_2 was used least recently, 2 accesses ago; it is needed again in the very next "
        "access.",
        "The best possible choice would have been A CONFIG_1 (not needed again for 3).",
    ]
    assert tab.inner_text("#live").startswith("Access 4 of 12")


# Keys, pointer, quiz


def position(tab):
    return tab.evaluate("replay.state().step")


def test_everything_by_key(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    at = []
    for key in (
        "ArrowRight",
        "ArrowRight",
        "ArrowLeft",
        "End",
        "ArrowRight",
        "Home",
        "n",
        "n",
        "n",
    ):
        tab.keyboard.press(key)
        at.append(position(tab))
    assert at == [1, 2, 1, 12, 12, 0, 1, 2, 4]
    hints = []
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "1", "0", "r"):
        tab.keyboard.press(key)
        hints.append(tab.evaluate("replay.state().hint"))
    assert hints == [3, 4, 4, 3, 1, None, 2]
    tab.keyboard.press("t")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.keyboard.press("p")
    assert tab.get_attribute("#projector", "aria-pressed") == "true"


def test_full_screen_by_one_key(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    for is_full in (True, False):
        tab.keyboard.press("f")
        tab.wait_for_function("full => (document.fullscreenElement !== null) === full", arg=is_full)


def test_playing_goes_to_the_end_and_stops(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    tab.select_option("#speed", "fastest")
    tab.focus("#canvas")
    tab.keyboard.press(" ")
    tab.wait_for_selector("#forward:disabled")
    assert position(tab) == 12
    assert tab.get_attribute("#play", "aria-label") == "Play"


def test_by_pointer(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    tab.click("#strip li:nth-child(7) button")
    assert position(tab) == 7
    tab.click("#forward")
    tab.click("#previous")
    tab.click("#next-miss")
    assert position(tab) == 8
    tab.click("#chart .point-button >> nth=2")
    assert tab.evaluate("replay.state().hint") == 3
    tab.click("#steps-head")
    tab.click("#steps-list li:nth-child(2) button")
    assert position(tab) == 2


def test_the_line_is_dragged(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    tab.keyboard.press("End")
    box = tab.locator("#pill").bounding_box()
    x, y = box["x"] + 30, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x, y + 60, steps=4)
    tab.mouse.up()
    assert tab.evaluate("replay.state().hint") == 3
    assert position(tab) == 12


def test_the_quiz_hides_asks_explains_and_counts(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    tab.evaluate("replay.goto(3)")
    tab.keyboard.press("q")
    assert sentence_now(tab)[1] == "Next: KCONFIG_3, served by C CONFIG_3. Hit or miss?"
    assert not tab.is_visible("#pill") and not tab.is_visible("#stack .col >> nth=0")
    names = tab.locator("#stack .name").all_inner_texts()
    tab.keyboard.press("m")
    assert "Which one goes?" in sentence_now(tab)[1]
    assert set(names) == {"CONFIG_1", "CONFIG_2"}
    tab.click(".answer >> nth=0")
    said = sentence_now(tab)
    assert "score 1 of 2" in said[0]
    assert said[1] == "No. Miss: C CONFIG_3 is loaded, B CONFIG_2 is evicted."
    assert tab.is_visible("#pill") and "next to go" not in tab.inner_text("#stack")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("h")
    assert "No, it is a miss" in sentence_now(tab)[1]
    tab.keyboard.press("a")
    assert "score 2 of 4" in sentence_now(tab)[0]
    tab.keyboard.press("q")
    assert tab.is_visible("#stack .col >> nth=0")


def test_the_quiz_hides_of_the_timeline_what_comes_later(show):
    trace = lru_run(ACCESSES, 2)
    tab = show(trace.replay())
    tab.evaluate("replay.goto(3)")
    tab.keyboard.press("q")
    box = tab.locator("#canvas").bounding_box()
    lane = box["y"] + 12
    scale = box["width"] / (trace.end_ns - trace.start_ns)

    def tip(t_ns):
        tab.mouse.move(box["x"] + scale * (t_ns - trace.start_ns), lane)
        return tab.inner_text("#tip").splitlines() if tab.is_visible("#tip") else None

    asked = trace.batches.end_ns[2]
    assert tab.locator("#future").bounding_box()["x"] == pytest.approx(
        box["x"] + scale * (asked - trace.start_ns), abs=2
    )
    held = (trace.batches.end_ns[0] + trace.batches.begin_ns[2]) / 2
    assert tip(held)[:2] == ["CONFIG_1: in memory", "since 0.022 s"]  # not until when
    assert tip(trace.batches.begin_ns[6]) is None


def sentence_now(tab):
    return [" ".join(line.split()) for line in tab.inner_text("#sentence").splitlines() if line]


# The timeline


def test_the_timeline_tells_and_goes(show):
    trace = lru_run(ACCESSES, 2, errors={8: "ValueError: too many"})
    tab = show(trace.replay())
    box = tab.locator("#canvas").bounding_box()
    lane = box["y"] + 12
    seconds = (trace.end_ns - trace.start_ns) / 1e9

    def x_at(t_ns):
        return box["x"] + box["width"] * (t_ns - trace.start_ns) / 1e9 / seconds

    first = trace.residences[0]
    tab.mouse.move(x_at((first.load_begin_ns + first.load_end_ns) / 2), lane)
    assert tab.inner_text("#tip").splitlines()[0] == "CONFIG_1: loading"
    third = trace.batches.begin_ns[2] + 2_500_000
    tab.mouse.move(x_at(third), lane)
    said = tab.inner_text("#tip").splitlines()
    assert said[0] == "CONFIG_1: in use" and "KCONFIG_1" in said and "64 MB" in said
    tab.mouse.click(x_at(third), lane)
    assert position(tab) == 3
    failed = trace.batches.begin_ns[8] + 2_500_000
    tab.mouse.move(x_at(failed), lane + 3 * 24)
    assert "ValueError: too many" in tab.inner_text("#tip")
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#tip").splitlines()[0] == "CONFIG_2: in use"
    tab.keyboard.press("ArrowUp")
    assert tab.inner_text("#tip").splitlines()[0] == "CONFIG_1: in memory"
    assert "CONFIG_1: in memory" in tab.get_attribute("#canvas", "aria-valuetext")


def test_zoom_and_pan(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    tab.evaluate("replay.goto(6)")
    box = tab.locator("#canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + 10)
    for _ in range(6):
        tab.keyboard.press("+")
    tab.mouse.click(*middle)
    near = position(tab)
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(middle[0] - 400, middle[1], steps=4)
    tab.mouse.up()
    assert position(tab) == near  # what is dragged is not clicked
    tab.click("#zoom-all")
    tab.mouse.click(box["x"] + box["width"] - 2, middle[1])
    assert position(tab) == 12


def test_focus_tells_what_hover_tells(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    tab.evaluate("replay.goto(3)")
    tab.focus("#canvas")
    told = tab.inner_text("#tip").splitlines()
    assert told[0] == "CONFIG_1: in use" and {"KCONFIG_1", "64 MB"} <= set(told)
    assert re.fullmatch(r"\d\.\d{3} s to \d\.\d{3} s", told[1])
    assert tab.get_attribute("#canvas", "aria-valuetext").endswith(", ".join(told))
    tab.keyboard.press("ArrowDown")
    assert tab.inner_text("#tip").splitlines()[0] == "CONFIG_2: in memory"
    tab.focus("#forward")
    assert not tab.is_visible("#tip")


WHEEL = """([clientX, clientY, how]) => document.getElementById("canvas").dispatchEvent(
    new WheelEvent("wheel", { clientX, clientY, ...how, bubbles: true, cancelable: true }))"""


def test_zoom_keeps_what_is_under_the_pointer_and_the_wheel_pans(show):
    tab = show(lru_run(ACCESSES, 2).replay())
    box = tab.locator("#canvas").bounding_box()
    axis = (box["x"] + box["width"] * 0.75, box["y"] + 10)
    tab.mouse.click(*axis)
    at = position(tab)
    tab.evaluate(WHEEL, [*axis, {"deltaY": -200, "ctrlKey": True}])
    tab.mouse.click(*axis)
    assert position(tab) == at
    far = box["x"] + box["width"] - 2
    tab.mouse.click(far, axis[1])
    assert at <= position(tab) < 12
    tab.evaluate(WHEEL, [*axis, {"deltaX": 10 * box["width"]}])
    tab.mouse.click(far, axis[1])
    assert position(tab) == 12


# Runs that are not plain, several managers, names


def test_what_was_no_plain_lru_is_shown_from_its_events(show):
    trace = lru_run(ACCESSES, 2)
    evicted = trace.of_kind("evict")[0]
    tab = show(Trace([event for event in trace.events if event is not evicted]).replay())
    assert tab.evaluate("replay.state().recorded") is True
    assert "no plain LRU" in tab.inner_text("#reasons")
    assert not tab.is_visible("#pill")
    tab.evaluate("replay.goto(4)")
    state = tab.evaluate("replay.state()")
    assert state["slots"] == ["CONFIG_2", "CONFIG_1", "CONFIG_3"]
    assert (state["loads"], state["evictions"]) == (3, 0)
    tab.click("#try")
    assert tab.inner_text("#pill") == "limit 2 · simulated"
    assert tab.evaluate("replay.state().slots") == ["CONFIG_1", "CONFIG_3"]
    tab.click("#back")
    assert not tab.is_visible("#pill")


def test_models_that_were_in_memory_have_their_places_from_the_start(show):
    """The second of two runs finds what the first one left, CONFIG_9 least recently used."""
    events = []
    for event in lru_run(["CONFIG_1", "CONFIG_2", "CONFIG_1"], None).events:
        if event.event in ("load_begin", "load_end") and event.model == "CONFIG_2":
            continue
        events.append(event)
    begin = events[0]
    there = [
        Event("r", begin.t_ns + i, "host-1", 1, 1, "in_memory", STEP, name, 1, age_ns=50)
        for i, name in enumerate(["CONFIG_9", "CONFIG_2"], 1)
    ]
    tab = show(Trace([begin, *there, *events[1:]]).replay())
    assert tab.evaluate("replay.state().slots") == ["CONFIG_9", "CONFIG_2"]
    assert "2 models were in memory before the run." in tab.inner_text("#reasons")
    tab.evaluate("replay.goto(1)")
    state = tab.evaluate("replay.state()")
    assert (state["slots"], state["loads"]) == (["CONFIG_9", "CONFIG_2", "CONFIG_1"], 1)
    assert "before this run" in tab.inner_text("#stack")
    tab.evaluate("replay.goto(2)")
    assert tab.evaluate("replay.state().hit") is True
    assert "It was in memory before the run." in " ".join(sentence_now(tab))


def test_a_load_that_failed(show):
    trace = lru_run(ACCESSES, 2)
    t_ns = trace.of_kind("use_end")[-1].t_ns
    load = {"step": STEP, "model": "CONFIG_3", "generation": 9}
    events = [
        Event("r", t_ns, "host-1", 1, 1, "load_begin", **load),
        Event("r", t_ns + 1, "host-1", 1, 1, "load_fail", error="OSError: no file", **load),
    ]
    tab = show(Trace([*trace.events, *events]).replay())
    tab.keyboard.press("End")
    assert sentence_now(tab)[1:] == [
        "Failed: C CONFIG_3 could not be loaded.",
        "The error: OSError: no file",
    ]
    assert "failure\n1" in tab.inner_text("#counts")
    assert "1 load failed." in tab.inner_text("#reasons")


def test_evicted_and_not_yet_freed(show):
    tab = show(lru_run(ACCESSES, 2, free_after_ms=60).replay())
    tab.evaluate("replay.goto(4)")
    assert "evicted, not freed yet" in tab.inner_text("#stack")
    tab.evaluate("replay.setHint(1)")
    assert "not freed" not in tab.inner_text("#stack")


def test_each_manager_has_a_stack_of_its_own(show):
    one, other = lru_run(ACCESSES, 2), lru_run(ACCESSES[:5], 3, pid=2, described=False)
    tab = show(Trace([*one.events, *other.events]).replay())
    assert tab.evaluate("[replay.state().process, replay.steps]") == ["host-1:1", 12]
    tab.select_option("#managers", "1")
    assert tab.evaluate("[replay.state().process, replay.steps]") == ["host-1:2", 5]
    assert tab.inner_text("#pill") == "limit 3 · recorded"


def test_a_window_begins_with_the_right_stack_and_says_so(show):
    tab = show(lru_run(ACCESSES, 2).replay(first=5))
    assert tab.inner_text("#window") == (
        "Accesses 5 to 12 of 12 are shown. "
        "Counts and loads by limit begin with access 5; the stack knows those before."
    )
    assert sentence_now(tab)[0] == "4 accesses came before this window."
    expected = list(lru_states(ACCESSES, 2))[4:]
    assert tab.evaluate("[replay.first, replay.steps]") == [5, 8]
    for state, whole in zip(states(tab, 2, range(9)), expected, strict=True):
        assert state["slots"] == whole["slots"] and state["recorded"]
        assert state["loads"] == whole["loads"] - expected[0]["loads"]
    assert tab.inner_text("#position") == "12 / 12"


def test_an_empty_trace(show):
    tab = show(Trace([]).replay())
    assert "nothing to step through" in tab.inner_text("#sentence")
    for key in ("ArrowRight", "End", "n", "q", "ArrowRight", "ArrowDown", "+", " "):
        tab.keyboard.press(key)
    assert position(tab) == 0


HOSTILE = [*HOSTILE_LABELS, "</script><script>window.pwned=1</script>", "a\u2028b", "", "x" * 5000]


def test_hostile_names_are_text(show, tmp_path):
    names = list(dict.fromkeys(HOSTILE))
    replay = lru_run(names * 2, 2, errors={1: names[0]}, step="</style>" + names[1]).replay()
    tab = show(replay)
    tab.click("#steps-head")
    for key in ("ArrowRight", "ArrowRight", "End", "t", "q", "m", "q", "0"):
        tab.keyboard.press(key)
    assert tab.evaluate("window.pwned") is None
    assert tab.evaluate("document.querySelectorAll('script, style').length") == 4
    assert tab.evaluate("replay.state().slots") == names
    assert tab.query_selector_all("main img, main iframe, main a[href]") == []


def test_many_models_fold(show):
    accesses = [f"A model with quite a long name of {n}" for n in range(60)] * 2
    tab = show(lru_run(accesses, 20).replay(), 1280, 720)
    tab.keyboard.press("End")
    assert tab.locator("#stack .fold").count() == 2
    rows = tab.locator("#stack li[data-model] .place").all_inner_texts()
    assert {"1", "20", "21"} <= set(rows)
    assert tab.locator("#stack .name >> nth=0").inner_text().count("…") == 1
    tab.click("#stack .fold button >> nth=0")
    assert tab.locator("#stack li[data-model]").count() == 60


# Without a run, in a file, and in a notebook


def test_the_page_without_a_run_opens_what_is_given_to_it(tab, tmp_path):
    tab.said.clear()
    tab.set_viewport_size({"width": 1440, "height": 900})
    tab.goto(_FILE.as_uri())
    assert tab.evaluate("[replay.steps, replay.state().recorded]") == [18, True]
    log = tmp_path / "keys.csv"
    log.write_text("key\na\nb\nc\na\n", encoding="utf-8")
    tab.set_input_files("#file", log)
    tab.wait_for_selector("#source[data-kind=predicted]")
    assert tab.evaluate("[replay.steps, replay.state().hint]") == [4, 2]
    assert "Nothing was run" in tab.inner_text("#source")
    log.write_text("x,y\n", encoding="utf-8")
    tab.set_input_files("#file", log)
    tab.wait_for_selector("#open-problem:not(:empty)")
    assert "no column named key" in tab.inner_text("#open-problem")
    assert tab.evaluate("replay.steps") == 4
    assert tab.said == [_FILE.as_uri()]


DROP = """([name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name));
    const at = { bubbles: true, cancelable: true, dataTransfer: transfer };
    const over = new DragEvent("dragover", at);
    document.body.dispatchEvent(over);
    document.body.dispatchEvent(new DragEvent("drop", at));
    return over.defaultPrevented;  // else the browser opens the file instead
}"""


def test_files_are_dropped_on_the_page_without_a_run(tab, tmp_path):
    tab.said.clear()
    tab.goto(_FILE.as_uri())
    assert tab.evaluate(DROP, ["keys.csv", "key\na\nb\na\n"])
    tab.wait_for_selector("#source[data-kind=predicted]")
    assert tab.evaluate("replay.steps") == 3
    window = lru_run(ACCESSES, 2).replay(first=5).html
    tab.evaluate(DROP, ["run.html", window])
    tab.wait_for_selector("#source[data-kind=recorded]")
    assert tab.evaluate("[replay.first, replay.steps]") == [5, 8]
    tab.evaluate(DROP, ["picture.json", "{"])
    tab.wait_for_selector("#open-problem:not(:empty)")
    assert "picture.json cannot be read" in tab.inner_text("#open-problem")
    assert tab.evaluate("replay.steps") == 8
    assert tab.said == [_FILE.as_uri()]


def test_the_file_holds_no_address():
    html = lru_run([f"gs://bucket/{name}" for name in "AB"], 2).replay().html
    found = set(re.findall(r"\w+://[^\"'\s<>)]*", html))
    assert found == {"http://www.w3.org/2000/svg"}


def test_in_a_notebook_the_page_takes_the_place_of_the_picture(show, tab, tmp_path):
    data, metadata = lru_run(ACCESSES, 2).replay()._repr_mimebundle_()
    assert data["text/plain"] == (
        "Replay of 12 accesses of 4 models of RunInference[classify], limit 2, recorded"
    )
    assert metadata["image/png"]["width"] == 950
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><h2>Cell</h2>{data['text/html']}", encoding="utf-8")
    tab.goto(notebook.as_uri())
    frame = tab.frames[1]
    frame.wait_for_selector("#sentence h2")
    assert not tab.is_visible("img")
    assert tab.locator("iframe").bounding_box()["height"] > 500
    assert tab.evaluate("getComputedStyle(document.querySelector('h2')).fontSize") == "24px"
    said = [line[:100] for line in tab.said if not line.startswith(("data:image/png", "file:"))]
    assert said == []
    tab.said.clear()


def test_in_a_notebook_the_page_has_the_theme_of_the_notebook(show, tab, tmp_path):
    """It is not that of the system, which is light here."""
    framed = lru_run(ACCESSES, 2).replay()._repr_mimebundle_()[0]["text/html"]
    notebook = tmp_path / "dark.html"
    notebook.write_text(f"<!doctype html><body style='background: #111'>{framed}", "utf-8")
    tab.goto(notebook.as_uri())
    tab.frames[1].wait_for_selector("[data-theme=dark] #sentence h2")
    tab.evaluate("document.body.style.background = 'white'")
    tab.frames[1].wait_for_selector("[data-theme=light] #sentence h2")
    tab.frames[1].locator("#theme").click()  # stays as chosen, whatever else changes there
    tab.evaluate("document.body.className = 'other'")
    tab.frames[1].evaluate("() => new Promise(requestAnimationFrame)")
    assert tab.frames[1].get_attribute(":root", "data-theme") == "dark"
    tab.said.clear()


def test_where_scripts_do_not_run_the_picture_stands(browser, tmp_path):
    data, _ = lru_run(ACCESSES, 2).replay()._repr_mimebundle_()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(data["text/html"])
    assert page.locator("img").bounding_box()["height"] > 100
    assert page.locator("iframe").bounding_box()["height"] < 5
    context.close()


SIZES = {"laptop": (1440, 900), "projector": (1280, 720), "small": (800, 600)}


@pytest.mark.parametrize("name", SIZES)
def test_nothing_overflows(show, name):
    accesses = random_accesses(random.Random(1), 5, 30)
    tab = show(lru_run(accesses, 3).replay(), *SIZES[name])
    if name == "projector":
        tab.keyboard.press("p")
    for step in (0, 9, 30):
        tab.evaluate("step => replay.goto(step)", step)
        wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]
        head = tab.locator("#timeline-head").bounding_box()
        assert head["y"] + head["height"] <= SIZES[name][1]


@pytest.mark.parametrize("width", [800, 900, 1000, 1040, 1100, 1280, 1440])
def test_no_column_covers_the_next(show, width):
    tab = show(lru_run(ACCESSES, 2).replay(), width)
    for _ in "notebook", "projector":
        heads = tab.evaluate(
            """() => [...document.querySelectorAll("#columns > *")].map((cell) => {
                const words = document.createRange();
                words.selectNodeContents(cell);
                const { left, right, height } = words.getBoundingClientRect();
                return [left, right, height];
            }).filter(([left, right]) => right > left)"""
        )
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(heads))
        room = tab.locator("#columns").bounding_box()["height"]
        assert max(height for _, _, height in heads) <= room
        tab.keyboard.press("p")


def test_a_small_window_can_be_used(show):
    tab = show(lru_run(ACCESSES, 2).replay(), *SIZES["small"])
    tab.keyboard.press("n")
    for button in ("#forward", "#last", "#previous", "#first", "#next-miss", "#quiz", "#quiz"):
        tab.click(button)
    seen = tab.evaluate(
        """() => ["#strip", "#controls", "#sentence h2", "#stack", "#pill", "#counts", "nav"]
            .flatMap((name) => [...document.querySelectorAll(name)])
            .map((each) => each.getBoundingClientRect())
            .map(({ left, right, top, bottom }) => [left >= 0, right <= innerWidth, top >= 0,
                                                    bottom <= innerHeight])"""
    )
    assert seen == [[True] * 4] * 7
    tab.click("#chart .point-button >> nth=2")
    assert tab.inner_text("#pill") == "limit 3 · simulated"


def test_axe_finds_nothing(show):
    axe = pytest.importorskip("axe_playwright_python.base", reason="brings axe-core")
    script = axe.AXE_FILE_PATH.read_text("utf-8")
    tab = show(lru_run(ACCESSES, 2, errors={3: "bad"}).replay())
    tab.click("#steps-head")
    for keys in (["End"], ["t"], ["q"], ["m"], ["q", "3"], ["p", "t"], ["Home"]):
        for key in keys:
            tab.keyboard.press(key)
        tab.evaluate(f"() => {{ {script} }}")
        found = tab.evaluate(
            """() => axe.run().then(({ violations }) =>
                violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]))"""
        )
        assert found == [], keys
