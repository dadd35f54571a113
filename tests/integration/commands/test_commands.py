"""Each command, as it is installed, on a recorded run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.console import mmlab

pytestmark = pytest.mark.runs

RUN = Path(__file__).parents[2] / "fixtures" / "keyed_handler"
COMMANDS = ("run", "follow", "summary", "timeline", "replay", "lessons", "doctor")


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(RUN, tmp_path / "log")
    return tmp_path


def said(folder, *arguments, **options):
    done = mmlab(folder, *arguments, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_help_names_every_command_and_each_has_examples(tmp_path):
    words = said(tmp_path, "--help", COLUMNS="80")
    assert all(f"\n    {name} " in words for name in COMMANDS)
    for name in COMMANDS:
        words = said(tmp_path, name, "--help", COLUMNS="80")
        assert max(map(len, words.splitlines())) <= 80
        assert words.startswith(f"usage: mmlab {name} ")
        assert f"examples:\n  mmlab {name}" in words


def test_help_imports_nothing_heavy(tmp_path):
    """Not even what takes the standard library a while."""
    allowed = mmlab(tmp_path, "--help", PYTHONPROFILEIMPORTTIME="1").stderr
    imported = {line.rpartition("|")[2].strip() for line in allowed.splitlines()}
    heavy = {"numpy", "apache_beam", "msgspec", "psutil", "asyncio", "json", "mmlab.trace"}
    assert "mmlab.commands" in imported
    assert not imported & heavy


@pytest.mark.parametrize(
    "words",
    [
        ("run", "gone.py"),
        ("follow", "gone"),
        ("summary", "gone"),
        ("timeline", "log", "-o", "x.doc"),
        ("replay", "log", "--first", "one"),
        ("lessons", "log/file"),
        ("doctor", "x"),
    ],
    ids=COMMANDS,
)
def test_bad_input_ends_with_status_2_and_one_sentence(folder, words):
    """As installed; the table of bad inputs has more of each, in its own process."""
    (folder / "log" / "file").write_text("")
    done = mmlab(folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"mmlab {words[0]}: ")
    assert len(done.stderr.splitlines()) == 1


def test_summary_follow_timeline_and_replay_of_a_run(folder):
    summary = said(folder, "summary", "log")
    assert "loads" in summary
    assert "hint → limit" in summary or "hint -> limit" in summary
    followed = said(folder, "follow", "log", "-o", "run.jsonl")
    assert followed.splitlines()[-1] == "run.jsonl"
    assert followed.splitlines()[:3] == summary.splitlines()[:3]
    assert said(folder, "summary", "run.jsonl") == summary
    assert said(folder, "timeline", "run.jsonl", "-o", "run.png") == "run.png\n"
    assert (folder / "run.png").read_bytes().startswith(b"\x89PNG")
    assert said(folder, "replay", "run.jsonl") == "run.html\n"
    assert "<script>" in (folder / "run.html").read_text("utf-8")


def test_replay_opens_a_browser(folder):
    """The one that the environment names, which here writes down what it is given."""
    browser = folder / "browser"
    browser.write_text('#!/bin/sh\necho "$1" > opened\n')
    browser.chmod(0o755)
    said(folder, "replay", "log", "--open", BROWSER=f"{browser} %s")
    opened = (folder / "opened").read_text().strip()
    assert opened == (folder / "log.html").as_uri()


def test_lessons_are_copied_without_outputs_and_a_learners_file_is_kept(tmp_path):
    mine = tmp_path / "course" / "03_key_mapping.ipynb"
    mine.parent.mkdir()
    mine.write_text("my answers")
    words = said(tmp_path, "lessons", "course")
    assert words.splitlines() == [
        "6 notebooks copied into course",
        "03_key_mapping.ipynb was there already, and stays as it is",
    ]
    assert mine.read_text() == "my answers"
    others = [path for path in mine.parent.iterdir() if path != mine]
    assert len(others) == 6
    for path in others:
        content = json.loads(path.read_text("utf-8"))
        shown = [cell for cell in content["cells"] if cell.get("outputs")]
        assert shown == []
        assert all(cell.get("execution_count") is None for cell in content["cells"])
    assert "copied into course" in said(tmp_path, "lessons", "course")
    assert mine.read_text() == "my answers"


def test_doctor_finds_what_is_wrong_and_says_how_to_fix_it(tmp_path):
    (tmp_path / "file").touch()
    done = mmlab(tmp_path, "doctor", MMLAB_CACHE=str(tmp_path / "file" / "cache"))
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    named = {line.split()[1] for line in lines if line[:1] in "✓✗+x" and line}
    assert {"Python", "memory", "temporary", "cache", "fonts", "kernel", "ports"} <= named
    place = next(i for i, line in enumerate(lines) if line.split()[1:2] == ["cache"])
    assert lines[place][0] in "✗x"
    assert "to fix it: set MMLAB_CACHE to a folder" in lines[place + 1]
    assert lines[-2] == "To send to an instructor:"
    assert lines[-1].startswith("mmlab ")
    assert lines[-1].endswith("wrong: cache")
    assert str(tmp_path) not in lines[-1]
