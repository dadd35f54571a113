"""Random pipelines give what they give unwatched; those that something is done to do not."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import Counter
from functools import partial

import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.metrics.monitoring_infos import extract_counter_value
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab.beam.pipelines import inference_steps, replace_handler
from tests import without_torch
from tests.integration.watching import random_pipelines
from tests.integration.watching.random_pipelines import (
    FAULTS,
    STEPS,
    Description,
    Scorer,
    compared,
    drawn,
)
from tests.lanes import size

NUMBER = size("random_pipelines", suite=12, full=500)
"""Of pipelines."""


@pytest.fixture(scope="module")
def findings():
    """Seed to what came of its pipeline."""
    command = [sys.executable, "-m", random_pipelines.__name__, "--seeds", f"0:{NUMBER}", "--json"]
    environment = without_torch.environment()
    said = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    assert len(found) == NUMBER, said.stderr[-3000:]
    return {finding["seed"]: finding for finding in found}


@pytest.mark.part("random_pipelines", suite=True)
@pytest.mark.runs
@pytest.mark.timeout(60 + 15 * NUMBER)
@pytest.mark.parametrize("seed", range(NUMBER))
def test_a_random_pipeline_gives_the_same_watched_and_unwatched(findings, seed):
    found = findings[seed]
    again = f"python -m {random_pipelines.__name__} --seeds {seed}"
    assert not found["differences"], f"{found['description']}\nAgain: {again}"
    assert found["error"] is None or drawn(seed).may_fail, found["error"]


def test_the_first_forty_pipelines_have_everything_in_them():
    had = Counter(kind for seed in range(40) for kind in drawn(seed).kinds())
    wanted = {*STEPS, *(f"fault: {fault}" for fault in FAULTS if fault != "none")}
    wanted |= {f"shape: {shape}" for shape in ("one", "sequence", "branches", "partition")}
    wanted |= {f"keyed: {keyed}" for keyed in ("no", "one model", "maybe", "many models")}
    wanted |= {f"handler: {name}" for name in ("seconds", "lazy", "large", "processed", "named")}
    wanted |= {"several threads", "shared models", "one element or none", "reshuffled source"}
    wanted |= {"dead letters of a model", "dead letters of a model timeout"}
    wanted |= {"hint", "no hint", "hint below the number of models"}
    wanted |= {"same batches", "batches that depend on time"}
    assert wanted - set(had) == set()


def test_a_seed_always_draws_the_same_pipeline():
    assert [drawn(seed) for seed in range(40)] == [drawn(seed) for seed in range(40)]
    written = {name: getattr(random_pipelines, name) for name in ("Description", "Scorer")}
    assert all(eval(repr(drawn(seed)), written) == drawn(seed) for seed in range(40))


# What the comparison must find


class Tampering(FnApiRunner):
    """Puts other handlers into a pipeline, or does something to its result."""

    def __init__(self, handlers=None, result=None):
        super().__init__()
        self._of_handler, self._of_result = handlers, result

    def run_pipeline(self, pipeline, options):
        if self._of_handler is not None:
            for step in inference_steps(pipeline):
                replace_handler(step, self._of_handler(step.handler))
        result = super().run_pipeline(pipeline, options)
        if self._of_result is not None:
            self._of_result(result)
        return result


class _Changed:
    """`run_inference` of a handler, with its predictions changed."""

    def __init__(self, handler, change):
        self._handler, self._change = handler, change

    def __call__(self, batch, model, inference_args=None):
        results = type(self._handler).run_inference(self._handler, batch, model, inference_args)
        return self._change(list(results))


def changing(change, handler):
    twin = copy.copy(handler)
    twin.run_inference = _Changed(handler, change)
    return twin


def but_last(results):
    return results[:-1]


def backwards(results):
    return results[::-1]


def fails_otherwise(results):
    raise ValueError("m0 refuses 4")


def counts_one_more(result):
    for infos in result._monitoring_infos_by_stage.values():
        for info in infos:
            if info.labels.get("NAME") == "num_inferences":
                info.payload = VarIntCoder().encode(1 + extract_counter_value(info))


def reads_what_can_be_read_once(result):
    list(result.monitoring_infos())


def leaves_a_metric_out(result):
    for stage, infos in result._monitoring_infos_by_stage.items():
        kept = [info for info in infos if info.labels.get("NAME") != "examples"]
        result._monitoring_infos_by_stage[stage] = kept


def ends_otherwise(result):
    result._state = "CANCELLED"


PLAIN = Description(seed=0, scorers=(Scorer(batch=3),))
TAMPERINGS = {
    "output": (PLAIN, {"handlers": partial(changing, but_last)}, "end: "),
    "order": (PLAIN, {"handlers": partial(changing, backwards)}, "in another order"),
    "error": (
        Description(seed=1, fault="poison"),
        {"handlers": partial(changing, fails_otherwise)},
        "error: builtins.ValueError: m0 refuses 3",
    ),
    "counter": (PLAIN, {"result": counts_one_more}, "num_inferences), labels={}): 12 / 13"),
    "name": (PLAIN, {"result": leaves_a_metric_out}, "metrics: only in the first: "),
    "state": (PLAIN, {"result": ends_otherwise}, "state: DONE / CANCELLED"),
    "read": (
        Description(seed=1, before=("batches",)),
        {"result": reads_what_can_be_read_once},
        "metrics: only in the first: ",
    ),
}


@pytest.mark.runs
@pytest.mark.part("random_pipelines")
@pytest.mark.parametrize(("description", "done", "told"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_what_a_runner_changes_is_found(description, done, told):
    found = compared(description, partial(Tampering, **done)).differences
    assert any(told in difference for difference in found), found


@pytest.mark.runs
def test_nothing_is_found_where_nothing_is_changed():
    assert compared(PLAIN, Tampering).differences == []
