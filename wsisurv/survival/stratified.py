"""Concordance within folds: models of different folds have no common origin, so no pair across folds is compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.dynamic import followed_until
from wsisurv.survival.follow_up import FollowUp
from wsisurv.survival.kaplan_meier import drawn_censoring
from wsisurv.survival.resampling import CASES, Resampled, Units, draw_weights

_AT_ONCE = 1 << 22
"""Weights (resamples · cases) held at once."""
_ROWS = 512
"""Cases with an event whose pairs are held at once; bounds memory at ``_ROWS · n`` numbers."""


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


def concordance_within(
    tested: Sequence[FoldScores],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    units: Units = CASES,
) -> Within:
    """Harrell's concordance of each model, from pairs within one fold only.

    Args:
        tested: folds, all with the same models.
        time: (n_cases,) of the cohort, positive.
        event: bool (n_cases,).
        entry: (n_cases,), time from which each case was followed; from 0 if None.
        resamples: bootstrap draws.
        seed: of the draws.
        units: what is drawn whole, cases or hospitals.

    Raises:
        MetricError: no fold, a log hazard that is not finite, or a repeat without a comparable pair in any fold (or in
            more than half of its resamples).
    """
    if not tested:
        raise MetricError("no fold was scored")
    for fold in tested:
        if not np.isfinite(fold.log_hazard).all():
            raise MetricError(f"a log hazard of repeat {fold.repeat + 1} is not finite")
    n_cases, n_models = len(time), len(tested[0].log_hazard)
    follow_up = FollowUp(np.zeros((1, n_cases)), time, event, entry)
    value = _over_repeats(tested, np.ones((1, n_cases), np.float32), follow_up)[:, 0]
    if not np.isfinite(value).all():
        raise MetricError(
            f"{len(tested)} folds of {n_cases} cases with {int(event.sum())} events: a repeat has no comparable pair "
            "in any fold. Fewer --folds or more events are needed."
        )
    draws = draw_weights(n_cases, resamples, seed, units, _AT_ONCE)
    drawn = np.concatenate([_over_repeats(tested, weights, follow_up) for weights in draws], axis=1)
    kept = np.isfinite(drawn).all(0)
    if 2 * int(kept.sum()) < resamples:
        raise MetricError(
            f"{int((~kept).sum())} of {resamples} bootstrap resamples have no comparable pair: {n_cases} cases with "
            f"{int(event.sum())} events are too few for an interval. Fewer --folds or more events are needed."
        )
    by_fold = np.full((len(tested), n_models), np.nan)
    for number, fold in enumerate(tested):
        pairs, score = _count(fold, np.ones((1, n_cases), np.float32), follow_up)
        if pairs[0] > 0:
            by_fold[number] = score[:, 0] / pairs[0]
    share = float(np.mean([len(fold.rows) / fold.n_train for fold in tested]))
    return Within(Resampled(value, drawn[:, kept], int((~kept).sum()), _few(tested, units)), by_fold, share)


def within_one_fold(data: FollowUp) -> NDArray[np.float64]:
    """Harrell's concordance of each model, all cases in one fold, float64 (n_models,); NaN without a pair."""
    n = len(data.times)
    one = FoldScores(0, np.arange(n), data.risks, n)
    return _over_repeats([one], np.ones((1, n), np.float32), data)[:, 0]


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
    entry: NDArray[np.float64] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    units: Units = CASES,
    until: float | None = None,
) -> UnoWithin:
    """Uno's concordance of each model: Harrell's, each pair weighted by 1/G(T−)² of the earlier case.

    G is the curve of censoring of all tested cases, which is smoother than that of one fold; with late entry, the share
    that is followed (``kaplan_meier.followed_share``). The value is the mean over
    folds, each weighted by its cases; folds without a comparable pair are left out. A resample keeps the truncation,
    which is part of what is asked, and has the censoring of its own cases.

    Args:
        tested: folds, all with the same models.
        time: (n_cases,), positive.
        event: bool (n_cases,).
        entry: (n_cases,), time from which each case was followed; from 0 if None.
        resamples: bootstrap draws.
        seed: of the draws.
        units: what is drawn whole, cases or hospitals.
        until: τ, only events earlier than this count; the time to which a tenth of all cases escaped censoring if None.

    Source: Uno H, Cai T, Pencina MJ, D'Agostino RB, Wei LJ. Statistics in Medicine 2011;30:1105-1117.
    """
    n_cases, follow_up = len(time), FollowUp(np.zeros((1, len(time))), time, event, entry)
    until = followed_until(time=time, event=event, entry=entry) if until is None else until

    def drawn(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        followed = drawn_censoring(weights, time=time, event=event, entry=entry)
        early = event & (time < until) & (weights > 0)
        return _uno_over_folds(tested, weights, np.where(early, followed, np.inf) ** -2.0, follow_up)

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
    follow_up: FollowUp,
) -> NDArray[np.float64]:
    """Mean over folds of Uno's concordance, (n_models, n_draws); NaN for a draw without a pair in any fold."""
    total, cases = np.zeros((len(tested[0].log_hazard), len(weights))), np.zeros(len(weights))
    for fold in tested:
        pairs, score = _count(fold, weights, follow_up, earlier)
        size = weights[:, fold.rows].sum(1, dtype=np.float64) * (pairs > 0)
        total += size * np.divide(score, pairs, out=np.zeros_like(score), where=pairs > 0)
        cases += size
    return np.divide(total, cases, out=np.full_like(total, np.nan), where=cases > 0)


def _over_repeats(
    tested: Sequence[FoldScores], weights: NDArray[np.float32], follow_up: FollowUp
) -> NDArray[np.float64]:
    """Mean over repeats of the concordance of all folds: (n_models, n_draws), NaN where a repeat has no pair."""
    values = []
    for repeat in sorted({fold.repeat for fold in tested}):
        counts = [_count(fold, weights, follow_up) for fold in tested if fold.repeat == repeat]
        pairs, score = (np.sum(parts, axis=0) for parts in zip(*counts, strict=True))
        values.append(np.divide(score, pairs, out=np.full_like(score, np.nan), where=pairs > 0))
    return np.asarray(np.mean(values, axis=0))


def _count(
    fold: FoldScores,
    weights: NDArray[np.float32],
    follow_up: FollowUp,
    earlier: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Comparable pairs of one fold (n_draws,), and how many of them each model has right (n_models, n_draws).

    Cases are weighted by each row of ``weights`` (n_draws, n_cases), and the earlier one of a pair by ``earlier``
    (n_draws, n_cases) too; 1 for each event if None. Row sums are whole numbers below 2^24 (twice the scores, so that a
    tie is 1), exact in float32.
    """
    here = follow_up.take(fold.rows)
    own, times, events, entries = weights[:, fold.rows], here.times, here.events, here.entries
    pairs, score = np.zeros(len(weights)), np.zeros((len(fold.log_hazard), len(weights)))
    counted = np.flatnonzero(events if earlier is None else earlier[:, fold.rows].any(0))
    for start in range(0, len(counted), _ROWS):
        first = counted[start : start + _ROWS]
        comparable = (times > times[first, None]) | ((times == times[first, None]) & ~events)
        if entries is not None:  # the other one was at risk then
            comparable &= entries < times[first, None]
        of_first = own[:, first] if earlier is None else own[:, first] * earlier[:, fold.rows[first]]
        pairs += np.einsum("bi,bi->b", of_first, own @ comparable.T.astype(np.float32), dtype=np.float64)
        for model, risk in enumerate(fold.log_hazard):
            twice = (risk[first, None] > risk).astype(np.float32) + (risk[first, None] >= risk)
            twice *= comparable
            score[model] += np.einsum("bi,bi->b", of_first, own @ twice.T, dtype=np.float64) / 2
    return pairs, score
