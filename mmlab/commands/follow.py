"""Show a run that goes on somewhere else, live, from its log folder; in the end, its numbers.

Ctrl-C ends the following, not the run.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mmlab._text import say

HELP = "show a run that goes on somewhere else"
EXAMPLES = """\
  mmlab follow /shared/logs
  mmlab follow gs://bucket/logs -o run.jsonl"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "log", metavar="LOG", help="the log folder of a run, or of several: then the newest of them"
    )
    parser.add_argument("-o", "--output", metavar="TRACE", help="save its trace to this file")


def begin(options: Namespace) -> None:
    from mmlab._arguments import file_to_write_later
    from mmlab.watching.follow import follow

    if options.output is not None:
        file_to_write_later(options.output)
    trace = follow(options.log)
    say(str(trace.summary()))
    if options.output:
        say(str(trace.save(options.output)))
