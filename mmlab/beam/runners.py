"""Runners: by name, inside each other, and where their workers are."""

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
    """A new runner of a name that `--runner` takes: "FnApiRunner", "prism", "module.Class".

    Raises:
      ValueError, ImportError, AttributeError: Beam's own, where there is none of that name.
    """
    return create_runner(name)


def chosen_runner(options: PipelineOptions | None) -> PipelineRunner | str:
    """What `beam.Pipeline(options=options)` runs on: `--runner`, else Beam's default."""
    named = options.view_as(StandardOptions).runner if options is not None else None
    return named or StandardOptions.DEFAULT_RUNNER


def is_runner(runner: PipelineRunner, named: PipelineRunner | str) -> bool:
    """Whether a runner, or one that it wraps, is of the kind that `--runner` names."""
    try:
        other = runner_called(named) if isinstance(named, str) else named
    except Exception:  # Beam knows none of that name
        return False
    return any(type(one) is type(other) for one in _wrapped_runners(runner))


def gets_what_was_built(runner: PipelineRunner, options: PipelineOptions) -> bool:
    """Whether Beam gives `runner` the pipeline that was built, and not a copy that went by a proto.

    Beam goes by the runner's class, and so not by that of a runner around it.
    """
    kind = type(runner).__name__
    if kind == "SwitchingDirectRunner":
        return not options.view_as(StandardOptions).streaming
    return kind == "InteractiveRunner" or runner.is_fnapi_compatible()


def runs_here(runner: PipelineRunner, options: PipelineOptions) -> bool:
    """Whether the workers of `runner` are on this machine, and so is what they read and hold.

    Of a portable runner that is known where its workers are threads of this very process.
    """
    # Workers import this module, and none of what submits a job.
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
    # Without one, those that start a cluster for this job alone take it.
    clusters = {
        "FlinkRunner": options.view_as(FlinkRunnerOptions).flink_master.startswith("["),
        "SparkRunner": options.view_as(SparkRunnerOptions).spark_master_url.startswith("local"),
    }
    return type(runner).__name__ == "PrismRunner" or clusters.get(type(runner).__name__, False)


def _wrapped_runners(runner: PipelineRunner) -> list[PipelineRunner]:
    """A runner and those that it wraps, outermost first."""
    runners = [runner]
    for _ in range(8):
        inner = [getattr(runners[-1], name, None) for name in ("_runner", "_underlying_runner")]
        new = [one for one in inner if isinstance(one, PipelineRunner) and one not in runners]
        if not new:
            break
        runners.append(new[0])
    return runners
