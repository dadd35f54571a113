"""Wrong answers to the exercises of `03_key_mapping`, and the hints that they get."""

from __future__ import annotations

import pytest

from tests.integration.lessons import notebook

PATH = notebook.FOLDER / "03_key_mapping.ipynb"

MISREAD = """
def answer(pipeline, scans):
    mapping = {**lessons.MAPPING, 'CONFIG_1': ('KEY_1', 'KEY_7')}
    handler = KeyedModelHandler(lessons.mapping(mapping))
    return pipeline | beam.Create(scans) | RunInference(handler)
"""
A_MODEL_OF_ITS_OWN = """
def answer(pipeline, scans):
    mappings = [*lessons.mapping(), KeyModelMapping(['KEY_7'], lessons.handler('CONFIG_3'))]
    return pipeline | beam.Create(scans) | RunInference(KeyedModelHandler(mappings))
"""
FILTERED_OUT = """
def answer(pipeline, scans):
    return (
        pipeline
        | beam.Create(scans)
        | beam.Filter(lambda scan: scan[0] != 'KEY_7')
        | RunInference(KeyedModelHandler(lessons.mapping()))
    )
"""
FORGOTTEN = """
def answer(pipeline, scans):
    return pipeline | beam.Create(scans) | RunInference(KeyedModelHandler(lessons.mapping()))
"""


@pytest.mark.parametrize(
    ("source", "seen", "hint"),
    [
        (MISREAD, "Of KEY_7, 2 of 8 scans were read right", 1),
        (A_MODEL_OF_ITS_OWN, "5 loads, where 4 models are enough", 2),
        (FILTERED_OUT, "Of KEY_7, 8 scans went in and 0 came out", 1),
        (FORGOTTEN, "It stopped with KeyError", 1),
    ],
    ids=["misread", "a model of its own", "filtered out", "forgotten"],
)
@pytest.mark.runs
def test_new_scanner(source, seen, hint):
    expect_incorrect("key_mapping.new_scanner", source, seen, hint)


PARTITION = """
def answer(pipeline, scans):
    known, unknown = (
        pipeline
        | beam.Create(scans)
        | beam.Partition(lambda scan, n: int({test}), 2)
    )
    read = known | RunInference(KeyedModelHandler(lessons.mapping()))
    return {returned}
"""
UNMAPPED = "scan[0] not in sum(lessons.MAPPING.values(), ())"
BOTH = "{'read': read, 'unknown': unknown}"
ANY_MODEL = """
def answer(pipeline, scans):
    mapping = {**lessons.MAPPING, 'CONFIG_1': ('KEY_1', 'KEY_9', 'key_1')}
    pairs = pipeline | beam.Create(scans)
    read = pairs | RunInference(KeyedModelHandler(lessons.mapping(mapping)))
    unknown = pairs | beam.Filter(lambda scan: scan[0] in ('KEY_9', 'key_1'))
    return {'read': read, 'unknown': unknown}
"""


@pytest.mark.parametrize(
    ("source", "seen", "hint"),
    [
        (PARTITION.format(test="scan[0] == 'KEY_9'", returned=BOTH), "KeyError", 1),
        (
            PARTITION.format(test="scan[0] != 'KEY_1'", returned=BOTH),
            "Of KEY_2, 8 scans went in",
            1,
        ),
        (PARTITION.format(test=UNMAPPED, returned="read"), "return a dict with 'read'", 1),
        (
            PARTITION.format(
                test=UNMAPPED, returned=BOTH.replace("unknown}", "unknown | beam.Keys()}")
            ),
            "'unknown' does not hold pairs",
            2,
        ),
        (ANY_MODEL, "KEY_9 came out of 'read'", 2),
    ],
    ids=["one key by name", "known keys too", "only what was read", "keys alone", "any model"],
)
@pytest.mark.runs
def test_unknown_keys(source, seen, hint):
    expect_incorrect("key_mapping.unknown_keys", source, seen, hint)


def expect_incorrect(name, source, seen, hint):
    verdict = notebook.verdict(PATH, f"{source.rstrip()}\nlessons.check('{name}', answer)")
    notebook.assert_incorrect(verdict, seen, hint)
