"""Print a run in numbers: loads, reloads, evictions, the limit, seconds and memory."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mmlab._text import say

HELP = "print a run in numbers"
EXAMPLES = """\
  mmlab summary score.trace.jsonl
  mmlab summary gs://bucket/logs"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("trace", metavar="TRACE", help="a saved trace or the log folder of a run")


def begin(options: Namespace) -> None:
    from mmlab.trace import Trace

    trace = Trace.load(options.trace)
    say(str(trace.summary()))
    for note in trace.notes:
        say(f"note: {note}")
