"""Concordance within folds: models of different folds have no common origin, so no pair across folds is compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.dynamic import followed_until
from wsisurv.survival.follow_up import FollowUp
from wsisurv.survival.kaplan_meier import drawn_censoring
from wsisurv.survival.resampling import CASES, Resampled, Units, draw_weights

_AT_ONCE = 1 << 19
"""Weights (resamples · cases) held at once, as many as a processor's cache holds."""
_ALL_WITH_ALL = 256
"""Cases so few that comparing all with all is quicker than sorting them."""


@dataclass(frozen=True)
class FoldScores:
    """One fold, scored."""

    repeat: int  # which division of the cohort it is part of
    rows: NDArray[np.int64]  # int64 (n_test,), numbers of its cases in the cohort
    log_hazard: NDArray[np.float64]  # float64 (n_models, n_test), by models that have not seen them; higher is worse
    n_train: int  # cases that the models were trained on


@dataclass(frozen=True)
class Within:
    """Concordance of several models within folds."""

    # value and bootstrap resamples of each model: one draw serves all repeats; the value is the mean over repeats of
    # (concordant pairs of all folds) / (comparable pairs of all folds)
    whole: Resampled
    by_fold: NDArray[np.float64]  # float64 (n_folds, n_models), NaN for a fold without a comparable pair
    test_share: float  # mean of n_test / n_train over folds
    pairs: int  # of cases that were compared, over all folds

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
    by_fold, compared = np.full((len(tested), n_models), np.nan), 0.0
    for number, fold in enumerate(tested):
        pairs, score = _count(fold, np.ones((1, n_cases), np.float32), follow_up)
        compared += float(pairs[0])
        if pairs[0] > 0:
            by_fold[number] = score[:, 0] / pairs[0]
    share = float(np.mean([len(fold.rows) / fold.n_train for fold in tested]))
    resampled = Resampled(value, drawn[:, kept], int((~kept).sum()), _few(tested, units))
    return Within(resampled, by_fold, share, round(compared))


def within_one_fold(data: FollowUp) -> NDArray[np.float64]:
    """Harrell's concordance of each model, all cases in one fold, float64 (n_models,); NaN without a pair."""
    n = len(data.times)
    one = FoldScores(0, np.arange(n), data.risks, n)
    return _over_repeats([one], np.ones((1, n), np.float32), data)[:, 0]


def concordance_of_parts(
    tested: Sequence[FoldScores],
    parts: Sequence[NDArray[np.bool_]],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
    weights: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Concordance of the first model in each part of the cases, all on the same draws, float64 (n_parts, n_draws).

    Args:
        tested: folds.
        parts: whether each case is in the part, (n_cases,) each.
        time: (n_cases,), positive.
        event: bool (n_cases,).
        entry: (n_cases,), time from which each case was followed; from 0 if None.
        weights: (n_draws, n_cases), how often each case is drawn.

    Returns:
        Pairs of cases of one part and one fold; NaN where there is none.
    """
    follow_up = FollowUp(np.zeros((1, len(time))), time, event, entry)
    found = np.full((len(parts), len(weights)), np.nan)
    for number, part in enumerate(parts):
        inside = [
            FoldScores(fold.repeat, fold.rows[part[fold.rows]], fold.log_hazard[:1, part[fold.rows]], fold.n_train)
            for fold in tested
            if part[fold.rows].any()
        ]
        if inside:
            found[number] = _over_repeats(inside, weights, follow_up)[0]
    return found


def _few(tested: Sequence[FoldScores], units: Units) -> float | None:
    """Effective number of hospitals for which to widen an interval; in several folds draws spread enough by themselves.

    There hospitals also come and go within a fold, and folds count more or less: simulated in tests.
    """
    return units.effective if len(tested) == 1 else None


@dataclass(frozen=True)
class UnoWithin:
    """Uno's concordance of several models within folds."""

    # value and bootstrap resamples of each model, by the draws of ``concordance_within``. NaN where no fold has a
    # comparable pair, and no resamples where half of them can't give it.
    whole: Resampled
    until: float  # τ, where all folds are truncated


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
    cause: NDArray[np.int64] | None = None,
) -> UnoWithin:
    """Uno's concordance of each model: Harrell's, each pair weighted by 1/G(T−)² of the earlier case.

    G is the curve of censoring of all tested cases, which is smoother than that of one fold; with late entry, the share
    that is followed (``kaplan_meier.followed_share``). The value is the mean over
    folds, each weighted by its cases; folds without a comparable pair are left out. A resample keeps the truncation,
    which is part of what is asked, and has the censoring of its own cases.

    With competing events G is of censoring alone, and who had one earlier, at S < T, is compared with each later event
    too, below which it belongs, with the weight 1/(G(S−) G(T−)).

    Args:
        tested: folds, all with the same models.
        time: (n_cases,), positive.
        event: bool (n_cases,).
        entry: (n_cases,), time from which each case was followed; from 0 if None.
        resamples: bootstrap draws.
        seed: of the draws.
        units: what is drawn whole, cases or hospitals.
        until: τ, only events earlier than this count; the time to which a tenth of all cases escaped censoring if None.
        cause: (n_cases,), 0 censored, 1 the event, 2 a competing one; None where nothing competes.

    Source: Uno H, Cai T, Pencina MJ, D'Agostino RB, Wei LJ. Statistics in Medicine 2011;30:1105-1117; with competing
    events, Wolbers M, Blanche P, Koller MT, Witteman JCM, Gerds TA. Biostatistics 2014;15:526-539.
    """
    n_cases, follow_up = len(time), FollowUp(np.zeros((1, len(time))), time, event, entry)
    gone = event if cause is None else cause > 0
    until = followed_until(time=time, event=gone, entry=entry) if until is None else until

    def drawn(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        followed = drawn_censoring(weights, time=time, event=gone, entry=entry)
        early = (time < until) & (weights > 0)
        own, other = (np.where(early & of, followed, np.inf) for of in (event, gone & ~event))
        return _uno_over_folds(tested, weights, own, other, follow_up)

    value = drawn(np.ones((1, n_cases), np.float32))[:, 0]
    values = [drawn(weights) for weights in draw_weights(n_cases, resamples, seed, units, _AT_ONCE)]
    resampled = np.concatenate([np.empty((len(value), 0)), *values], axis=1)
    kept = np.isfinite(resampled).all(0)
    enough = 2 * int(kept.sum()) >= resamples
    return UnoWithin(Resampled(value, resampled[:, kept & enough], int((~kept).sum()), _few(tested, units)), until)


def _uno_over_folds(
    tested: Sequence[FoldScores],
    weights: NDArray[np.float32],
    own: NDArray[np.float64],
    other: NDArray[np.float64],
    follow_up: FollowUp,
) -> NDArray[np.float64]:
    """Mean over folds of Uno's concordance, (n_models, n_draws); NaN for a draw without a pair in any fold.

    G(T−) of each event that counts, and of each competing event that does, (n_draws, n_cases); else infinite.
    """
    # with time turned round, an event comes before the competing events that were earlier than it
    turned = FollowUp(follow_up.risks, -follow_up.times, np.zeros_like(follow_up.events))
    total, cases = np.zeros((len(tested[0].log_hazard), len(weights))), np.zeros(len(weights))
    for fold in tested:
        pairs, score = _count(fold, weights, follow_up, own**-2.0)
        if np.isfinite(other[:, fold.rows]).any():
            more = _count(fold, weights, turned, 1 / own, 1 / other)
            pairs, score = pairs + more[0], score + more[1]
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
    later: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Comparable pairs of one fold (n_draws,), and how many of them each model has right (n_models, n_draws).

    Cases are weighted by each row of ``weights`` (n_draws, n_cases), and the earlier one of a pair by ``earlier``
    (n_draws, n_cases) too; 1 for each event if None. Sums over later cases are whole numbers below 2^24 (twice the
    scores, so that a tie is 1), exact in float32; or weighted by ``later``, in float64, without late entry.

    Cases are put in order of time, events before censorings, so that one is comparable with all that come later and
    are not at its very place. They are halved again and again: pairs of a case of the first half with one of the second
    are counted by sums along the second, sorted by risk; few cases are compared all with all. O(n log n) a draw.
    """
    here = follow_up.take(fold.rows)
    case, times, events = np.arange(len(fold.rows)), here.times, here.events
    if here.entries is not None:  # counted once less among those who come later than what is before its entry
        case, times = np.concatenate([case, case]), np.concatenate([times, here.entries])
        events = np.concatenate([events, np.zeros_like(events)])
    place = np.unique(2 * np.unique(times, return_inverse=True)[1] + ~events, return_inverse=True)[1]
    order = np.argsort(place, kind="stable")
    place, entered, case = place[order], order >= len(fold.rows), case[order]
    rows, risks = fold.rows[case], fold.log_hazard[:, case]
    counted = np.asarray(events[order] if earlier is None else (earlier[:, rows] > 0).any(0) & ~entered)
    own: NDArray[Any] = np.ascontiguousarray(weights.T[rows])
    own[entered] *= -1
    of_first = own if earlier is None else own * earlier.T[rows]
    own = own if later is None else own * later.T[rows]
    pairs, score = np.zeros(len(weights)), np.zeros((len(risks), len(weights)))
    parts = [(0, len(rows))]
    while parts:
        start, end = parts.pop()
        middle = _halved(place, start, end) if end - start > _ALL_WITH_ALL else None
        first = start + np.flatnonzero(counted[start : end if middle is None else middle])
        if not len(first):
            parts += [] if middle is None else [(middle, end)]
            continue
        weight = of_first[first]
        if middle is None:
            after = (place[start:end] > place[first, None]).astype(np.float32)
            pairs += _sums(weight, after @ own[start:end])
            for model, risk in enumerate(risks):
                twice = (risk[first, None] > risk[start:end]) + (risk[first, None] >= risk[start:end]) * after
                score[model] += _sums(weight, (twice * after) @ own[start:end]) / 2
        else:
            parts += [(start, middle), (middle, end)]
            pairs += _sums(weight, own[middle:end].sum(0)[None])
            for model, risk in enumerate(risks):
                up = middle + np.argsort(risk[middle:end], kind="stable")
                below = np.concatenate([np.zeros_like(own[:1]), own[up].cumsum(0)])
                lower, not_higher = (np.searchsorted(risk[up], risk[first], side) for side in ("left", "right"))
                score[model] += _sums(weight, below[lower] + below[not_higher]) / 2
    return pairs, score


def _halved(place: NDArray[np.int64], start: int, end: int) -> int | None:
    """Where cases in order are halved, no two of one place apart; None where all are of one place."""
    middle = place[(start + end) // 2]
    low, high = (start + int(np.searchsorted(place[start:end], middle, side)) for side in ("left", "right"))
    return low if low > start else high if high < end else None


def _sums(weight: NDArray[Any], later: NDArray[Any]) -> NDArray[np.float64]:
    """Sum over the earlier cases of pairs, weight by count of later ones: (n_draws,) of twice (n_first, n_draws)."""
    return np.asarray((weight * later.astype(np.float64)).sum(0))
