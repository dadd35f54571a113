"""Saved notebooks in a real browser: hostile labels do nothing, and every picture is visible."""

from __future__ import annotations

import base64
import html

import nbformat
import pandas as pd
import pytest

import mmlab
from mmlab.compare.comparison import Comparison, HintRuns
from mmlab.fresh.outcome import RunOutcome
from tests.lanes import size
from tests.unit.diagrams.pipelines import BUILDERS, HOSTILE_LABELS, keyed_handler, torch_handler
from tests.unit.trace.test_hostile_traces import hostile_trace

pytestmark = pytest.mark.runs

nbconvert = pytest.importorskip("nbconvert", reason="nbconvert makes the page that is tested")

_DARK = "body { background: #111 !important; }"


def _open(page, tmp_path, *diagrams, show="image/svg+xml", **options):
    """Save the pictures in a notebook, make a page of it, and open that."""
    cells = []
    for diagram in diagrams:
        data, metadata = diagram._repr_mimebundle_(include=[show])
        if show == "text/html":
            data = {show: diagram.html}
        output = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
        cells.append(nbformat.v4.new_code_cell("mmlab.diagram(pipeline)", outputs=[output]))
    notebook = nbformat.v4.new_notebook(cells=cells)
    # Scripts of the page itself (MathJax, require.js) come from a network that is not there.
    exporter = nbconvert.HTMLExporter(mathjax_url="", require_js_url="", **options)
    file = tmp_path / "page.html"
    file.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
    page.route("http*://**", lambda route: route.abort())
    page.goto(file.as_uri())
    page.add_style_tag(content=_DARK)
    page.wait_for_load_state()
    return page


def _visible(page, selector: str) -> int:
    boxes = [element.bounding_box() for element in page.query_selector_all(selector)]
    return sum(1 for box in boxes if box and box["width"] > 50 and box["height"] > 20)


_SVG = ".mmlab-diagram > svg"
_IMG = ".jp-OutputArea img"


def _hostile():
    yield mmlab.diagram(BUILDERS["hostile_labels"]())
    yield mmlab.diagram(BUILDERS["hostile_labels"](), step=HOSTILE_LABELS[2] + " model")
    yield mmlab.diagram(torch_handler(HOSTILE_LABELS[3]))
    yield mmlab.diagram(keyed_handler("<script>window.pwned=1</script>"))


WAYS = ["text/html", "image/svg+xml", "image/png", "inline"]


@pytest.mark.part("browser", suite=True)
@pytest.mark.parametrize("show", WAYS[: size("browser", suite=2, full=4)])
def test_hostile_labels_execute_nothing(page, tmp_path, show):
    if show == "inline":  # as GitHub's and nbviewer's older nbconvert does
        page.set_content("".join(f'<div class="jp-OutputArea">{d.svg}</div>' for d in _hostile()))
    else:
        _open(page, tmp_path, *_hostile(), show=show)
    assert page.evaluate("window.pwned") is None
    assert page.problems == []
    inside = ".jp-OutputArea :is(script, foreignObject, iframe, a[href], [onerror], [onload])"
    assert page.query_selector_all(inside) == []
    assert _visible(page, f".jp-OutputArea svg, {_IMG}") == 4


def _tables(trace):
    outcome = RunOutcome(trace, "run", "ValueError", " ".join(HOSTILE_LABELS))
    comparison = Comparison((HintRuns(1, (outcome,)),))
    frames = [trace.to_frame(), pd.DataFrame(trace.per_model()), comparison.table()]
    return [f"<p>{html.escape(note)}</p>" for note in trace.notes] + [
        thing._repr_html_() for thing in (trace.summary(), *frames)
    ]


def _page_of(tmp_path, outputs):
    """A saved notebook with these outputs, of data and metadata, as a page."""
    shown = [nbformat.v4.new_output("display_data", data=d, metadata=m) for d, m in outputs]
    cells = [nbformat.v4.new_code_cell("trace", outputs=[output]) for output in shown]
    notebook = nbformat.v4.new_notebook(cells=cells)
    exporter = nbconvert.HTMLExporter(mathjax_url="", require_js_url="")
    file = tmp_path / "page.html"
    file.write_text(exporter.from_notebook_node(notebook)[0], encoding="utf-8")
    return file.as_uri()


def test_hostile_traces_execute_nothing(page, tmp_path):
    """Timelines as PNG and SVG, what stands beside them, tables, sentences, and comparisons."""
    trace = hostile_trace()
    svg = trace.timeline().save(tmp_path / "timeline.svg").read_text("utf-8")
    comparison = Comparison((HintRuns(1, (RunOutcome(trace, "run", "ValueError", svg),)),))
    pictures = []
    for picture in (trace.timeline(), comparison):
        data, metadata = picture._repr_mimebundle_()
        png = base64.b64encode(data["image/png"]).decode()
        pictures += [({"image/png": png}, metadata), ({"text/plain": data["text/plain"]}, {})]
    plain = ["\n".join(trace.notes), repr(trace), str(trace.summary()), trace.error]
    outputs = [
        *pictures,
        *(({"text/plain": text}, {}) for text in plain),
        *(({"text/html": text}, {}) for text in _tables(trace)),
        ({"image/svg+xml": svg[svg.index("<svg") :]}, {}),
    ]
    page.route("http*://**", lambda route: route.abort())
    page.goto(_page_of(tmp_path, outputs))
    page.wait_for_load_state()
    assert page.evaluate("window.pwned") is None
    assert page.problems == []
    inside = ".jp-OutputArea :is(script, foreignObject, iframe, a[href], [onerror], [onload])"
    assert page.query_selector_all(inside) == []
    assert _visible(page, _IMG) == 3
    assert _visible(page, ".jp-OutputArea table") == 4
    assert "<script>window.pwned=1" in page.inner_text("body")  # shown, and not run


def test_a_hostile_timeline_is_a_document_of_its_own(page, tmp_path):
    svg = hostile_trace().timeline().save(tmp_path / "timeline.svg")
    page.goto(svg.as_uri())
    assert page.evaluate("window.pwned") is None
    assert page.problems == []
    assert page.evaluate("document.documentElement.tagName") == "svg"
    assert page.query_selector_all("parsererror, script, foreignObject, image[href^=http]") == []


def test_html_has_tooltips_and_a_name(page, tmp_path):
    picture = mmlab.diagram(BUILDERS["keyed"]())
    _open(page, tmp_path, picture, show="text/html")
    assert page.get_attribute(_SVG, "aria-label") == picture.alt
    titles = [t.text_content() for t in page.query_selector_all(f"{_SVG} g > title")]
    assert any("models/config_4.pt" in title for title in titles)


@pytest.mark.parametrize("show", ["image/svg+xml", "image/png"])
def test_a_cleaned_page_still_shows_the_picture(page, tmp_path, show):
    _open(page, tmp_path, mmlab.diagram(BUILDERS["keyed"]()), show=show, sanitize_html=True)
    assert _visible(page, f".jp-OutputArea svg, {_IMG}") == 1


def test_the_smallest_print_is_readable_at_notebook_width(page, tmp_path):
    _open(page, tmp_path, mmlab.diagram(BUILDERS["long_chain"]()), show="text/html")
    assert page.viewport_size["width"] == 1000
    sizes = page.evaluate(
        f"""[...document.querySelectorAll("{_SVG} text")].map(t =>
            parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"""
    )
    assert min(sizes) >= 8.99


def test_no_text_leaves_its_box(page, tmp_path):
    names = ("keyed", "dead_letters", "streaming_windows", "beam cookbook.mergecontacts", "scripts")
    _open(page, tmp_path, *(mmlab.diagram(BUILDERS[name]()) for name in names), show="text/html")
    outside = page.evaluate(
        f"""[...document.querySelectorAll("{_SVG} g.node")].flatMap(node => {{
            const box = [...node.querySelectorAll("polygon, path, ellipse")]
                .map(shape => shape.getBoundingClientRect());
            const left = Math.min(...box.map(b => b.left));
            const right = Math.max(...box.map(b => b.right));
            return [...node.querySelectorAll("text")].filter(t => {{
                const b = t.getBoundingClientRect();
                return b.left < left - 1 || b.right > right + 1;
            }}).map(t => t.textContent);
        }})"""
    )
    assert outside == []


def test_the_paper_is_light_on_a_dark_page(page, tmp_path):
    _open(page, tmp_path, mmlab.diagram(BUILDERS["keyed"]()), show="text/html")
    paper = page.query_selector(f"{_SVG} .graph polygon")
    assert paper.get_attribute("fill") in ("#ffffff", "white")
