"""A handler that waits for the live picture, for the kernel of a notebook that imports it."""

from __future__ import annotations

from mmlab.watching.screens import NotebookScreen
from tests.handlers import NamedModels
from tests.waiting import wait_for

FRAMES: list[int] = []
"""One entry for each live picture that this process has shown."""

_show = NotebookScreen.show


def _shown(screen, picture):
    _show(screen, picture)
    FRAMES.append(len(FRAMES))


NotebookScreen.show = _shown


class Drawn(NamedModels):
    """Waits in its batch number n for frame n."""

    def run_inference(self, batch, model, inference_args=None):
        wait_for(lambda: len(FRAMES) > max(batch))
        return super().run_inference(batch, model, inference_args)
