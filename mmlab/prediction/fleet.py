"""Predictions for several machines: sprayed elements against routing by key or by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import pandas as pd

from mmlab._text import plural, shown_everywhere
from mmlab.prediction.prediction import Prediction, predictions
from mmlab.prediction.workload import ROUTINGS, Routing, Workload


@shown_everywhere
@dataclass(frozen=True, eq=False, repr=False)
class Fleet:
    """Predictions for the same elements under each routing.

    Attributes:
      predictions: routing to its prediction.
    """

    predictions: dict[Routing, Prediction]

    def table(self, hint: int | None = None) -> pd.DataFrame:
        """One row per routing, under one hint; None means no hint.

        Columns: loads and evictions of all processes; loads of the process that loads most; most
        models accessed by one process; skew, which is the elements of the busiest process divided
        by the mean (1 is even); bytes of models on the fullest machine, if sizes are known.

        Raises:
          ValueError: there is no such hint.
        """
        rows = {}
        for routing, prediction in self.predictions.items():
            each = prediction.per_worker(hint)
            rows[routing] = {
                "loads": int(each["loads"].sum()),
                "evictions": int(each["evictions"].sum()),
                "loads of the busiest": int(each["loads"].max()),
                "models per process": int(each["models"].max()),
                "skew": round(float(each["elements"].max() / each["elements"].mean()), 2),
            }
            if prediction.machine_bytes is not None:
                at = prediction.machine_bytes[prediction.index(hint)]
                rows[routing]["model bytes of the fullest machine"] = int(at)
        return pd.DataFrame.from_dict(rows, orient="index", dtype=object).rename_axis("routing")

    def __repr__(self) -> str:
        p = next(iter(self.predictions.values()))
        lines = [
            f"{plural(p.elements, 'element')} for {plural(len(p.models), 'model')} on "
            f"{plural(p.workload.workers, 'machine')} × {plural(p.processes, 'process')}, "
            "without a hint"
        ]
        for routing, row in self.table().iterrows():
            lines.append(
                f"  {routing}: {plural(row['loads'], 'load')}, at most "
                f"{plural(row['models per process'], 'model')} per process, skew "
                f"{row['skew']}"
            )
        return "\n".join(lines)


def compare_routings(
    keys: Any,
    mapping_or_handler: Any = None,
    *,
    workers: int,
    processes: int = 1,
    batch_size: int | None = None,
    copies: int | None = None,
    sizes: Mapping[Any, Real] | Sequence[Real] | Real | None = None,
    optimum: bool = False,
    column: str | None = None,
    step: str | None = None,
    seed: int = 0,
) -> Fleet:
    """Predict `workers` machines × `processes` for every routing, reading the keys once.

    Arguments and errors are those of `mmlab.predict`. The optimum is off by default, so that memory
    does not grow with the number of keys if all models have one size.
    """
    workload = Workload(batch_size, workers, processes, copies, "spray", sizes, optimum, seed)
    workloads = [replace(workload, routing=routing) for routing in ROUTINGS]
    found = predictions(keys, mapping_or_handler, workloads, column=column, step=step)
    return Fleet(dict(zip(ROUTINGS, found, strict=True)))
