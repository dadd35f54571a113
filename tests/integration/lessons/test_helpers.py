"""The small things that the cells of a lesson lean on."""

from __future__ import annotations

import warnings

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
import torch
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import WatchWarning, lessons
from mmlab.trace import Trace
from tests.events import Event


def test_a_real_error_is_printed_with_its_notes_and_not_raised(capsys):
    with lessons.real_error():
        error = KeyError("first line\nsecond line")
        error.__notes__ = ["mend it"]
        raise error
    first, second = capsys.readouterr().out.splitlines()
    assert first == "KeyError: 'first line\\nsecond line'"
    assert second == "mmlab adds: mend it"


def test_without_notes_a_warning_of_ours_is_printed_instead(capsys):
    with warnings.catch_warnings(record=True) as others, lessons.real_error():
        warnings.warn("mend it", WatchWarning, stacklevel=1)
        raise ValueError("first\nsecond")
    assert capsys.readouterr().out.splitlines() == ["ValueError: first", "mmlab adds: mend it"]
    assert not others


def test_the_number_of_the_cell_is_left_out(capsys):
    with lessons.real_error():
        raise RuntimeError("no [1]: dtype [while running '[16]: Read [2]: all/ParDo']")
    assert capsys.readouterr().out == (
        "RuntimeError: no [1]: dtype [while running 'Read [2]: all/ParDo']\n"
    )


def test_an_error_that_does_not_come_is_not_hidden(capsys):
    with lessons.real_error():
        pass
    assert capsys.readouterr().out == "No error.\n"


def test_an_interrupt_is_no_error_to_show():
    with pytest.raises(KeyboardInterrupt), lessons.real_error():
        raise KeyboardInterrupt


def count(n):
    beam.metrics.Metrics.counter("seen", "odd" if n % 2 else "even").inc(n > 1)


@pytest.mark.runs
def test_counters_of_one_namespace_with_those_that_are_zero():
    pipeline = beam.Pipeline(FnApiRunner())
    _ = pipeline | beam.Create([1, 2, 4]) | beam.Map(count)
    result = pipeline.run()
    assert lessons.counters(result, "seen") == {"even": 2, "odd": 0}
    assert lessons.counters(result, "other") == {}


def test_scans_are_those_of_the_file_and_their_digit_is_found():
    rows = pq.read_table(lessons.scans_file()).to_pylist()
    for number, row in enumerate(rows):
        pixels = lessons.scan(row["key"], number)
        assert pixels.dtype == torch.float32
        assert pixels.tolist() == row["pixels"]
        assert lessons.true_digit(pixels) == row["label"]


def test_pixels_that_are_no_scan_have_no_digit():
    with pytest.raises(KeyError):
        lessons.true_digit(torch.ones(64))


def test_a_table_of_models_has_a_column_for_each_key():
    info = {"models": [{"step": "S", "model": "A"}, {"step": "S", "model": "B"}]}
    use = {"event": "use_begin", "step": "S", "model": "A", "n": 3, "keys": {"k2": 1, "k1": 2}}
    common = {"run": "r", "host": "h", "pid": 1, "tid": 1}
    events = [{"event": "run", "info": info}, use]
    trace = Trace([Event(t_ns=i, **common, **event) for i, event in enumerate(events)])
    table = lessons.per_model(trace)
    assert table.index.tolist() == ["A", "B"]
    assert table.to_dict("list") == {
        "loads": [0, 0],
        "elements": [3, 0],
        "k1": [2, ""],
        "k2": [1, ""],
    }


def test_what_was_not_counted_stays_empty():
    picture = lessons.show_right({"CONFIG_1": {"KEY_1": 74, "KEY_2": 0}}, scans=80)
    assert repr(picture).splitlines() == [
        "Scans read right, of 80, from KEY_1, KEY_2, KEY_3, KEY_4, KEY_5, KEY_6",
        "  CONFIG_1: 74, 0, –, –, –, –",
    ]
    drawn = [text.get_text() for text in picture.figure.axes[0].texts]
    assert drawn == ["74", "0", "", "", "", ""]
