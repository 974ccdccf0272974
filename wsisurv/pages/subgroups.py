"""How the student works in each part of the cohort."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.pages.predicted import CasePredictions
from wsisurv.pages.report_figures import CovariateValues
from wsisurv.survival.calibration import observed_over_expected
from wsisurv.survival.covariates import make_columns
from wsisurv.survival.resampling import choose_units
from wsisurv.survival.stratified import FoldScores, concordance_within

_MOST_LEVELS = 8
UNKNOWN = "unknown"
FEW_EVENTS = 5
"""With fewer no concordance is given: it would be that of two or three cases."""
RESAMPLES = 500
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
    # events over those that the student expects, with its exact 95 % interval; None where it gave no survival
    ratio: tuple[float, float, float] | None = None


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


def parts_of(predicted: CasePredictions) -> list[tuple[str, list[tuple[str, NDArray[np.bool_]]]]]:
    """What the cases are divided by, and the parts: name and whether each case is in it.

    Numbers are cut at their median, stages and grades by whole steps; of more than eight words, or hospitals, the seven
    with most cases stand alone. Cases of unknown value are a part, the last.
    """
    names = sorted({name for case in predicted.cases for name in case.covariates})
    values = list(known_covariates(predicted.cases, names))
    kinds = {column.name: column for column in make_columns(predicted.cases, names)} if names else {}
    for number, one in enumerate(values):
        if one.number is None and kinds[one.name].kind == "scale":
            steps = kinds[one.name].encode(predicted.cases)[:, 0]
            words = ["" if np.isnan(step) else f"{int(step)}" for step in steps.tolist()]
            values[number] = CovariateValues(one.name, word=tuple(words))
    sites = tuple(case.site or "" for case in predicted.cases)
    values += [CovariateValues("site", word=sites)] if any(sites) else []
    return [(one.name, _divided(one)) for one in values]


def subgroups(predicted: CasePredictions) -> tuple[Subgroup, ...]:
    """Concordance and calibration of the student in the parts that covariates and sites make, see ``parts_of``.

    Args:
        predicted: the cases and the risks of the folds.
    """
    everyone = np.ones(len(predicted.cases), dtype=bool)
    rows = [_subgroup(predicted, "all", "all cases", everyone)]
    return (
        *rows,
        *(_subgroup(predicted, by, name, chosen) for by, parts in parts_of(predicted) for name, chosen in parts),
    )


def expected_events(predicted: CasePredictions) -> NDArray[np.float64] | None:
    """Events that the student expects of each case over its own follow-up, (n,); None where it gave no survival."""
    if predicted.own_survival is None or not np.isfinite(predicted.own_survival[0]).all():
        return None
    return -np.log(np.clip(predicted.own_survival[0], 1e-12, 1.0))


def _divided(part: CovariateValues) -> list[tuple[str, NDArray[np.bool_]]]:
    if part.number is not None:
        median = float(np.nanmedian(part.number))
        unknown = ~np.isfinite(part.number)
        low = np.where(unknown, np.inf, part.number) < median
        cut = [(f"below {median:g}", low), (f"{median:g} or more", ~low & ~unknown)]
        return cut + ([(UNKNOWN, unknown)] if unknown.any() else [])
    word = np.array(part.word)
    counts = Counter(part.word)
    unknown_cases = counts.pop("", 0)
    often = sorted(counts, key=lambda one: (-counts[one], one))  # of equally many by name, not as they come
    often = often[: _MOST_LEVELS - 1 if len(counts) > _MOST_LEVELS else _MOST_LEVELS]
    parts = [(one, word == one) for one in sorted(often)]
    if rest := set(counts) - set(often):
        parts.append((f"the other {len(rest)}", np.isin(word, sorted(rest))))
    return parts + ([(UNKNOWN, word == "")] if unknown_cases else [])


def _subgroup(predicted: CasePredictions, by: str, name: str, chosen: NDArray[np.bool_]) -> Subgroup:
    cases, events = int(chosen.sum()), int(predicted.event[chosen].sum())
    expected = expected_events(predicted)
    ratio = None if expected is None else observed_over_expected(events, float(expected[chosen].sum()))
    nothing = Subgroup(by, name, cases, events, None, None, None, ratio)
    if events < FEW_EVENTS:
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
    time, event = predicted.ordered_time[chosen], predicted.event[chosen]
    entry = None if predicted.entry is None else predicted.entry[chosen]
    try:
        within = concordance_within(
            folds, time=time, event=event, entry=entry, resamples=RESAMPLES, seed=0, units=units
        )
    except MetricError:
        return nothing
    interval = within.whole.interval(0)
    return Subgroup(by, name, cases, events, interval.value, interval.low, interval.high, ratio)
