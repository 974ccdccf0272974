"""Figures within folds that need times or probabilities: AUC over time, Brier score, D-calibration.

A Cox model gives no probability by itself. Here a tested case's comes from slope and baseline hazard that were fitted
on the tested cases of the other folds of its repeat, whose log hazards are out of fold as well: in the way in which
``predict`` turns a student's log hazard into survival. So the case's own outcome has no direct part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.experiments.tested import Repeat, join_repeats
from wsisurv.survival.calibration import Brier, brier, d_calibration
from wsisurv.survival.competing import CompetingBrier, competing_brier, cumulative_incidence
from wsisurv.survival.dynamic import dynamic_auc, followed_until
from wsisurv.survival.follow_up import FollowUp
from wsisurv.survival.kaplan_meier import SurvivalCurve, followed_share
from wsisurv.survival.prognosis import fit_prognosis, no_further
from wsisurv.survival.stratified import FoldScores

_HORIZONS = 9
_BINS = 10
"""Bins of D-calibration, fewer where there are not five cases for each."""
_FEW = 2
"""Events that the other folds must have, at least, for a baseline hazard."""


@dataclass(frozen=True)
class Auc:
    """Cumulative/dynamic AUC within folds."""

    horizons: NDArray[np.float64]  # float64 (m,)
    # float64 (n_models, m), mean over folds, each weighted by its cases; NaN where no fold can give it
    auc: NDArray[np.float64]
    mean: NDArray[
        np.float64
    ]  # float64 (n_models,), over the horizons, each weighted by the share with the event before it


@dataclass(frozen=True)
class ProbabilityScores:
    """How right a model's probabilities are, mean over repeats."""

    brier: float  # integrated Brier score, lower is better
    reference: float  # that of the tested cases' own Kaplan-Meier curve, which knows no case from another
    # float64 (n_bins,), share of the cases in each tenth of predicted survival to their own time; in fewer parts where
    # there are less than 50 cases
    d_share: NDArray[np.float64]
    # of D-calibration; small where the probabilities are wrong. The median over repeats, doubled where there are
    # several.
    d_p: float


def make_horizons(
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
    cause: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Nine times at which a tenth, two tenths … of the events have happened, ascending and distinct.

    Only events count before the time to which a tenth of the cases escaped censoring: weights stay below 10.

    Raises:
        MetricError: no such event.
    """
    until = followed_until(time=time, event=event if cause is None else cause > 0, entry=entry)
    early = time[event & (time < min(until, time.max()))]
    if not len(early):
        raise MetricError(f"no event before {until:g}, to which a tenth of the cases was followed")
    return np.unique(np.quantile(early, np.linspace(0.1, 0.9, _HORIZONS), method="inverted_cdf"))


def auc_within(
    tested: Sequence[FoldScores],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    horizons: NDArray[np.float64],
    entry: NDArray[np.float64] | None = None,
    cause: NDArray[np.int64] | None = None,
) -> Auc:
    """AUC of each model from pairs within one fold only, weighted by the censoring of all tested cases.

    A fold takes part at the horizons by which it has an event and beyond which it has a case.

    Args:
        tested: folds, all with the same models.
        time: (n_cases,), positive.
        event: bool (n_cases,).
        horizons: (m,), see ``make_horizons``.
        entry: (n_cases,), time from which each was followed; from 0 if None.
        cause: (n_cases,), 0 censored, 1 the event, 2 a competing one; None where nothing competes.
    """
    causes = event.astype(np.int64) if cause is None else cause
    censoring = followed_share(time=time, event=causes > 0, entry=entry)
    total, weight = np.zeros((len(tested[0].log_hazard), len(horizons))), np.zeros(len(horizons))
    for fold in tested:
        times, events = time[fold.rows], event[fold.rows]
        first = times[events].min() if events.any() else np.inf
        given = np.flatnonzero((horizons >= first) & (horizons < times.max()))
        if not given.size:
            continue
        at = horizons[given]
        for model, risk in enumerate(fold.log_hazard):
            result = dynamic_auc(
                log_hazard=risk,
                time=times,
                event=events,
                entry=None if entry is None else entry[fold.rows],
                horizons=at,
                censoring=censoring,
                cause=causes[fold.rows],
            )
            total[model, given] += len(fold.rows) * result.auc
        weight[given] += len(fold.rows)
    auc = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    rises = np.diff(cumulative_incidence(time=time, cause=causes, entry=entry).at(horizons), prepend=0.0)
    known = weight > 0
    mean = auc[:, known] @ rises[known] / rises[known].sum() if known.any() else np.full(len(auc), np.nan)
    return Auc(horizons, auc, mean)


def predicted_within(
    tested: Sequence[FoldScores],
    model: int,
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    horizons: NDArray[np.float64],
    entry: NDArray[np.float64] | None = None,
    cause: NDArray[np.int64] | None = None,
) -> ProbabilityScores:
    """Brier score and D-calibration of one model.

    With competing events the Brier score is of the absolute risk, and D-calibration of the hazard of the event.

    Args:
        tested: folds, two or more in each repeat.
        model: its number in ``FoldScores.log_hazard``.
        time: (n_cases,), positive.
        event: bool (n_cases,).
        horizons: (m,), see ``make_horizons``.
        entry: (n_cases,), time from which each was followed; from 0 if None.
        cause: (n_cases,), 0 censored, 1 the event, 2 a competing one; None where nothing competes.

    Raises:
        MetricError: a repeat of one fold (there is nothing to learn a baseline from), too few events or cases.
    """
    data, censoring = (
        FollowUp(np.zeros((1, len(time))), time, event, entry),
        followed_share(time=time, event=event, entry=entry),
    )
    scores, references, shares, p_values = [], [], [], []
    for repeat in join_repeats(tested):
        causes = None if cause is None else cause[repeat.rows]
        one = _scores(repeat, model, data.take(repeat.rows), horizons, censoring, causes)
        scores.append(one.brier)
        references.append(one.reference)
        shares.append(one.d_share)
        p_values.append(one.d_p)
    doubled = 2 if len(p_values) > 1 else 1  # Meinshausen et al., JASA 2009;104:1671, with γ = 1/2
    return ProbabilityScores(
        brier=float(np.mean(scores)),
        reference=float(np.mean(references)),
        d_share=np.mean(shares, axis=0),
        d_p=min(1.0, doubled * float(np.median(p_values))),
    )


def _scores(
    repeat: Repeat,
    model: int,
    data: FollowUp,
    horizons: NDArray[np.float64],
    censoring: SurvivalCurve,
    cause: NDArray[np.int64] | None,
) -> ProbabilityScores:
    """Figures of one repeat from the follow-up of its cases, in the order of its rows."""
    rows, risk, times, events = repeat.rows, repeat.log_hazard[model], data.times, data.events
    survival, own, before = np.empty((len(rows), len(horizons))), np.empty(len(rows)), np.empty(len(rows))
    for fold in np.unique(repeat.fold):
        here, others = repeat.fold == fold, repeat.fold != fold
        if int(events[others].sum()) < _FEW:
            raise MetricError("no probabilities: the other folds have too few events for a baseline hazard")
        rest, one = data.take(others), data.take(here)
        prognosis = fit_prognosis(
            log_hazard=risk[others],
            time=rest.times,
            event=rest.events,
            entry=rest.entries,
            cause=None if cause is None else cause[others],
        )
        last, own_risk = prognosis.baseline.followed_until, no_further(risk[here], risk[others])
        survival[here] = prognosis.event_free(log_hazard=own_risk, horizons=np.minimum(horizons, last))
        own[here], before[here] = prognosis.own_survival(log_hazard=own_risk, time=one.times, entry=one.entries)
    score: Brier | CompetingBrier
    if cause is None:
        score = brier(
            survival=survival, horizons=horizons, time=times, event=events, entry=data.entries, censoring=censoring
        )
    else:
        score = competing_brier(risk=1 - survival, horizons=horizons, time=times, cause=cause, entry=data.entries)
    d = d_calibration(survival=own, before=before, event=events, n_bins=max(2, min(_BINS, len(rows) // 5)))
    return ProbabilityScores(score.integrated, score.integrated_reference, d.share, d.p)
