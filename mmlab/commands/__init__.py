"""The command `mmlab`: one module per subcommand, each around the function of the same name.

Modules import heavy dependencies only when they run, so that `mmlab --help` is fast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from mmlab._text import say
from mmlab.commands import doctor, follow, lessons, replay, run, summary, timeline

_COMMANDS: tuple[ModuleType, ...] = (run, follow, summary, timeline, replay, lessons, doctor)
_BAD_INPUT = 2
"""Exit status for invalid input."""
_INTERRUPTED = 130
_EXAMPLES = "examples:\n"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        _say_wrong(self.prog, f"{message}; see {self.prog} --help")
        sys.exit(_BAD_INPUT)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter that wraps descriptions to the width of the terminal, but not examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_EXAMPLES):
            return super()._fill_text(text, width, indent)
        wrap = super(argparse.RawDescriptionHelpFormatter, self)._fill_text
        return "\n\n".join(wrap(part, width, indent) for part in text.strip().split("\n\n"))


def _say_wrong(command: str, message: str) -> None:
    say(f"{command}: {message}", to=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a watched program may end Python itself."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        words, program = run.split(words)
    except ValueError as problem:
        _say_wrong("mmlab run", f"{problem}; see mmlab run --help")
        return _BAD_INPUT
    parsed, others = _parser().parse_known_args(words)
    if others:
        command = f"mmlab {parsed.command}"
        _say_wrong(command, f"there is no argument {others[0]}; see {command} --help")
        return _BAD_INPUT
    try:
        work: Callable[[], int | None] | None = parsed.begin(parsed, *program)
    except (OSError, ValueError, ImportError) as problem:
        _say_wrong(f"mmlab {parsed.command}", _sentence(problem))
        return _BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED
    # Outside the try: errors of a watched program are not bad input.
    return (work() if work is not None else 0) or 0


def _sentence(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror and problem.filename:
        return f"{problem.filename}: {problem.strerror}"
    return str(problem)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mmlab",
        description="See what an Apache Beam pipeline with several ML models does to memory.",
        epilog="mmlab COMMAND --help has examples.",
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_Parser
    )
    for command in _COMMANDS:
        name = command.__name__.rpartition(".")[2]
        one = commands.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            usage=getattr(command, "USAGE", None),
            epilog=f"{_EXAMPLES}{command.EXAMPLES}",
            formatter_class=_Formatter,
        )
        command.add_arguments(one)
        one.set_defaults(begin=command.begin)
    return parser
