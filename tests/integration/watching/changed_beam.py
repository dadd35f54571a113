"""Runs a watched pipeline on Beams that have other private names: see test_beam_changes.py.

Reads cases as JSON, a list of lists of names; prints what each run gave, one line of JSON per case.
Each case is a fork in which Beam's own sources are read with the names changed everywhere, so that
Beam works and only mmlab is surprised.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import PathFinder
from pathlib import Path

CHANGED = ("apache_beam.ml.inference.base", "apache_beam.utils.multi_process_shared")


class Renaming(MetaPathFinder):
    """Finds the modules that are to be changed, and reads them with other names."""

    def __init__(self, names):
        self._names = names

    def find_spec(self, name, path=None, target=None):
        if name not in CHANGED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        spec.loader = Renamed(spec.origin, self._names)
        return spec


class Renamed(SourceLoader):
    def __init__(self, path, names):
        self._path = path
        self._names = names

    def get_filename(self, fullname):
        return self._path

    def get_data(self, path):
        source = Path(self._path).read_text(encoding="utf-8")
        for name in self._names:
            source = re.sub(rf"\b{name}\b", f"{name}_renamed", source)
        return source.encode()

    def path_stats(self, path):
        raise OSError("compiled code of the file itself is not to be taken")


PREDICTIONS = []


def keep(pair):
    PREDICTIONS.append(pair[1].inference)


def run():
    """One watched run of a keyed and a plain handler."""
    import apache_beam as beam
    from apache_beam.ml.inference.base import RunInference

    from mmlab import WatchRunner
    from tests.handlers import NamedModels, keyed
    from tests.integration.watching.changed_beam import PREDICTIONS, keep

    runner = WatchRunner("FnApiRunner", live=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with beam.Pipeline(runner) as pipeline:
            pairs = pipeline | beam.Create([(key, 0) for key in "abcabc"], reshuffle=False)
            scored = pairs | "Score" >> RunInference(keyed([["a"], ["b"], ["c"]], 2))
            _ = scored | beam.Map(keep)
            _ = pairs | beam.Keys() | "Plain" >> RunInference(NamedModels("plain"))
    trace = runner.trace
    return {
        "state": trace.state,
        "predictions": PREDICTIONS,
        "notes": trace.notes,
        "warnings": [str(w.message) for w in caught if w.category.__name__ == "WatchWarning"],
        "uses_of": {count.model: count.uses for count in trace.per_model()},
        "rss": trace.summary().rss_bytes,
        **trace.summary().counts(),
        "hint": trace.models[0].hint if trace.models else None,
    }


def forget(*packages):
    """Have modules imported anew."""
    for name in list(sys.modules):
        if name.startswith(packages) and name != "__main__":
            parent, _, last = name.rpartition(".")
            vars(sys.modules.get(parent, sys)).pop(last, None)
            del sys.modules[name]


def main():
    import mmlab

    for name in mmlab.__all__:
        if name not in ("explore", "lessons"):  # they import PyTorch
            getattr(mmlab, name)  # what these import is there already in every fork

    for names in json.loads(sys.argv[1]):
        sys.stdout.flush()
        if child := os.fork():
            os.waitpid(child, 0)
            continue
        forget("mmlab", "tests", "apache_beam.ml", "apache_beam.utils.multi_process_shared")
        sys.meta_path.insert(0, Renaming(names))
        try:
            print(json.dumps(run(), default=str), flush=True)
        except BaseException as error:
            print(json.dumps({"state": f"{type(error).__name__}: {error}"}), flush=True)
        os._exit(0)


if __name__ == "__main__":
    main()
