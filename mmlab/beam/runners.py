"""Runners: find them by name, unwrap them, and locate their workers."""

from __future__ import annotations

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineRunner, create_runner


def runner_called(name: str) -> PipelineRunner:
    """Make a runner from a name as in `--runner`: "FnApiRunner", "prism", "module.Class".

    Raises:
      ValueError, ImportError, AttributeError: from Beam, if there is no such runner.
    """
    return create_runner(name)


def chosen_runner(options: PipelineOptions | None) -> PipelineRunner | str:
    """Return the runner of `beam.Pipeline(options=options)`: `--runner`, else Beam's default."""
    named = options.view_as(StandardOptions).runner if options is not None else None
    return named or StandardOptions.DEFAULT_RUNNER


def is_runner(runner: PipelineRunner, named: PipelineRunner | str) -> bool:
    """Whether a runner, or one that it wraps, is of the class of `named`."""
    try:
        other = runner_called(named) if isinstance(named, str) else named
    except Exception:  # no runner of that name
        return False
    return any(type(one) is type(other) for one in _wrapped_runners(runner))


def gets_what_was_built(runner: PipelineRunner, options: PipelineOptions) -> bool:
    """Whether Beam gives `runner` the original pipeline, and not a copy made through a proto.

    Beam decides this by the class of the runner, so a wrapper around it changes the decision.
    """
    kind = type(runner).__name__
    if kind == "SwitchingDirectRunner":
        return not options.view_as(StandardOptions).streaming
    return kind == "InteractiveRunner" or runner.is_fnapi_compatible()


def runs_here(runner: PipelineRunner, options: PipelineOptions) -> bool:
    """Whether the workers of `runner`, with their files and models, are on this machine.

    For a portable runner this is known only if its workers are threads of this process.
    """
    # Imported here, because workers import this module but submit no jobs.
    from apache_beam.runners.portability.portable_runner import PortableRunner

    *_, innermost = _wrapped_runners(runner)
    if isinstance(innermost, PortableRunner):
        return _has_workers_inside(innermost, options)
    return type(innermost).__module__.startswith(
        ("apache_beam.runners.portability.fn_api_runner", "apache_beam.runners.direct")
    )


def _has_workers_inside(runner: PipelineRunner, options: PipelineOptions) -> bool:
    """Whether the workers of a portable runner are threads of this process ("LOOPBACK")."""
    portable = options.view_as(PortableOptions)
    if portable.environment_type or portable.output_executable_path:
        return bool(portable.environment_type == "LOOPBACK")
    # Without an environment, runners that start a cluster just for this job use LOOPBACK.
    clusters = {
        "FlinkRunner": options.view_as(FlinkRunnerOptions).flink_master.startswith("["),
        "SparkRunner": options.view_as(SparkRunnerOptions).spark_master_url.startswith("local"),
    }
    return type(runner).__name__ == "PrismRunner" or clusters.get(type(runner).__name__, False)


def _wrapped_runners(runner: PipelineRunner) -> list[PipelineRunner]:
    """Return a runner and those that it wraps, outermost first."""
    runners = [runner]
    for _ in range(8):
        inner = [getattr(runners[-1], name, None) for name in ("_runner", "_underlying_runner")]
        new = [one for one in inner if isinstance(one, PipelineRunner) and one not in runners]
        if not new:
            break
        runners.append(new[0])
    return runners
