"""Detours of learners: a check says what the answer really did, returns, and puts things back."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import lessons
from mmlab.lessons.exercises import EXERCISES
from mmlab.lessons.exercises.exercise import Exercise
from mmlab.lessons.exercises.running import run
from tests.integration.lessons import notebook


@pytest.fixture(autouse=True)
def _as_it_was():
    """Whatever a test does, what it changed is put back."""
    before = _state()
    yield
    assert _state() == before


def _state():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    streams = (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__)
    settings = (sys.getrecursionlimit(), logging.root.manager.disable, [*warnings.filters])
    files = [os.fstat(number).st_ino for number in (1, 2)]
    environment = {name: v for name, v in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return Path.cwd(), streams, handlers, settings, files, os._exit, environment


# What any answer may do, tried with an exercise that does nothing else


def judge(answer):
    answer()
    return "It returned."


EXERCISE = Exercise("test.exercise", judge, ("look again", "write 4"))


class Rude(BaseException):
    def __str__(self):
        raise SystemExit(5)


def raising(error):
    def answer():
        raise error

    return answer


ENDINGS = {
    "sys.exit": (lambda: sys.exit(3), "SystemExit: 3"),
    "sys.exit without a status": (sys.exit, "SystemExit"),
    "os._exit": (lambda: os._exit(0), "SystemExit: 0"),
    "an interrupt of its own": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit"),
    "an exception without a text": (raising(Rude()), "Rude"),
    "endless recursion": (lambda: endless(0), "RecursionError"),
}


def endless(n):
    return endless(n + 1) + 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_check_returns_however_the_answer_ends(ending):
    answer, seen = ENDINGS[ending]
    verdict = EXERCISE.check(answer)
    assert verdict.outcome == "incorrect"
    assert verdict.message.startswith(f"It stopped with {seen}")


def ignore_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def replace_streams():
    sys.stdout = sys.stderr = None
    sys.stdin = 3


def close_descriptors():
    os.close(1)
    os.close(2)


def change_settings():
    sys.setrecursionlimit(5000)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    os.environ.clear()


CHANGES = {
    "the folder": lambda: os.chdir(os.sep),
    "a closed stream": lambda: sys.stdout.close(),
    "streams": replace_streams,
    "deleted streams": lambda: delattr(sys, "stdout"),
    "descriptors": close_descriptors,
    "signal handlers": ignore_interrupts,
    "settings": change_settings,
    "an alarm": lambda: signal.alarm(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_answer_changes_is_put_back(change, capfd):
    timer, _ = signal.getitimer(signal.ITIMER_REAL)  # of pytest-timeout
    assert EXERCISE.check(CHANGES[change]).outcome == "correct"
    print("still there")
    sys.stdout.flush()
    assert "still there" in capfd.readouterr().out
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert left > timer - 300 if timer else left == 0


def test_a_real_interrupt_leaves_the_check():
    with pytest.raises(KeyboardInterrupt):
        EXERCISE.check(lambda: os.kill(os.getpid(), signal.SIGINT))


def test_an_alarm_of_the_answer_ends_the_answer_alone():
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # as it is without pytest-timeout
    try:
        verdict = EXERCISE.check(lambda: signal.raise_signal(signal.SIGALRM))
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)
    assert verdict.message == "It stopped with TimeoutError: an alarm that the answer set"


def swallow_it():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError("as Beam wraps it") from None


def test_a_real_interrupt_that_is_caught_leaves_the_check_all_the_same():
    with pytest.raises(KeyboardInterrupt):
        EXERCISE.check(swallow_it)


# What an answer may do with pipelines


def numbers(pipeline, *_):
    return pipeline | beam.Create([1, 2], reshuffle=False)


def own():
    return beam.Pipeline(FnApiRunner())


def pipelines_around(build):
    """Detour to `(answer, what is said)`, for an exercise whose solution is `build`."""

    def in_its_own(pipeline, *args):
        return build(own(), *args)

    def runs_its_own(pipeline, *args):
        with own() as p:
            build(p, *args)

    before = own()

    def one_from_outside(pipeline, *args):
        return build(before, *args)

    def runs_the_given(pipeline, *args):
        built = build(pipeline, *args)
        pipeline.run()
        return built

    def with_the_given(pipeline, *args):
        with pipeline as p:
            return build(p, *args)

    def by_the_runner(pipeline, *args):
        built = build(pipeline, *args)
        pipeline.runner.run_pipeline(pipeline, pipeline.options)
        return built

    def runs_and_fails(pipeline, *args):
        built = build(pipeline, *args)
        _ = pipeline | "One" >> beam.Create([1]) | "Fail" >> beam.Map(lambda n: n / 0)
        pipeline.run()
        return built

    def another_runner(pipeline, *args):
        pipeline.runner = FnApiRunner()
        return build(pipeline, *args)

    def returns_nothing(pipeline, *args):
        build(pipeline, *args)

    def leaves_early(pipeline, *args):
        build(pipeline, *args)
        sys.exit("bye")

    return {
        "in its own": (in_its_own, "made a beam.Pipeline of its own, and added no step to"),
        "runs its own": (runs_its_own, "made a beam.Pipeline of its own and ran it, and"),
        "one from outside": (one_from_outside, "build used another one, and added no step to"),
        "runs the given": (runs_the_given, "build ran the pipeline that it was given"),
        "with the given": (with_the_given, "build ran the pipeline that it was given"),
        "by the runner": (by_the_runner, "build ran the pipeline that it was given"),
        "runs and fails": (runs_and_fails, "the check runs them. It stopped with ZeroDivision"),
        "another runner": (another_runner, "build gave the pipeline another runner"),
        "returns nothing": (returns_nothing, "build returned nothing"),
        "leaves early": (leaves_early, "It stopped with SystemExit: bye"),
        "a pipeline": (own(), "The answer has the type Pipeline: give the function build"),
    }


def expect(verdict, seen):
    assert verdict.outcome == "incorrect", verdict
    assert seen in verdict.message, verdict


COUNTING = Exercise("test.numbers", lambda build: f"{run(build, [1, 2]).output}", ("a", "b"))


@pytest.mark.parametrize("detour", pipelines_around(numbers))
@pytest.mark.runs
def test_pipelines_that_a_small_answer_makes_and_runs(detour):
    answer, seen = pipelines_around(numbers)[detour]
    expect(COUNTING.check(answer), seen)


@pytest.mark.runs
def test_a_pipeline_made_beside_the_given_one_is_no_fault():
    def build(pipeline, data):
        own()
        return numbers(pipeline)

    assert COUNTING.check(build).outcome == "correct"


def test_a_build_that_adds_no_step_is_told_so():
    verdict = COUNTING.check(lambda pipeline, data: 3)
    assert verdict.outcome == "not attempted"
    assert verdict.message == "build added no step to the pipeline that it was given."


@pytest.mark.runs
def test_a_step_that_is_not_implemented_is_an_attempt():
    def build(pipeline, data):
        return numbers(pipeline) | beam.Map(refuse)

    def refuse(number):
        raise NotImplementedError

    expect(COUNTING.check(build), "It stopped with RuntimeError: NotImplementedError")


@pytest.mark.runs
def test_elements_that_the_answer_takes_away_are_still_asked_for():
    def build(pipeline, data):
        collection = pipeline | beam.Create(list(data), reshuffle=False)
        data.clear()
        return collection

    given = [1, 2]
    run(build, given)
    assert given == [1, 2]


# The same with the exercises of the lessons


def solution(name):
    lesson = name.partition(".")[0]
    path = next(path for path in notebook.NOTEBOOKS if path.stem.endswith(lesson))
    check = notebook.stubs(path)[name].strip().split("\n")[-1]
    answer = notebook.CHECK.search(check)[2]
    return notebook.verdict(path, f"{notebook.solutions(path)[name].strip()}\n{answer}")


BUILDS = [
    "start_here.digits",
    "ab_pattern.cascade",
    "sequence_pattern.nothing_lost",
    "key_mapping.new_scanner",
    "key_mapping.unknown_keys",
    "memory_management.load_once",
]
NUMBERS = ["start_here.loads", "memory_management.smallest_hint"]
FUNCTIONS = ["ab_pattern.split", "sequence_pattern.post_processing"]


def test_every_exercise_is_here():
    assert sorted([*BUILDS, *NUMBERS, *FUNCTIONS]) == sorted(EXERCISES)


@pytest.mark.part("exercises")
@pytest.mark.parametrize("detour", pipelines_around(numbers))
@pytest.mark.parametrize("name", BUILDS)
def test_pipelines_that_an_answer_makes_and_runs(name, detour):
    answer, seen = pipelines_around(solution(name))[detour]
    expect(lessons.check(name, answer), seen)


@pytest.mark.part("exercises")
@pytest.mark.parametrize("change", sorted({*CHANGES} - {"settings", "an alarm"}))
@pytest.mark.parametrize("name", [*BUILDS, *FUNCTIONS])
def test_a_right_answer_is_right_whatever_it_changes(name, change, monkeypatch):
    # Another process finds what an answer uses of this module, also in another folder.
    monkeypatch.setenv("PYTHONPATH", str(notebook.FOLDER.parent))
    right = solution(name)

    first = [True]

    def answer(*args):
        if first:
            first.clear()
            CHANGES[change]()
        return right(*args)

    verdict = lessons.check(name, answer)
    assert verdict.outcome == "correct", verdict


@pytest.mark.part("exercises")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_end_in_their_own_way(name, ending):
    def answer(*args):
        return ENDINGS[ending][0]()

    expect(lessons.check(name, answer), ENDINGS[ending][1].partition(":")[0])


@pytest.mark.part("exercises")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_are_none_or_print(name):
    right = solution(name)
    expect(lessons.check(name, 3), "The answer has the type int: give the function")

    def printing(*args):
        print("called with", args)
        return right(*args)

    assert lessons.check(name, printing).outcome == "correct"


class Leaving:
    def __index__(self):
        sys.exit(4)


class Unreadable:
    def __repr__(self):
        raise ValueError


@pytest.mark.part("exercises")
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_in_other_clothes(name):
    right = solution(name)
    assert lessons.check(name, np.int64(right)).outcome == "correct"
    for answer in (float(right), str(right), lambda: right, np.array([1, 2]), Unreadable(), True):
        assert "number of" in lessons.check(name, answer).message
    expect(lessons.check(name, Leaving()), "It stopped with SystemExit: 4")
    assert lessons.check(name, ...).outcome == "not attempted"
