"""Landmark figures: how models do among the cases that are alive, free of the event and followed at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.experiments.side_by_side import Difference, ModelFigures, compare_models
from wsisurv.experiments.tested import ScoredFold, number_tested
from wsisurv.survival.prognosis import PER_YEAR


@dataclass(frozen=True)
class Landmark:
    """Figures of the cases that are followed beyond a time; models are not fitted anew, probabilities are."""

    years: float
    time: float  # the same in the cohort's unit
    cases: int  # alive then and tested
    events: int  # after it
    models: tuple[ModelFigures, ...]  # a row each; none where ``reason`` says why
    differences: tuple[Difference, ...] = ()
    reason: str = ""


def alive_at(at: float, time: NDArray[np.float64], entry: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Whether each case is alive, free of the event, and followed at a time, bool (n,)."""
    return np.asarray((time > at) & (True if entry is None else entry <= at))


def landmark_figures(
    folds: Sequence[ScoredFold],
    cases: Sequence[Case],
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    *,
    years: float,
    time_unit: str,
    resamples: int,
    seed: int,
) -> Landmark:
    """Figures of each model among the cases alive at a landmark, as ``compare_models`` gives them of all.

    Args:
        folds: all scored by the same models.
        cases: of the cohort, in the order that ``ScoredFold.rows`` counts in.
        names: of the models.
        pairs: which model minus which.
        years: the landmark.
        time_unit: of the cases.
        resamples: bootstrap draws.
        seed: of the draws.

    Source: van Houwelingen HC. Scandinavian Journal of Statistics 2007;34:70-85.
    """
    at = years * PER_YEAR[time_unit]
    alive = alive_at(at, np.array([case.time for case in cases]), np.array([case.entry for case in cases]))
    chosen = [_among(fold, alive) for fold in folds]
    chosen = [fold for fold in chosen if len(fold.rows)]
    if not chosen:
        return Landmark(years, at, 0, 0, (), reason="nobody was followed so long")
    tested = number_tested(chosen, cases, names)
    n_cases, n_events = len(tested.cases), int(tested.event.sum())
    try:
        compared = compare_models(tested, names, pairs, resamples=resamples, seed=seed)
    except MetricError as error:
        return Landmark(years, at, n_cases, n_events, (), reason=str(error))
    return Landmark(years, at, n_cases, n_events, compared.models, compared.differences)


def _among(fold: ScoredFold, alive: NDArray[np.bool_]) -> ScoredFold:
    here = alive[fold.rows]
    return replace(fold, rows=fold.rows[here], risks={name: values[here] for name, values in fold.risks.items()})
