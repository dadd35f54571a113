"""Save the picture of a run: when each model was loaded, used, evicted and freed, and memory."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mmlab._text import say

HELP = "save the picture of a run"
EXAMPLES = """\
  mmlab timeline score.trace.jsonl -o score.png
  mmlab timeline score.trace.jsonl -o score.svg --title \"hint 2\""""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("trace", metavar="TRACE", help="a saved trace or the log folder of a run")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="a picture: .png, .svg or .pdf"
    )
    parser.add_argument("--title", help="stands above the picture, in the place of the steps")


def begin(options: Namespace) -> None:
    from mmlab.trace import Trace

    picture = Trace.load(options.trace).timeline(title=options.title)
    say(str(picture.save(options.output)))
