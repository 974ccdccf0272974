"""Concordance within folds: models of different folds have no common origin, so no pair across folds is compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.dynamic import followed_until
from wsisurv.survival.kaplan_meier import drawn_censoring
from wsisurv.survival.resampling import CASES, Resampled, Units, draw_weights

_AT_ONCE = 1 << 22
"""Weights (resamples · cases) held at once."""


@dataclass(frozen=True)
class FoldScores:
    """One fold, scored.

    Attributes:
        repeat: which division of the cohort it is part of.
        rows: int64 (n_test,), numbers of its cases in the cohort.
        log_hazard: float64 (n_models, n_test), by models that have not seen them; higher is worse.
        n_train: cases that the models were trained on.
    """

    repeat: int
    rows: NDArray[np.int64]
    log_hazard: NDArray[np.float64]
    n_train: int


@dataclass(frozen=True)
class Within:
    """Concordance of several models within folds.

    Attributes:
        whole: value and bootstrap resamples of each model: one draw serves all repeats; the
            value is the mean over repeats of (concordant pairs of all folds) / (comparable pairs of all folds).
        by_fold: float64 (n_folds, n_models), NaN for a fold without a comparable pair.
        test_share: mean of n_test / n_train over folds.
    """

    whole: Resampled
    by_fold: NDArray[np.float64]
    test_share: float

    def bootstrap_se(self, model: int, other: int) -> float:
        """Standard error of the difference of two models over the draws, the trained models being given."""
        return float((self.whole.resampled[model] - self.whole.resampled[other]).std(ddof=1))

    def fold_se(self, model: int, other: int) -> float | None:
        """Standard error of the difference over folds, models trained anew included; None with fewer than two folds.

        Training sets overlap, so the plain s/√J is far too small; s·√(1/J + n_test/n_train) corrects for it.

        Source: Nadeau C, Bengio Y. Inference for the generalization error. Machine Learning 2003;52:239-281.
        """
        difference = self.by_fold[:, model] - self.by_fold[:, other]
        known = difference[np.isfinite(difference)]
        if len(known) < 2:
            return None
        return float(known.std(ddof=1) * np.sqrt(1 / len(known) + self.test_share))


def value_within(
    tested: Sequence[FoldScores], *, time: NDArray[np.float64], event: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Concordance of each model, float64 (n_models,), from pairs within one fold only; as ``Within.whole.value``.

    Raises:
        MetricError: as ``concordance_within``.
    """
    if not tested:
        raise MetricError("no fold was scored")
    for fold in tested:
        if not np.isfinite(fold.log_hazard).all():
            raise MetricError(f"a log hazard of repeat {fold.repeat + 1} is not finite")
    value = _over_repeats(tested, np.ones((1, len(time)), np.float32), time, event)[:, 0]
    if not np.isfinite(value).all():
        raise MetricError(
            f"{len(tested)} folds of {len(time)} cases with {int(event.sum())} events: a repeat has no comparable pair "
            "in any fold. Fewer --folds or more events are needed."
        )
    return value


def concordance_within(
    tested: Sequence[FoldScores],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    resamples: int = 1000,
    seed: int = 0,
    units: Units = CASES,
) -> Within:
    """Harrell's concordance of each model, from pairs within one fold only.

    Args:
        tested: folds, all with the same models.
        time: (n_cases,) of the cohort, positive.
        event: bool (n_cases,).
        resamples: bootstrap draws.
        seed: of the draws.
        units: what is drawn whole, cases or hospitals.

    Raises:
        MetricError: no fold, a log hazard that is not finite, or a repeat without a comparable pair in any fold (or in
            more than half of its resamples).
    """
    value = value_within(tested, time=time, event=event)
    n_cases, n_models = len(time), len(tested[0].log_hazard)
    draws = draw_weights(n_cases, resamples, seed, units, _AT_ONCE)
    drawn = np.concatenate([_over_repeats(tested, weights, time, event) for weights in draws], axis=1)
    kept = np.isfinite(drawn).all(0)
    if 2 * int(kept.sum()) < resamples:
        raise MetricError(
            f"{int((~kept).sum())} of {resamples} bootstrap resamples have a repeat without a comparable pair: fewer "
            "--folds or more events are needed"
        )
    by_fold = np.full((len(tested), n_models), np.nan)
    for number, fold in enumerate(tested):
        count = _count(fold, np.ones((1, n_cases), np.float32), time, event)
        if count.pairs[0] > 0:
            by_fold[number] = count.score[:, 0] / count.pairs[0]
    share = float(np.mean([len(fold.rows) / fold.n_train for fold in tested]))
    return Within(Resampled(value, drawn[:, kept], int((~kept).sum()), _few(tested, units)), by_fold, share)


def _few(tested: Sequence[FoldScores], units: Units) -> float | None:
    """Effective number of hospitals for which to widen an interval; in several folds draws spread enough by themselves.

    There hospitals also come and go within a fold, and folds count more or less: simulated in tests.
    """
    return units.effective if len(tested) == 1 else None


@dataclass(frozen=True)
class UnoWithin:
    """Uno's concordance of several models within folds.

    Attributes:
        whole: value and bootstrap resamples of each model, by the draws of ``concordance_within``. NaN where no fold
            has a comparable pair, and no resamples where half of them can't give it.
        until: τ, where all folds are truncated.
    """

    whole: Resampled
    until: float


def uno_within(
    tested: Sequence[FoldScores],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    resamples: int = 1000,
    seed: int = 0,
    units: Units = CASES,
) -> UnoWithin:
    """Uno's concordance of each model: mean over folds, each weighted by its cases.

    All folds are truncated at one time, to which a tenth of all tested cases escaped censoring, and weighted by the
    censoring of all tested cases, which is smoother than that of one fold. Folds without a comparable pair are left
    out. A resample keeps the truncation, which is part of what is asked, and has the censoring of its own cases.

    Args:
        tested: folds, all with the same models.
        time: (n_cases,), positive.
        event: bool (n_cases,).
        resamples: bootstrap draws.
        seed: of the draws.
        units: what is drawn whole, cases or hospitals.

    Source: as ``dynamic.uno_concordance``.
    """
    n_cases, until = len(time), followed_until(time=time, event=event)

    def drawn(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        followed = drawn_censoring(weights, time=time, event=event)
        early = event & (time < until) & (weights > 0)
        return _uno_over_folds(tested, weights, np.where(early, followed, np.inf) ** -2.0, time, event)

    value = drawn(np.ones((1, n_cases), np.float32))[:, 0]
    values = [drawn(weights) for weights in draw_weights(n_cases, resamples, seed, units, _AT_ONCE)]
    resampled = np.concatenate([np.empty((len(value), 0)), *values], axis=1)
    kept = np.isfinite(resampled).all(0)
    enough = 2 * int(kept.sum()) >= resamples
    return UnoWithin(Resampled(value, resampled[:, kept & enough], int((~kept).sum()), _few(tested, units)), until)


def _uno_over_folds(
    tested: Sequence[FoldScores],
    weights: NDArray[np.float32],
    earlier: NDArray[np.float64],
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Mean over folds of Uno's concordance, (n_models, n_draws); NaN for a draw without a pair in any fold."""
    total, cases = np.zeros((len(tested[0].log_hazard), len(weights))), np.zeros(len(weights))
    for fold in tested:
        count = _count(fold, weights, time, event, earlier)
        size = weights[:, fold.rows].sum(1, dtype=np.float64) * (count.pairs > 0)
        total += size * np.divide(count.score, count.pairs, out=np.zeros_like(count.score), where=count.pairs > 0)
        cases += size
    return np.divide(total, cases, out=np.full_like(total, np.nan), where=cases > 0)


@dataclass(frozen=True)
class _FoldPairs:
    """Weighted comparable pairs (n_draws,) of a fold and how many of them each model has right (n_models, n_draws)."""

    pairs: NDArray[np.float64]
    score: NDArray[np.float64]


def _over_repeats(
    tested: Sequence[FoldScores], weights: NDArray[np.float32], time: NDArray[np.float64], event: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mean over repeats of the concordance of all folds: (n_models, n_draws), NaN where a repeat has no pair."""
    values = []
    for repeat in sorted({fold.repeat for fold in tested}):
        counts = [_count(fold, weights, time, event) for fold in tested if fold.repeat == repeat]
        pairs = np.sum([count.pairs for count in counts], axis=0)
        score = np.sum([count.score for count in counts], axis=0)
        values.append(np.divide(score, pairs, out=np.full_like(score, np.nan), where=pairs > 0))
    return np.asarray(np.mean(values, axis=0))


def _count(
    fold: FoldScores,
    weights: NDArray[np.float32],
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    earlier: NDArray[np.float64] | None = None,
) -> _FoldPairs:
    """Count pairs of one fold with cases weighted by each row of ``weights`` (n_draws, n_cases).

    The earlier case of a pair also has a weight of its own, ``earlier`` (n_draws, n_cases); 1 for each event if None.
    """
    own, times, events = weights[:, fold.rows], time[fold.rows], event[fold.rows]
    first = np.flatnonzero(events if earlier is None else earlier[:, fold.rows].any(0))
    if not len(first):
        return _FoldPairs(np.zeros(len(weights)), np.zeros((len(fold.log_hazard), len(weights))))
    comparable = (times > times[first, None]) | ((times == times[first, None]) & ~events)
    of_first = own[:, first] if earlier is None else own[:, first] * earlier[:, fold.rows[first]]

    def total(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(np.einsum("bi,bi->b", of_first, own @ matrix.T, dtype=np.float64))

    score = [
        total(comparable * ((risk[first, None] > risk) + 0.5 * (risk[first, None] == risk)).astype(np.float32))
        for risk in fold.log_hazard
    ]
    return _FoldPairs(total(comparable.astype(np.float32)), np.stack(score))
