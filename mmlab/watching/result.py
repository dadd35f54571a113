"""The result of a watched run: the wrapped runner's, and the trace."""

from __future__ import annotations

from typing import Any

from apache_beam.runners.runner import PipelineResult, PipelineState

from mmlab._faults import survived
from mmlab.trace import Trace
from mmlab.watching.run import Run


class WatchedResult(PipelineResult):
    """The wrapped runner's result, and the trace.

    Attributes:
      pipeline: the pipeline that ran.
    """

    def __init__(self, result: PipelineResult, run: Run, restore: Any):
        state = result.state
        super().__init__(state)  # type: ignore[no-untyped-call]  # Beam's
        self._result = result
        self._run = run
        self._restore = restore
        self.pipeline = run.pipeline
        if PipelineState.is_terminal(state):
            self._finish(state)

    @property
    def trace(self) -> Trace:
        """The trace of the run; while the pipeline still runs, the trace so far."""
        with survived("ask the runner whether the job has ended"):  # its service may have ended
            _ = self.state
        return self._run.trace if self._run.ended else Trace.load(self._run.log.folder)

    @property
    def state(self) -> str:
        """The state of the wrapped runner's result; a final state ends the recording."""
        state: str = self._result.state
        if PipelineState.is_terminal(state):
            self._finish(state)
        return state

    def wait_until_finish(self, *args: Any, **kwargs: Any) -> Any:
        with self._run.ending_on_error(self._result):
            state = self._result.wait_until_finish(*args, **kwargs)
        _ = self.state
        return state

    def cancel(self) -> Any:
        answer = self._result.cancel()
        _ = self.state
        return answer

    def metrics(self) -> Any:
        return self._result.metrics()

    def aggregated_values(self, *args: Any, **kwargs: Any) -> Any:
        return self._result.aggregated_values(*args, **kwargs)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._result)})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_result":
            raise AttributeError(name)
        return getattr(self._result, name)

    def _finish(self, state: str) -> None:
        if not self._run.ended:
            self._restore()
            self._run.end(state, result=self._result)
