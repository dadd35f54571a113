"""Soon."""

from argparse import ArgumentParser, Namespace

HELP = "soon"
EXAMPLES = ""


def add_arguments(parser: ArgumentParser) -> None:
    pass


def begin(options: Namespace) -> None:
    pass
