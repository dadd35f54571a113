"""Model handlers that record what happens to their models and otherwise behave the same.

A watched handler is a copy of the handler, of the same class, whose `load_model` and
`run_inference` are shadowed by callables of this module. These run in the workers, so they are
importable and picklable, and look up their recorder there.
"""

from __future__ import annotations

import copy
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from apache_beam.ml.inference.base import ModelHandler

from mmlab._arguments import path_argument, seconds_argument, short
from mmlab._faults import describe
from mmlab.beam.cards import ModelCard, count_or_none, key_text, key_texts, model_cards
from mmlab.beam.handlers import (
    AnyHandler,
    AnyKeyed,
    cohort_handlers,
    cohort_of_key,
    handler_chain,
    keyed_handler,
    pickled,
    pickles_itself,
    replace_cohort_handlers,
    with_wrapped,
)
from mmlab.beam.manager import models_allowed, models_held, observe_manager, report_to
from mmlab.beam.shared import before_process_ends, held_model, served_model
from mmlab.beam.weights import weights_file, weights_reader
from mmlab.events import Conflicts, Copy, Limit, Models, RunInfo, UnknownKey, Unobserved
from mmlab.worker.failures import length, note_work
from mmlab.worker.logs import shared_log
from mmlab.worker.memory import quiet_reader
from mmlab.worker.models import Followers, Listener, Load, Site, load_of, part_of
from mmlab.worker.recorder import Log, Recorder, recorder_for


def watch(
    handler: ModelHandler[Any, Any, Any],
    log: str | os.PathLike[str],
    *,
    step: str = "RunInference",
    sample_seconds: float = 0.05,
) -> ModelHandler[Any, Any, Any]:
    """Watch one handler, for runners that cannot be wrapped with `WatchRunner`.

    Args:
      handler: any Beam model handler; it is not changed.
      log: a folder for the event logs of this run; all workers must be able to write to it.
        Handlers watched by the same process with the same folder share a trace. Use a new folder
        for each run. `Trace.load(log)` reads it.
      step: the name of the step in the trace.
      sample_seconds: seconds between samples of memory in each worker.

    Returns:
      A handler of the same class that behaves the same and records.

    Raises:
      TypeError: `handler` is not a model handler, or cannot be copied; `log` is not a path.
      ValueError: `handler` is watched already, `step` is not text, or `sample_seconds` is not
        positive.
      OSError: the folder cannot be written.
    """
    if not isinstance(handler, ModelHandler):
        raise TypeError(f"handler must be a Beam ModelHandler, got {short(handler)}")
    if is_watched(handler):
        raise ValueError("handler must not be watched already: give the one that it was made from")
    if not isinstance(step, str) or not step:
        raise ValueError(f"step must be the label of the RunInference step, got {short(step)}")
    path_argument("log", log, "a folder")
    seconds_argument("sample_seconds", sample_seconds)
    shared = shared_log(log, sample_seconds)
    cards = tuple(card.traced for card in model_cards(handler, step))
    recorder_for(shared).emit(Models(info=RunInfo(cards)))
    return watched(handler, shared, step)


def watched(handler: AnyHandler, log: Log, step: str) -> AnyHandler:
    """Return a copy of `handler` that records to `log`.

    Args:
      handler: any Beam model handler; it is not changed.
      log: where the events go.
      step: label of the `RunInference` step.

    Raises:
      TypeError: the handler cannot be copied or does not accept attributes.
    """
    cards = model_cards(handler, step)
    keyed = keyed_handler(handler)
    if keyed is None:
        return _watched_alone(handler, log, _site(cards[0]))
    watched_keyed = _watched_keyed(keyed, log, cards)
    return _rewrap(handler_chain(handler), keyed, watched_keyed)


def mark_timeouts(handler: AnyHandler) -> None:
    """Make a watched handler record the thread of each batch, for a step with a timeout."""
    keyed = keyed_handler(handler)
    chain = handler_chain(handler)
    for leaf in cohort_handlers(keyed).values() if keyed else chain:
        for name in (_Load.method, _Inference.method):
            if isinstance(method := vars(leaf).get(name), _Load | _Inference):
                method.may_time_out = True


def is_watched(handler: AnyHandler) -> bool:
    """Whether the handler, or one that it wraps, is a watched one."""
    return any(
        isinstance(vars(link).get("load_model"), _Watched) for link in handler_chain(handler)
    )


def _watched_alone(handler: AnyHandler, log: Log, site: Site) -> AnyHandler:
    twin = _watched_leaf(handler, log, site, load=_LoadAlone)
    _shadow(twin, _Refresh(twin, log, site))
    return twin


def _watched_leaf(
    handler: AnyHandler, log: Log, site: Site, load: type[_Load] | None = None
) -> AnyHandler:
    twin = _copy(handler)
    _shadow(twin, (load or _Load)(twin, log, site))
    _shadow(twin, _Inference(twin, log, site))
    return _that_travels(twin)


def _watched_keyed(keyed: AnyKeyed, log: Log, cards: Sequence[ModelCard]) -> AnyKeyed:
    sites = {card.cohort: _site(card) for card in cards}
    leaves = cohort_handlers(keyed)
    twin = _copy(keyed)
    replace_cohort_handlers(
        twin, {cohort: _watched_leaf(leaf, log, sites[cohort]) for cohort, leaf in leaves.items()}
    )
    _shadow(twin, _LoadManager(twin, log, sites))
    _shadow(twin, _KeyedInference(twin, log, sites))
    _shadow(twin, _RefreshPaths(twin, log))
    return _that_travels(twin)


def _rewrap(chain: list[AnyHandler], inner: AnyHandler, twin: AnyHandler) -> AnyHandler:
    """Return copies of the handlers around `inner`, wrapped around `twin` instead."""
    for handler in reversed(chain[: chain.index(inner)]):
        outer = _copy(handler)
        with_wrapped(outer, twin)
        twin = _that_travels(outer)
    return twin


_Kind = TypeVar("_Kind", bound=ModelHandler[Any, Any, Any])


def _copy(handler: _Kind) -> _Kind:
    try:
        twin = copy.copy(handler)
        vars(twin)
    except Exception as problem:
        raise TypeError(f"{type(handler).__name__} cannot be copied: {problem}") from problem
    return twin


def _shadow(twin: AnyHandler, method: _Watched) -> None:
    """Shadow the method of the same name with `method`.

    Raises:
      TypeError: the class has a property of that name, which an attribute cannot shadow.
    """
    name = method.method
    if inspect.isdatadescriptor(inspect.getattr_static(type(twin), name, None)):
        raise TypeError(f"{type(twin).__name__}.{name} is a property, which cannot be watched")
    # Not with setattr: the __setattr__ of a frozen dataclass raises.
    vars(twin)[name] = method


def _that_travels(twin: _Kind) -> _Kind:
    """Return `twin` if pickling keeps the shadowed methods; a class may define its own pickling.

    Raises:
      TypeError: pickling loses them.
    """
    if pickles_itself(twin) and not is_watched(pickled(twin)):
        raise TypeError(f"{type(twin).__name__} leaves the watcher out when it is pickled")
    return twin


def _site(card: ModelCard) -> Site:
    return Site(card.step, card.name, card.cohort_text)


class _Watched:
    """A recording version of the method of `handler` that `method` names.

    Code that runs for every batch makes few calls: each costs a microsecond or more, because the
    model has displaced mmlab's code from the processor's cache.
    """

    method: str
    may_time_out = False
    """Whether the step has a timeout: Beam may then stop waiting for the thread of a batch."""

    def __init__(self, handler: AnyHandler, log: Log):
        self._handler = handler
        self._own = vars(handler).get(self.method)  # may be replaced on the object
        self._log = log
        self._recorder: Recorder | None = None
        self._original: Callable[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recorder": None, "_original": None}

    @property
    def recorder(self) -> Recorder:
        if self._recorder is None:
            self._recorder = recorder_for(self._log)
            if self.method == "run_inference":
                self._recorder.start_sampling()
        return self._recorder

    @property
    def original(self) -> Callable[..., Any]:
        """The method that this one shadows."""
        if self._original is None:
            # The class's method, bound to the copy, so that all state changes happen in one object.
            of_class = inspect.getattr_static(type(self._handler), self.method)
            self._original = self._own or _bound(of_class, self._handler)
        return self._original


def _bound(attribute: Any, handler: AnyHandler) -> Callable[..., Any]:
    """Bind a class attribute to `handler`; static and class methods do not take it."""
    bind = getattr(type(attribute), "__get__", None)
    bound: Callable[..., Any] = attribute
    return bound if bind is None else bind(attribute, handler, type(handler))


class _Load(_Watched):
    """`load_model` of one model of a keyed handler: runs inside the manager's `load`."""

    method = "load_model"

    def __init__(self, handler: AnyHandler, log: Log, site: Site):
        super().__init__(handler, log)
        self._site = site
        self._followed: tuple[Followers, Any] | None = None
        from_file = weights_reader(handler) and weights_file(handler)
        self._asks_rss = not from_file

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_followed": None}

    def follow(self, followers: Followers, cohort: Any) -> None:
        """Report loads of this model to the runs of its model manager.

        Args:
          cohort: the model's cohort in the manager.
        """
        self._followed = followers, cohort

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.may_time_out:
            note_work(self._site)
        load = Load(self._listeners())
        before = quiet_reader.rss_bytes() if self._asks_rss else None
        try:
            model = self.original(*args, **kwargs)
        except BaseException as error:
            load.fails(error)
            raise
        after = quiet_reader.rss_bytes() if before is not None else None
        load.rss_growth = None if before is None or after is None else after - before
        load.ends(model, self._listeners(), self._weights_file)
        return model

    def _weights_file(self) -> Path | None:
        """The weights file, if Beam's own code loads it; None for an author's `load_model`."""
        known = weights_reader(self._handler) is not None
        return weights_file(self._handler) if known else None

    def _listeners(self) -> list[tuple[Listener, Site]]:
        if self._followed is None:
            return [(self.recorder, self._site)]
        followers, cohort = self._followed
        return followers.of(cohort)


class _LoadAlone(_Load):
    """`load_model` of a handler with one model; may write events, as Beam calls it under a lock."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        recorder = self.recorder
        recorder.start_sampling()  # so that a long load is drawn live
        quiet_reader.prepare()
        before_process_ends(recorder.write_marks)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            recorder.write_marks()


class _Inference(_Watched):
    """`run_inference` of a handler with one model."""

    method = "run_inference"

    def __init__(self, handler: AnyHandler, log: Log, site: Site):
        super().__init__(handler, log)
        self._site = site
        self._identities: WeakKeyDictionary[Any, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_identities": None}

    def __call__(self, batch: Sequence[Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        original = self._original or self.original
        outer = _batch.inside
        if outer is self:  # the handler calls itself, with a part of the batch
            return original(batch, model, *args, **kwargs)
        recorder = self._recorder or self.recorder
        site, plan, n = self._site, _batch.plan, length(batch)
        visit = plan.get(site.cohort) if plan else None
        if visit is None or visit.left <= 0:
            visit = _Visit(n)
        if visit.use is None:
            held = held_model(model)
            identity = self._identity_of(model) if held is None else id(held)
            visit.recorder = recorder
            if self.may_time_out:
                note_work(site)
            visit.use = recorder.use_begins(site, identity, visit.n, visit.keys)
        _batch.inside = self
        try:
            results = original(batch, model, *args, **kwargs)
        except BaseException as error:
            visit.end(error)
            raise
        finally:
            _batch.inside = outer
        if type(results) is not list and isinstance(results, Iterator):
            return _until_exhausted(results, visit, n, self)
        visit.answered(n)
        return results

    def _identity_of(self, proxy: Any) -> int:
        """Return the `id` of the model behind a proxy if this process loaded it, else 0."""
        if self._identities is None:
            self._identities = WeakKeyDictionary()
        identity = self._identities.get(proxy)
        if identity is None:
            model = served_model(proxy, lambda model: load_of(id(model)) is not None)
            identity = self._identities[proxy] = 0 if model is None else id(model)
        return identity


class _Refresh(_Watched):
    """`update_model_path` of a handler with one model; Beam calls it repeatedly."""

    method = "update_model_path"

    def __init__(self, handler: AnyHandler, log: Log, site: Site):
        super().__init__(handler, log)
        self._site = site

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.original(*args, **kwargs)
        for path in (*args, *kwargs.values())[:1]:
            if path:
                self.recorder.refreshes(self._site, str(path))
        return result


class _RefreshPaths(_Watched):
    """`update_model_paths` of a keyed handler, which may split a cohort in two."""

    method = "update_model_paths"
    _handler: AnyKeyed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.original(*args, **kwargs)
        finally:
            texts = _key_texts_of(self._handler)
            for cohort, leaf in cohort_handlers(self._handler).items():
                _move(leaf, texts[cohort])


def _key_texts_of(keyed: AnyKeyed) -> dict[Any, str]:
    return key_texts(cohort_of_key(keyed))


def _move(leaf: AnyHandler, name: str) -> Site | None:
    """Move a watched handler to a cohort and return its site; None if it is not watched.

    Args:
      leaf: the base handler, which may be a copy of that of another cohort.
      name: of the cohort to which it now belongs.
    """
    load, inference = vars(leaf).get("load_model"), vars(leaf).get("run_inference")
    if not isinstance(load, _Load) or not isinstance(inference, _Inference):
        return None
    if load._site.cohort != name:
        load._site = inference._site = part_of(load._site, name)
    return load._site


def _until_exhausted(
    results: Iterator[Any], visit: _Visit, n: int, inference: _Inference
) -> Iterator[Any]:
    """Yield the results of a lazy handler; the use ends when the last one is computed.

    Args:
      n: number of elements of `results`.
      inference: the watched method that computes them.
    """
    try:
        while True:
            outer, _batch.inside = _batch.inside, inference
            try:
                result = next(results)
            except StopIteration:
                break
            finally:
                _batch.inside = outer
            yield result
    except BaseException as error:
        visit.end(error)
        raise
    visit.answered(n)


class _Visit:
    """One batch in one model; Beam calls the handler once per key of the batch.

    Attributes:
      keys: elements per key, keys as text; empty without keys.
      n: elements; `left` of them are not answered yet.
      use: the open use in the recorder; None if there is none.
      recorder: of that use.
    """

    __slots__ = ("keys", "left", "n", "recorder", "use")

    def __init__(self, n: int = 0):
        self.keys: dict[str, int] = {}
        self.n = self.left = n
        self.use: bytes | None = None
        self.recorder: Recorder | None = None

    def answered(self, n: int) -> None:
        self.left -= n
        if self.left <= 0:
            self.end()

    def end(self, error: BaseException | None = None) -> None:
        use, self.use = self.use, None
        if use is not None and self.recorder is not None:
            self.recorder.use_ends(use, error)


class _Batch(threading.local):
    """The batch that this thread is processing.

    Attributes:
      plan: the use of each cohort's model.
      owner: the `run_inference` of a keyed handler that is running.
      inside: the `run_inference` of a handler with one model that is running.
    """

    plan: dict[str | None, _Visit] | None = None
    owner: _KeyedInference | None = None
    inside: _Inference | None = None


_batch = _Batch()


class _LoadManager(_Watched):
    """`load_model` of a keyed handler; returns Beam's manager of all its models."""

    method = "load_model"
    _handler: AnyKeyed

    def __init__(self, handler: AnyKeyed, log: Log, sites: dict[Any, Site]):
        super().__init__(handler, log)
        self._sites = sites

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        manager = self.original(*args, **kwargs)
        observer = _ManagerObserver(self._handler)
        observer.blind = observe_manager(manager, observer)
        observer.on_joined(manager, self._log, self._sites)
        return manager


class _ManagerObserver:
    """Reports the decisions of a model manager to every run that uses it.

    It is in the process that holds the manager.

    Args:
      handler: the keyed handler of the run that made the manager; its base handlers load the
        models for all runs.
    Attributes:
      blind: what cannot be observed; see `observe_manager`.
    """

    def __init__(self, handler: AnyKeyed):
        self._handler = handler
        self._followers = Followers()
        self._lock = threading.Lock()
        self.blind: list[str] = []
        for cohort, leaf in cohort_handlers(handler).items():
            self._follow(cohort, leaf)

    def _follow(self, cohort: Any, leaf: AnyHandler) -> None:
        load = vars(leaf).get("load_model")
        if isinstance(load, _Load):
            load.follow(self._followers, cohort)

    def on_joined(self, manager: Any, log: Log, sites: dict[Any, Site]) -> None:
        recorder, followers = recorder_for(log), self._followers
        with self._lock:
            if recorder in followers.runs:
                followers.add(recorder, sites)
                return
            is_first = not followers.runs
            followers.add(recorder, sites)
            followers.drop_ended()
        recorder.start_sampling()
        quiet_reader.prepare()
        step = next((site.step for site in sites.values()), None)
        for what in self.blind:
            recorder.emit(Unobserved(step=step, what=what))
        if not is_first:
            self._report_earlier(manager, recorder, step)

    def _report_earlier(self, manager: Any, recorder: Recorder, step: str | None) -> None:
        """Report the limit, models and evictions of earlier runs to a run that has joined."""
        followers = self._followers
        if len(followers.runs) > 1:
            for run, of in followers.steps():
                run.emit(Unobserved(step=of, what="other run"))
        if "limit" not in self.blind:
            limit = count_or_none(models_allowed(manager))
            recorder.emit(Limit(step=step, limit=limit))
        names = followers.names(recorder)
        held = {cohort: load_of(id(model)) for cohort, model in models_held(manager)}
        for cohort, load in held.items():
            if load is not None and cohort in names:
                load.report_to(recorder, names[cohort])
        for cohort in followers.evicted.intersection(names).difference(held):
            recorder.evicted_before(names[cohort])
        recorder.write_marks()

    def pending(self) -> bool:
        return any(run.marks for run in self._followers.runs)

    def on_evict(self, cohort: Any) -> None:
        self._followers.evicted.add(cohort)
        for run, site in self._followers.of(cohort):
            run.evicts(site)

    def on_load_returned(self) -> None:
        for run in self._followers.runs:
            run.load_returned()

    def on_conflict(self, error: BaseException) -> None:
        for run, step in self._followers.steps():
            run.emit(Conflicts(step=step, error=describe(error)))

    def on_limit(self, limit: Any) -> None:
        for run, step in self._followers.steps():
            run.emit(Limit(step=step, limit=count_or_none(limit)))

    def on_refresh(self, cohort: Any, previous: Any, handler: AnyHandler, path: str) -> None:
        load = vars(handler).get("load_model")
        if not isinstance(load, _Load):
            return
        name = _key_texts_of(self._handler).get(cohort, key_text(cohort))
        self._followers.split(cohort, previous, name)
        _move(handler, name)
        load.follow(self._followers, cohort)
        for run, site in self._followers.of(cohort):
            run.refreshes(site, path)


class _KeyedInference(_Watched):
    """`run_inference` of a keyed handler; finds which keys of a batch go to which model."""

    method = "run_inference"
    _handler: AnyKeyed

    def __init__(self, handler: AnyKeyed, log: Log, sites: dict[Any, Site]):
        super().__init__(handler, log)
        self._sites = sites
        self._cohorts: Mapping[Any, Any] = {}
        self._texts: dict[Any, str] | None = None
        self._joined = False

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cohorts": {}, "_texts": None, "_joined": False}

    def __call__(self, batch: Sequence[Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        original = self._original or self.original
        if _batch.owner is self:  # the handler calls itself, with a part of the batch
            return original(batch, model, *args, **kwargs)
        if not self._joined:
            self._join(model)
        _batch.plan = plan = self._plan(batch)
        _batch.owner = self
        try:
            return original(batch, model, *args, **kwargs)
        except BaseException as error:
            for visit in plan.values():
                visit.end(error)
            raise
        finally:
            _batch.plan = _batch.owner = None
            for visit in plan.values():
                visit.end()

    def _join(self, manager: Any) -> None:
        """Make the manager report to this run, first the models in memory from earlier runs."""
        self._joined = True
        step = next((site.step for site in self._sites.values()), None)
        self.recorder.emit(Copy(step=step))
        try:
            if not report_to(manager, self._log, self._sites):
                self.recorder.emit(Unobserved(step=step, what="earlier run"))
        except Exception as problem:  # it may be in another process that has ended
            what = f"models in memory before this run are not shown: {describe(problem)}"
            self.recorder.emit(Unobserved(step=step, what=what))

    def _plan(self, batch: Sequence[Any]) -> dict[str | None, _Visit]:
        if self._texts is None:
            self._cohorts = cohort_of_key(self._handler)
            self._texts = key_texts(self._cohorts)
        cohorts, texts = self._cohorts, self._texts
        plan: dict[str | None, _Visit] = {}
        try:
            for key, _ in batch:
                if key not in cohorts:
                    self._report_unknown(key)
                    continue
                cohort, name = texts[cohorts[key]], texts[key]
                visit = plan.get(cohort)
                if visit is None:
                    visit = plan[cohort] = _Visit()
                visit.n += 1
                if name in visit.keys:
                    visit.keys[name] += 1
                else:
                    visit.keys[name] = 1
        except Exception:
            return {}  # not (key, example) pairs: Beam raises the error
        for visit in plan.values():
            visit.left = visit.n
        return plan

    def _report_unknown(self, key: Any) -> None:
        step = next((site.step for site in self._sites.values()), None)
        self.recorder.emit(UnknownKey(step=step, error=_describe_key(key)))


def _describe_key(key: Any) -> str:
    """Return a key as text for a message, at most 200 characters."""
    try:
        return repr(key)[:200]
    except Exception as problem:
        return f"({describe(problem)})"
