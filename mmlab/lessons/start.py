"""`start`, the first line of every lesson: make missing data and models."""

from __future__ import annotations

from apache_beam.utils.interactive_utils import is_in_ipython

from mmlab._text import in_megabytes, say
from mmlab.lessons import ab
from mmlab.lessons.digits import MAPPING, SCANNERS, scans_file
from mmlab.lessons.models import prepare, weights_file
from mmlab.lessons.sequence.models import prepare as prepare_restorer


def start() -> None:
    """Make the data and models of the lessons if they are missing, and print "Ready".

    The first time, prints one line per trained model.

    Raises:
      OSError: the cache folder cannot be written; the message names the variable that sets it.
    """
    _keep_beam_from_fetching_scripts()
    for make in (prepare, prepare_restorer, ab.prepare):
        make(say)
    scans_file()
    each = sum(weights_file(name).stat().st_size for name in MAPPING) / len(MAPPING)
    models = f"{len(MAPPING)} models of {in_megabytes(each)}"
    say(f"Ready: {models}, digits from {len(SCANNERS)} scanners.")


def _keep_beam_from_fetching_scripts() -> None:
    """Create Beam's interactive environment now and suppress its output.

    Otherwise Beam loads scripts from the internet (jQuery) under the first cell that builds a
    pipeline. No lesson uses them, and they fail without a network.
    """
    if not is_in_ipython():
        return
    from IPython.utils.capture import capture_output

    with capture_output():
        from apache_beam.runners.interactive import interactive_environment

        interactive_environment.current_env()
