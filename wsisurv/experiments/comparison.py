"""Models side by side on the same cases and the same bootstrap resamples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from wsisurv.errors import MetricError
from wsisurv.survival.metrics import resample_concordance
from wsisurv.survival.resampling import Interval


@dataclass(frozen=True)
class ComparedModel:
    """One model of a comparison."""

    name: str  # the model
    concordance: Interval  # with its interval
    # concordance of the first model minus this one's, resample by resample; None in the first row
    difference: Interval | None


def compare(
    models: Mapping[str, ArrayLike],
    *,
    time: ArrayLike,
    event: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[ComparedModel, ...]:
    """Concordance of each model with its bootstrap interval, and how far the first model is ahead of each other one.

    All rows share the resamples, so the differences are paired and every row leaves out the same resamples: those
    without a comparable pair, counted in each interval.

    Args:
        models: name → log hazards (n,), higher is worse; in the order of the table.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        resamples: how many.
        seed: of the draws.
        level: coverage of the intervals.

    Raises:
        MetricError: no model; as ``metrics.resample_concordance``, the model named where its values are at fault.
    """
    if not models:
        raise MetricError("no model to compare")
    names = list(models)
    for name in names:
        values = np.asarray(models[name], dtype=np.float64)
        if values.shape != np.shape(time):
            raise MetricError(f"{name}: log hazards of shape {values.shape} for follow-up of shape {np.shape(time)}")
        if not np.isfinite(values).all():
            raise MetricError(f"{name}: log hazard of case {np.flatnonzero(~np.isfinite(values))[0]} is not finite")
    stacked = np.stack([np.asarray(models[name], dtype=np.float64) for name in names])
    drawn = resample_concordance(log_hazard=stacked, time=time, event=event, resamples=resamples, seed=seed)
    return tuple(
        ComparedModel(name, drawn.interval(number, level), drawn.difference(0, number, level) if number else None)
        for number, name in enumerate(names)
    )
