"""Save a run as one page to step through, access by access, which needs no network."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mmlab._text import say

HELP = "save a run as a page to step through"
EXAMPLES = """\
  mmlab replay score.trace.jsonl -o score.html
  mmlab replay score.trace.jsonl --open"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("trace", metavar="TRACE", help="a saved trace or the log folder of a run")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the page (by default the trace's name and .html)"
    )
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument(
        "--first", metavar="ACCESS", type=int, default=1, help="the access to begin with, from 1"
    )


def begin(options: Namespace) -> None:
    from pathlib import Path

    from mmlab.log.folders import location
    from mmlab.trace import Trace

    page = Trace.load(options.trace).replay(first=options.first)
    output = options.output or f"{Path(str(location(options.trace))).stem or 'replay'}.html"
    path = page.save(output)
    say(str(path))
    if options.open:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())
