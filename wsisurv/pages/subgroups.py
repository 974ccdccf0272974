"""Does the student work as well in each part of the cohort?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.pages.predicted import CasePredictions
from wsisurv.pages.report_figures import CovariateValues
from wsisurv.survival.resampling import choose_units
from wsisurv.survival.stratified import FoldScores, concordance_within

_MOST_LEVELS = 8
_FEW_EVENTS = 5
"""With fewer no concordance is given: it would be that of two or three cases."""
_RESAMPLES = 500
"""Bootstrap draws, of hospitals where those of a part are whole and enough, else of cases."""
_FEW_NUMBERS = 5
"""A covariate of no more numbers than this is one of levels, as stages are."""


@dataclass(frozen=True)
class Subgroup:
    """Concordance in one part of the cohort."""

    by: str  # what the cohort is divided by
    name: str  # the part
    cases: int  # in it
    events: int  # among them
    concordance: float | None  # of the student, within folds; None with fewer than five events or no comparable pair
    low: float | None  # lower end of its 95 % bootstrap interval
    high: float | None  # upper end


def known_covariates(cases: Sequence[Case], names: Sequence[str]) -> tuple[CovariateValues, ...]:
    """Covariates of the cases: as numbers where all that is known is one and there are many, else as words."""
    found = []
    for name in names:
        words = tuple(case.covariates.get(name, "") for case in cases)
        try:
            numbers = np.array([float(word) if word else np.nan for word in words])
        except ValueError:
            found.append(CovariateValues(name, word=words))
            continue
        if len(np.unique(numbers[np.isfinite(numbers)])) <= _FEW_NUMBERS:
            found.append(CovariateValues(name, word=words))
        else:
            found.append(CovariateValues(name, number=numbers))
    return tuple(found)


def subgroups(predicted: CasePredictions) -> tuple[Subgroup, ...]:
    """Concordance of the student in the parts that covariates and sites make; numbers are cut at their median.

    A covariate of words with more than eight of them is left out.

    Args:
        predicted: the cases and the risks of the folds.
    """
    everyone = np.ones(len(predicted.cases), dtype=bool)
    rows = [_subgroup(predicted, "all", "all cases", everyone)]
    names = sorted({name for case in predicted.cases for name in case.covariates})
    parts = list(known_covariates(predicted.cases, names))
    sites = tuple(case.site or "" for case in predicted.cases)
    parts += [CovariateValues("site", word=sites)] if any(sites) else []
    for part in parts:
        for name, chosen in _divided(part):
            rows.append(_subgroup(predicted, part.name, name, chosen))
    return tuple(rows)


def _divided(part: CovariateValues) -> list[tuple[str, NDArray[np.bool_]]]:
    if part.number is not None:
        median = float(np.nanmedian(part.number))
        unknown = ~np.isfinite(part.number)
        low = np.where(unknown, np.inf, part.number) < median
        cut = [(f"below {median:g}", low), (f"{median:g} or more", ~low & ~unknown)]
        return cut + ([("unknown", unknown)] if unknown.any() else [])
    words = sorted(set(part.word), key=lambda word: (word == "", word))
    if len(words) > _MOST_LEVELS:
        return []
    return [(word or "unknown", np.array([seen == word for seen in part.word])) for word in words]


def _subgroup(predicted: CasePredictions, by: str, name: str, chosen: NDArray[np.bool_]) -> Subgroup:
    cases, events = int(chosen.sum()), int(predicted.event[chosen].sum())
    nothing = Subgroup(by, name, cases, events, None, None, None)
    if events < _FEW_EVENTS:
        return nothing
    new_row = np.cumsum(chosen) - 1
    folds = []
    for fold in predicted.folds:
        here = chosen[fold.rows]
        if here.any():
            folds.append(FoldScores(fold.repeat, new_row[fold.rows[here]], fold.log_hazard[:, here], fold.n_train))
    repeats = {fold.repeat for fold in folds}
    units = choose_units(
        [case.site for case, is_in in zip(predicted.cases, chosen, strict=True) if is_in],
        [[fold.rows for fold in folds if fold.repeat == repeat] for repeat in repeats],
    )
    time, event = predicted.time[chosen], predicted.event[chosen]
    entry = None if predicted.entry is None else predicted.entry[chosen]
    try:
        within = concordance_within(
            folds, time=time, event=event, entry=entry, resamples=_RESAMPLES, seed=0, units=units
        )
    except MetricError:
        return nothing
    interval = within.whole.interval(0)
    return Subgroup(by, name, cases, events, interval.value, interval.low, interval.high)
