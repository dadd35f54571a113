"""Copy the lessons' notebooks into a folder, to work in. Files that are there are never changed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mmlab._text import plural, say

_FOLDER = "mmlab-lessons"
HELP = "copy the notebooks into a folder, and open them"
EXAMPLES = f"""\
  mmlab lessons                 into the folder {_FOLDER}
  mmlab lessons course --open   and open JupyterLab there"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default=_FOLDER, help=f"by default {_FOLDER}"
    )
    parser.add_argument("--open", action="store_true", help="open JupyterLab on it")


def begin(options: Namespace) -> None:
    from importlib.util import find_spec

    from mmlab._extras import MissingExtraError
    from mmlab.course import copy_notebooks

    if options.open and find_spec("jupyterlab") is None:
        raise MissingExtraError(
            "mmlab lessons --open needs the extra \"lab\": pip install 'mmlab[lab]'"
        )
    copied = copy_notebooks(options.folder)
    say(f"{plural(len(copied.new), 'notebook')} copied into {copied.folder}")
    for name in copied.kept:
        say(f"{name} was there already, and stays as it is")
    if options.open:
        import subprocess
        import sys

        subprocess.run([sys.executable, "-m", "jupyter", "lab", str(copied.folder)], check=False)
