"""The only module that uses Beam's private names.

Everything here was read in apache-beam 2.77, in `ml/inference/base.py` and
`utils/multi_process_shared.py`. When a name is gone, the functions raise `BeamChangedError`, which
says what it was needed for.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.metrics import monitoring_infos
from apache_beam.ml.inference import base
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from apache_beam.pipeline import AppliedPTransform, Pipeline, PipelineVisitor
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.pvalue import PCollection
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner
from apache_beam.runners.worker.statesampler import get_current_tracker
from apache_beam.transforms import window
from apache_beam.utils import multi_process_shared
from apache_beam.utils.multi_process_shared import MultiProcessShared

from mmlab._faults import survived

AnyHandler = ModelHandler[Any, Any, Any]
AnyKeyed = KeyedModelHandler[Any, Any, Any, Any]
"""Handlers, of whatever examples, predictions and models."""

READ_IN = "2.77"


class BeamChangedError(RuntimeError):
    """A private name of Beam that mmlab relies on is not there any more."""

    def __init__(self, name: str, purpose: str):
        super().__init__(
            f"apache-beam {beam.__version__} has no {name}, which mmlab needs to {purpose}. "
            f"Install apache-beam {READ_IN}, or a newer mmlab."
        )


def _private(owner: Any, name: str, purpose: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        label = getattr(owner, "__name__", type(owner).__name__)
        raise BeamChangedError(f"{label}.{name}", purpose) from None


# Handlers


def handler_chain(handler: AnyHandler) -> list[AnyHandler]:
    """The handler and those it wraps (pre/post-processing, keys), outermost first."""
    chain = [handler]
    while (inner := _wrapped(chain[-1])) is not None:
        chain.append(inner)
    return chain


def _wrapped(handler: AnyHandler) -> AnyHandler | None:
    for name in ("_base", "_unkeyed"):
        inner = getattr(handler, name, None)
        if isinstance(inner, ModelHandler):
            return inner
    return None


def with_wrapped(handler: AnyHandler, inner: AnyHandler) -> None:
    """Put `inner` in the place of the handler that `handler` wraps."""
    for name in ("_base", "_unkeyed"):
        if isinstance(getattr(handler, name, None), ModelHandler):
            setattr(handler, name, inner)
            return
    raise BeamChangedError(f"{type(handler).__name__}._base", "watch a wrapped handler")


def holds_many_models(handler: AnyHandler) -> TypeGuard[AnyKeyed]:
    """Whether this very handler maps keys to several models."""
    return isinstance(handler, KeyedModelHandler) and _wrapped(handler) is None


def keyed_handler(handler: AnyHandler) -> AnyKeyed | None:
    """The `KeyedModelHandler` with several models inside `handler`, if there is one."""
    return next((h for h in handler_chain(handler) if holds_many_models(h)), None)


def cohort_handlers(keyed: AnyKeyed) -> dict[Any, AnyHandler]:
    """Cohort (the first key of a `KeyModelMapping`) to model handler, in mapping order."""
    return dict(_private(keyed, "_id_to_mh_map", "read the key mapping"))


def cohort_of_key(keyed: AnyKeyed) -> Mapping[Any, Any]:
    """Key to cohort, in mapping order: the live mapping, which is not to be changed."""
    cohorts: Mapping[Any, Any] = _private(keyed, "_key_to_id_map", "read the key mapping")
    return cohorts


def replace_cohort_handlers(keyed: AnyKeyed, handlers: Mapping[Any, AnyHandler]) -> None:
    """Put `handlers` in the place of those that `keyed` maps its cohorts to."""
    _private(keyed, "_id_to_mh_map", "watch the models of a keyed handler")
    keyed._id_to_mh_map = dict(handlers)
    keyed._key_to_id_map = dict(keyed._key_to_id_map)


def model_hint(keyed: AnyKeyed) -> Any:
    """`max_models_per_worker_hint` as it was given; None also where it cannot be read."""
    return getattr(keyed, _HINT, None)


def hides_hint(handler: AnyHandler) -> bool:
    """Whether the hint of a keyed handler cannot be read in this version of Beam."""
    keyed = keyed_handler(handler)
    return keyed is not None and not hasattr(keyed, _HINT)


_HINT = "_max_models_per_worker_hint"


_BEAMS_HANDLERS = "apache_beam.ml.inference."
_WEIGHTS = (
    "_state_dict_path",
    "_torch_script_model_path",
    "_model_uri",
    "_model_path",
    "_model_state",
    "_model",
    "_model_name",
)
_PUBLIC_WEIGHTS = ("engine_path", "onnx_path", "model_name", "endpoint_name")
"""Where Beam's handlers keep them that have no private name for them."""
_FROM_FILES = frozenset(["state dict", "TorchScript", "onnx", "sklearn", "tensorrt", "xgboost"])
"""Readers that open what they are given as a file; others may ask a hub for a name."""
_ENDINGS = {
    ".pt", ".pth", ".onnx", ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".bst", ".ubj",
    ".safetensors", ".engine", ".plan",
}  # fmt: skip
"""Of files with weights; a name without a folder and with another ending may be that of a model on
a hub."""


def weights_location(handler: AnyHandler) -> str | None:
    """The file, folder, URI or hub name that Beam's own handlers load, where they have one.

    For a model that is only asked from here, the name of the model or of the endpoint.
    """
    is_beams = any(kind.__module__.startswith(_BEAMS_HANDLERS) for kind in _kinds(handler))
    for name in (*_WEIGHTS, *(_PUBLIC_WEIGHTS if is_beams else ())):
        value = _kept(handler, name)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str) and value:
            return value
    return None


def _kinds(handler: AnyHandler) -> Iterator[type]:
    """Its classes, but for those that all handlers have."""
    return (kind for kind in type(handler).__mro__ if kind.__module__ != base.__name__)


def weights_file(handler: AnyHandler) -> Path | None:
    """The file or folder that `handler` loads, where its weights are certainly one here.

    A hub name and a URI are not; nor is a bare name, unless Beam's own code opens it as a file.
    """
    weights = weights_location(handler)
    if weights is None or "://" in weights:
        return None
    path = Path(weights)
    is_file = weights_reader(handler) in _FROM_FILES or path.suffix in _ENDINGS
    return path if is_file or path.is_absolute() else None


def weights_reader(handler: AnyHandler) -> str | None:
    """What surely reads the weights, where it is Beam's own code; None for the author's own.

    "state dict" or "TorchScript" for PyTorch; else the framework as Beam's modules name it, such as
    "onnx" or "sklearn". None also for a model that is only asked from here.
    """
    # An author's load_model may be a property or another object that is in no module.
    module = getattr(inspect.getattr_static(type(handler), "load_model"), "__module__", None) or ""
    if not module.startswith(_BEAMS_HANDLERS) or module == base.__name__:
        return None
    if _kept(handler, "_torch_script_model_path"):
        return "TorchScript"
    if _kept(handler, "_state_dict_path"):
        return "state dict"
    return module.rpartition(".")[2].removesuffix("_inference")


def is_unbuilt_engine(handler: AnyHandler) -> bool:
    """Whether Beam's TensorRT handler has no engine to load: only the ONNX file it is built of."""
    built = _kept(handler, "engine_path") is not None
    return weights_reader(handler) == "tensorrt" and not built


def keeps_metrics_from(handler: AnyHandler) -> bool:
    """Whether a handler around a keyed one never asks it to count its batches.

    Beam's wrappers do not pass `override_metrics` on, without which a keyed handler of several
    models has no counters, and fails with `KeyError` when it wants to count.
    """
    return type(handler).override_metrics is ModelHandler.override_metrics


def model_copies(handler: AnyHandler) -> int:
    """Copies of its model that a machine loads; 1 where the handler knows that only in a worker."""
    try:
        return int(handler.model_copies())
    except Exception:  # it may know only in a worker
        return 1


def device_name(handler: AnyHandler) -> str | None:
    """`cpu`, `cuda`, … for handlers that know their device."""
    device = _kept(handler, "_device")
    return None if device is None else str(device).lower()


def _kept(handler: AnyHandler, name: str) -> Any | None:
    # An author's property of that name is not asked: it may load a model, or raise.
    return inspect.getattr_static(handler, name, None)


def shares_across_processes(handler: AnyHandler) -> bool:
    """Whether the processes of one machine share the models of `handler`, as far as it knows."""
    try:
        return bool(handler.share_model_across_processes())
    except Exception:  # it may know only in a worker
        return False


# Pipelines


_FIND_STEPS = "find the RunInference steps of a pipeline"


@dataclass(frozen=True)
class InferenceStep:
    """One `RunInference` of a pipeline: its label, its handler, and the DoFn that holds it.

    `label` is the author's, `full_label` is Beam's. `sealed_in` holds DoFns around it that have
    pickled it already: exception handling in a subprocess does. `refreshed_by` is the argument of
    `RunInference` that replaces its one model by another ("watch_model_pattern", or
    "model_metadata_pcoll" where that surely holds `ModelMetadata`), or None.
    """

    label: str
    full_label: str
    handler: AnyHandler
    dofn: beam.DoFn
    sealed_in: tuple[beam.DoFn, ...] = ()
    refreshed_by: str | None = None
    catching: beam.DoFn | None = None
    """The DoFn around it that handles exceptions."""
    applied: AppliedPTransform | None = None
    """The transform that calls the DoFn with batches."""

    @property
    def uses_model_manager(self) -> bool:
        return bool(getattr(self.dofn, "use_model_manager", False))

    @property
    def shared_as(self) -> str | None:
        """The tag under which it shares its models with other steps; None where it cannot."""
        shares = shares_across_processes(self.handler)
        return getattr(self.dofn, "_model_tag", None) if shares else None

    @property
    def loads_at_run_time(self) -> bool:
        """Whether the model path may still change (side input) before the model is loaded."""
        return bool(getattr(self.dofn, "_load_model_at_runtime", True))


def inference_steps(pipeline: Pipeline) -> list[InferenceStep]:
    """Every `RunInference` of `pipeline`, in the order in which they were applied.

    Raises:
      BeamChangedError: there is one whose model handler cannot be found.
    """
    steps, hidden = readable_steps(pipeline)
    for change in hidden.values():
        raise change
    return steps


def readable_steps(
    pipeline: Pipeline,
) -> tuple[list[InferenceStep], dict[str, BeamChangedError]]:
    """Every `RunInference` of `pipeline` whose model handler is found, in the order of application.

    And the others: label to what this version of Beam lacks.
    """
    found: list[InferenceStep] = []
    hidden: dict[str, BeamChangedError] = {}
    applied_by_author: list[str] = []

    class Finder(PipelineVisitor):
        def enter_composite_transform(self, applied: AppliedPTransform) -> None:
            if isinstance(applied.transform, RunInference) and not is_unfinished(applied):
                applied_by_author.append(applied.full_label)

        def visit_transform(self, applied: AppliedPTransform) -> None:
            try:
                found.extend(inferences_of(applied))
            except BeamChangedError as change:
                hidden[_step_label(applied)] = change

    pipeline.visit(Finder())
    seen = {step.full_label for step in found} | set(hidden)
    for label in applied_by_author:
        if label not in seen:
            hidden[label] = BeamChangedError("_RunInferenceDoFn", _FIND_STEPS)
    labels = author_labels([*(step.label for step in found), *hidden])
    return (
        [replace(step, label=labels[step.label]) for step in found],
        {labels[label]: change for label, change in hidden.items()},
    )


def is_unfinished(applied: AppliedPTransform) -> bool:
    """Whether a `RunInference` in it raised while it was applied.

    Beam runs the pipeline without it, but keeps the transform; it has no outputs, which every
    other `RunInference` has.
    """
    if isinstance(applied.transform, RunInference):
        return not applied.outputs
    return any(is_unfinished(part) for part in applied.parts)


def author_label(label: str) -> str:
    """A label as the author wrote it: in a notebook, Beam puts the number of the cell before.

    >>> author_label("[7]: Classify")
    'Classify'
    """
    return re.sub(r"^\[\d+\]: ", "", label)


def author_labels(labels: Iterable[str]) -> dict[str, str]:
    """Labels as the author wrote them, but for those that only the number of the cell tells apart.

    >>> author_labels(["[7]: Classify", "[7]: Read", "[8]: Read"])
    {'[7]: Classify': 'Classify', '[7]: Read': '[7]: Read', '[8]: Read': '[8]: Read'}
    """
    labels = list(labels)
    plain = {label: author_label(label) for label in labels}
    times = Counter(plain.values())
    return {label: plain[label] if times[plain[label]] == 1 else label for label in labels}


def inferences_of(applied: AppliedPTransform) -> list[InferenceStep]:
    """The `RunInference` whose model is called by this very transform, not by a part of it."""
    nested = list(_dofns(getattr(applied.transform, "fn", None)))
    sealed_in = tuple(dofn for dofn in nested if "_serialized_fn" in vars(dofn))
    catching = next((dofn for dofn in nested if "_dead_letter_tag" in vars(dofn)), None)
    return [
        InferenceStep(
            _step_label(applied),
            _step_label(applied),
            _private(dofn, "_model_handler", "find the model handler of a step"),
            dofn,
            sealed_in,
            _refreshed_by(applied),
            catching,
            applied,
        )
        for dofn in nested
        if _asks_a_model(dofn)
    ]


def _asks_a_model(dofn: beam.DoFn) -> bool:
    dofn_type = getattr(base, "_RunInferenceDoFn", None)
    if dofn_type is not None:
        return isinstance(dofn, dofn_type)
    # Under another name it is still the one of Beam's DoFns that holds a model handler.
    holds = isinstance(getattr(dofn, "_model_handler", None), ModelHandler)
    return holds and type(dofn).__module__ == base.__name__


def replace_handler(step: InferenceStep, handler: AnyHandler) -> None:
    """Make the DoFn of `step` use `handler`."""
    step.dofn._model_handler = handler  # type: ignore[attr-defined]  # a private name of Beam's
    for wrapper in step.sealed_in:
        wrapper._serialized_fn = pickler.dumps(wrapper._fn)  # type: ignore[attr-defined]  # a private name of Beam's


def replace_failure_callback(step: InferenceStep, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    """Put a callback in the place of the one that is called with each batch that fails.

    Args:
      wrap: takes Beam's own callback, or None, and returns the one to call.

    Returns:
      What puts Beam's own back.

    Raises:
      BeamChangedError: there is no such callback.
    """
    dofn: Any = step.catching
    own = _private(dofn, "_on_failure_callback", "see what goes to the dead letters")
    dofn._on_failure_callback = wrap(own)

    def restore() -> None:
        dofn._on_failure_callback = own

    return restore


def is_timeout(error: BaseException) -> bool:
    """Whether Beam stopped waiting for the thread or process that an error stands for.

    A `TimeoutError` of that thread itself has its own lines at the end of its traceback.
    """
    if not isinstance(error, TimeoutError) or error.__traceback__ is None:
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    return last.name == "result" and "concurrent" in last.filename


def bundle_of_thread() -> Any:
    """What is the same for all threads that work on one bundle; None where there is no such."""
    return get_current_tracker()


def pickles_itself(handler: AnyHandler) -> bool:
    """Whether the handler's class has a say in how it is pickled."""
    plain = {"__reduce_ex__", "__reduce__", "__getstate__", "__setstate__"}
    return any(
        getattr(type(handler), name, None) is not getattr(object, name, None) for name in plain
    )


def pickled(handler: AnyHandler) -> AnyHandler:
    """The handler as it reaches a worker."""
    arrived: AnyHandler = pickler.loads(pickler.dumps(handler))
    return arrived


def _dofns(dofn: Any, depth: int = 0) -> Iterator[beam.DoFn]:
    """`dofn` and the DoFns it wraps: exception handling, timeouts and type checks nest them."""
    if not isinstance(dofn, beam.DoFn) or depth > 8:
        return
    yield dofn
    for value in vars(dofn).values():
        yield from _dofns(value, depth + 1)


def _step_label(applied: AppliedPTransform) -> str:
    inference = _enclosing_inference(applied)
    if inference is not None:
        return inference.full_label
    return applied.full_label.split("/BeamML_RunInference")[0]


def _enclosing_inference(applied: AppliedPTransform) -> AppliedPTransform | None:
    enclosing: AppliedPTransform | None = applied
    while enclosing is not None and not isinstance(enclosing.transform, RunInference):
        enclosing = enclosing.parent
    return enclosing


def _refreshed_by(applied: AppliedPTransform) -> str | None:
    inference = _enclosing_inference(applied)
    if inference is not None and getattr(inference.transform, "_watch_model_pattern", None):
        return "watch_model_pattern"
    sides = [side.pvalue.element_type for side in applied.side_inputs]
    return "model_metadata_pcoll" if base.ModelMetadata in sides else None


# Runners


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
        given = (getattr(runners[-1], name, None) for name in ("_runner", "_underlying_runner"))
        inner = [one for one in given if isinstance(one, PipelineRunner) and one not in runners]
        if not inner:
            break
        runners.append(inner[0])
    return runners


# The graph of a pipeline


def root_transform(pipeline: Pipeline) -> AppliedPTransform:
    """The nameless transform whose parts are the steps that the author applied, in order."""
    root: AppliedPTransform = _private(
        pipeline, "_root_transform", "read the steps of a pipeline"
    )()
    return root


def dead_letter_tag(applied: AppliedPTransform) -> str | None:
    """The output of a transform with exception handling that holds what failed."""
    return getattr(applied.transform, "_dead_letter_tag", None)


def collection_name(pcollection: PCollection[Any]) -> str:
    """What mmlab calls a PCollection: `<label of the transform that made it>[<tag>]`.

    The main output has no tag. The label is the full one, and the same in every process.
    """
    label = pcollection.producer.full_label if pcollection.producer is not None else "?"
    return label if pcollection.tag is None else f"{label}[{pcollection.tag}]"


def element_counts(pipeline: Pipeline, result: PipelineResult) -> dict[str, int]:
    """How many elements crossed each PCollection of a finished run.

    Args:
      pipeline: the pipeline object that was run, not a copy of it.
      result: what `pipeline.run()` returned.

    Returns:
      `collection_name` to number of elements. PCollections that the runner optimised away (the
      inside of a combine) are missing; so are all of them when the runner does not count.
    """
    by_id: dict[str, int] = {}
    for info in _monitoring_infos(result):
        if info.urn == monitoring_infos.ELEMENT_COUNT_URN:
            collection = info.labels.get(monitoring_infos.PCOLLECTION_LABEL, "")
            # A PCollection between two stages is counted where it is written and where it is read.
            counted = monitoring_infos.extract_counter_value(info)
            by_id[collection] = max(counted, by_id.get(collection, 0))
    if not by_id:
        return {}
    ids = pipeline.component_id_map
    named = {
        collection_name(value): by_id.get(ids.get_or_assign(value, PCollection[Any]))
        for value in _collections(root_transform(pipeline))
    }
    return {name: count for name, count in named.items() if count is not None}


def _monitoring_infos(result: PipelineResult) -> Iterable[Any]:
    """All monitoring infos of a finished run, which can be read again afterwards.

    `FnApiRunner` keeps those of a stage that ran in several bundles as an iterator, which can be
    read once: by us, or by the author's `metrics()`. Portable runners leave them to the job
    service.
    """
    while isinstance(
        inner := getattr(result, "__dict__", {}).get("_underlying_result"), PipelineResult
    ):
        result = inner
    by_stage = getattr(result, "_monitoring_infos_by_stage", None)
    if isinstance(by_stage, dict):
        for stage, infos in by_stage.items():
            if isinstance(infos, Iterator):
                by_stage[stage] = list(infos)
    read = getattr(result, "monitoring_infos", None)
    if callable(read):
        told: Iterable[Any] = read()
        return told
    service, job = getattr(result, "_job_service", None), getattr(result, "_job_id", None)
    return () if service is None or job is None else _infos_of_job(service, job)


def _infos_of_job(service: Any, job: str) -> Iterable[Any]:
    """Monitoring infos of the attempts that counted; of all attempts, where a runner has no others.

    Raises:
      grpc.RpcError: the service is gone.
    """
    request = beam_job_api_pb2.GetJobMetricsRequest(job_id=job)
    metrics = service.GetJobMetrics(request, timeout=SERVICE_SECONDS).metrics
    counted: Iterable[Any] = metrics.committed or metrics.attempted
    return counted


SERVICE_SECONDS = 20
"""For which a job service is waited for, once the job has ended."""


def collection_before_batching(step: InferenceStep) -> PCollection[Any] | None:
    """What `RunInference` makes the batches of; each of its elements comes to a model once.

    None where that is not so, or not known: no batching, or windows that overlap.
    """
    batches = next(iter(step.applied.main_inputs.values()), None) if step.applied else None
    producer = getattr(batches, "producer", None)
    if producer is None:
        return None
    while producer.parent is not None and batches in producer.parent.outputs.values():
        producer = producer.parent
    before = next(iter(producer.main_inputs.values()), None)
    if before is None or not producer.full_label.endswith("/BatchElements"):
        return None
    once = (window.GlobalWindows, window.FixedWindows, window.Sessions)
    return before if isinstance(before.windowing.windowfn, once) else None


def _collections(applied: AppliedPTransform) -> Iterator[PCollection[Any]]:
    yield from (v for v in applied.outputs.values() if isinstance(v, PCollection))
    for part in applied.parts:
        yield from _collections(part)


# Workers


class _ObservedOrder(OrderedDict[Any, Any]):
    """The LRU order of a model manager, which calls `on_evict` with each cohort that is dropped."""

    on_evict: Callable[[Any], None]

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        cohort, tag = super().popitem(last=last)
        _notify(self.on_evict, cohort)
        return cohort, tag


def _notify(callback: Callable[..., None], *arguments: Any) -> None:
    # What goes wrong in a callback of ours must not reach the manager.
    with survived("note what Beam's model manager does"):
        callback(*arguments)


class ManagerObserver(Protocol):
    """What `observe_manager` calls when a model manager decides something.

    Beam's `load` is not locked: another thread may be in it at the same time, and what is done in
    between makes it more likely that one disturbs the other. So `on_evict`, which is called inside
    it, must not do more than note what it is given; `on_load_returned` can do the rest.
    """

    def pending(self) -> bool:
        """Whether `on_load_returned` has something to do."""

    def on_evict(self, cohort: Any) -> None:
        """The manager drops the model of a cohort, inside Beam's `load`."""

    def on_load_returned(self) -> None:
        """Beam's `load` has returned or raised."""

    def on_conflict(self, error: BaseException) -> None:
        """Beam's `load` raised a KeyError because another thread was in the way."""

    def on_limit(self, limit: Any) -> None:
        """The number of models that the manager will hold has changed."""

    def on_refresh(self, cohort: Any, previous: Any, handler: AnyHandler, path: str) -> None:
        """The next load of a cohort takes its weights from another path.

        `previous` is the cohort that its keys belonged to until now, which may be the same.
        """

    def on_joined(self, manager: Any, *about: Any) -> None:
        """Another run reports itself: see `report_to`."""


def report_to(manager: Any, *about: Any) -> bool:
    """Let a manager that another run may have made report to this one as well.

    Args:
      manager: it, or the reference by which a batch reaches it.
      about: passed to its observer; must be picklable, as the manager may be in another process.

    Returns:
      Whether it is observed at all.
    """
    join = getattr(manager, "report_to", None)
    if join is None:
        return False
    join(*about)
    return True


def models_held(manager: Any) -> list[tuple[Any, Any]]:
    """Cohorts and models that a manager holds in this process, least recently used first."""
    tags, proxies = getattr(manager, "_tag_map", None), getattr(manager, "_proxy_map", None)
    if not isinstance(tags, dict) or not isinstance(proxies, dict):
        return []
    held = ((cohort, proxies.get(tag)) for cohort, tag in list(tags.items()))
    return [(cohort, held_model(entry[1])) for cohort, entry in held if entry is not None]


def models_allowed(manager: Any) -> Any:
    """How many models a manager will hold; None where any number, or where Beam hides that."""
    return getattr(manager, "_max_models", None)


def observe_manager(manager: Any, observer: ManagerObserver) -> list[str]:
    """Report what a model manager decides: evictions, refreshes, its effective limit.

    Args:
      manager: what `KeyedModelHandler.load_model` returned, in the process that holds the models.

    Returns:
      What cannot be observed with this version of Beam: any of "evictions", "limit", "refresh".
    """
    blind = []
    if isinstance(getattr(manager, "_tag_map", None), OrderedDict):
        order = _ObservedOrder(manager._tag_map)
        order.on_evict = observer.on_evict
        manager._tag_map = order
    else:
        blind.append("evictions")
    seen = {
        "limit": hasattr(manager, "_max_models") and hasattr(manager, "increment_max_models"),
        "refresh": hasattr(manager, "_mh_map") and hasattr(manager, "update_model_handler"),
    }
    manager._observer = observer
    manager.__class__ = _reporting(type(manager), **seen)
    return blind + [what for what, is_seen in seen.items() if not is_seen]


def _reporting(manager_type: type, *, limit: bool, refresh: bool) -> type:
    class Reporting(manager_type):  # type: ignore[misc]  # a private class of Beam's
        def load(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().load(*args, **kwargs)
            except KeyError as error:
                if limit and _is_conflict(error, self._max_models):
                    _notify(self._observer.on_conflict, error)
                raise
            finally:
                if self._observer.pending():
                    _notify(self._observer.on_load_returned)

        def report_to(self, *about: Any) -> None:
            _notify(self._observer.on_joined, self, *about)

        if limit:

            def increment_max_models(self, increment: int) -> None:
                super().increment_max_models(increment)
                _notify(self._observer.on_limit, self._max_models)

        if refresh:

            def update_model_handler(self, key: Any, model_path: str, previous_key: Any) -> None:
                super().update_model_handler(key, model_path, previous_key)
                leaf = self._mh_map.get(key)
                _notify(self._observer.on_refresh, key, previous_key, leaf, model_path)

    Reporting.__name__ = manager_type.__name__
    Reporting.__qualname__ = manager_type.__qualname__
    return Reporting


def _is_conflict(error: KeyError, limit: Any) -> bool:
    """Whether Beam's `load` itself missed what another thread took out of its maps.

    Under a limit below 1 it misses the model that it has just entered, with one thread too.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    in_load = frame.f_globals is vars(base) and frame.f_code.co_name == "load"
    in_order = frame.f_code is _ObservedOrder.popitem.__code__
    return (in_load or in_order) and limit is not None and limit >= 1


def keep_addresses_in(folder: str) -> bool:
    """Let this process keep the lock and address files of its models in `folder`.

    Beam writes two for each load and removes none. It chose their folder, the one for temporary
    files, when it was imported, which for a forked process was in another life.

    Returns:
      Whether this version of Beam can be told so.
    """
    defaults = getattr(MultiProcessShared.__init__, "__kwdefaults__", None) or {}
    if "path" in defaults:
        defaults["path"] = folder
    return "path" in defaults


def before_process_ends(callback: Callable[[], None]) -> None:
    """Call `callback` before Beam ends this process, if it is one that holds a single model.

    Beam's `ModelManager` evicts a model by ending its process with `os._exit`, which runs nothing
    that was registered for the exit.
    """
    manager = getattr(multi_process_shared, "_process_level_singleton_manager", None)
    entry_type = getattr(multi_process_shared, "_SingletonEntry", None)
    if getattr(manager, "_hard_delete_callback", None) is None or entry_type is None:
        return
    end = entry_type.unsafe_hard_delete

    def unsafe_hard_delete(entry: Any) -> None:
        exit_process = entry._hard_delete_callback

        def write_then_exit() -> None:
            _notify(callback)
            exit_process()

        if exit_process is not None:
            entry._hard_delete_callback = write_then_exit
        end(entry)

    entry_type.unsafe_hard_delete = unsafe_hard_delete


def is_proxy(reference: Any) -> bool:
    """Whether `run_inference` was given a reference to a model, and not the model itself."""
    return type(reference).__name__ == "_AutoProxyWrapper"


def held_model(reference: Any) -> Any | None:
    """The model behind a reference that `run_inference` was given.

    Models of a keyed handler are reached through a proxy; this returns the model itself, or None
    where another process holds it, or where this one reaches it as another would: see
    `served_model`.
    """
    if not is_proxy(reference):
        return reference
    try:
        return vars(reference._proxyObject)["_SingletonProxy_entry"].obj
    except (AttributeError, KeyError, TypeError):
        return None


def served_model(reference: Any, is_known: Callable[[Any], bool]) -> Any | None:
    """The model behind a reference, where this process serves it to others and to itself.

    Args:
      reference: that `run_inference` was given.
      is_known: whether a model may be it; others are not looked at, for that reads a file.
    """
    try:
        address = "{}:{}".format(*reference._proxyObject._token.address)
        entries = multi_process_shared._process_level_singleton_manager.entries
        folder = (MultiProcessShared.__init__.__kwdefaults__ or {})["path"]
        for tag, entry in list(entries.items()):
            model = getattr(entry, "obj", None)
            if model is not None and is_known(model):
                with contextlib.suppress(OSError):
                    if Path(folder, f"{tag}.address").read_text() == address:
                        return model
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    return None
