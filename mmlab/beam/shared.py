"""Models shared between processes: their address files, references and release."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apache_beam.utils import multi_process_shared
from apache_beam.utils.multi_process_shared import MultiProcessShared

from mmlab.beam.guards import notify


def keep_addresses_in(folder: str) -> bool:
    """Set the folder for the lock and address files of this process's models.

    Beam writes two files for each load and removes none. It sets their folder to the temporary
    folder on import, which for a forked process was the parent's.

    Returns:
      Whether this version of Beam supports it.
    """
    defaults = getattr(MultiProcessShared.__init__, "__kwdefaults__", None) or {}
    if "path" in defaults:
        defaults["path"] = folder
    return "path" in defaults


def before_process_ends(callback: Callable[[], None]) -> None:
    """Call `callback` before Beam ends this process, if it holds a single model.

    Beam's `ModelManager` evicts a model by ending its process with `os._exit`, which skips exit
    handlers.
    """
    manager = getattr(multi_process_shared, "_process_level_singleton_manager", None)
    entry_type = getattr(multi_process_shared, "_SingletonEntry", None)
    if getattr(manager, "_hard_delete_callback", None) is None or entry_type is None:
        return
    end = entry_type.unsafe_hard_delete

    def unsafe_hard_delete(entry: Any) -> None:
        exit_process = entry._hard_delete_callback

        def write_then_exit() -> None:
            notify(callback)
            exit_process()

        if exit_process is not None:
            entry._hard_delete_callback = write_then_exit
        end(entry)

    entry_type.unsafe_hard_delete = unsafe_hard_delete


def _is_proxy(reference: Any) -> bool:
    """Whether the `model` argument of `run_inference` is a proxy, and not the model itself."""
    return type(reference).__name__ == "_AutoProxyWrapper"


def held_model(reference: Any) -> Any | None:
    """Return the model behind the `model` argument of `run_inference`.

    Models of a keyed handler come as a proxy. Returns None if another process holds the model, or
    if this process serves it and reaches it like any other process; see `served_model`.
    """
    if not _is_proxy(reference):
        return reference
    try:
        return vars(reference._proxyObject)["_SingletonProxy_entry"].obj
    except (AttributeError, KeyError, TypeError):
        return None


def served_model(reference: Any, is_known: Callable[[Any], bool]) -> Any | None:
    """Return the model behind a reference if this process serves it to others and to itself.

    Args:
      reference: the `model` argument of `run_inference`.
      is_known: whether a model may be the one; others are skipped, as each check reads a file.
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
