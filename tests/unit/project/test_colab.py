"""What Colab has when a notebook starts, and what Beam and mmlab ask for; `make colab` runs it."""

from __future__ import annotations

import importlib.metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.e2e.colab.__main__ import HERE, MAY_CHANGE
from tests.requirements import layer


def pins():
    lines = (HERE / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in found}


def needs():
    beam = importlib.metadata.requires("apache-beam")
    for requirement in [*layer("lessons"), *map(Requirement, beam)]:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name), requirement.specifier


def test_an_install_changes_nothing_that_colab_has_imported_but_for_what_the_set_up_cell_knows():
    there = pins()
    changed = {
        name
        for name, wanted in needs()
        if name in there and not wanted.contains(there[name], prereleases=True)
    }
    assert changed == MAY_CHANGE
