"""Are predicted probabilities of survival right? Brier score, and D-calibration.

The calibration slope of log hazards is ``cox.cox_slope``; probabilities come from ``baseline.BaselineHazard``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import FollowUp, checked_follow_up, checked_horizons, checked_survival
from wsisurv.survival.kaplan_meier import SurvivalCurve, followed_share, kaplan_meier


@dataclass(frozen=True)
class Brier:
    """Mean squared error of predicted survival; lower is better."""

    horizons: NDArray[np.float64]  # float64 (m,)
    score: NDArray[np.float64]  # float64 (m,), of the model
    reference: NDArray[np.float64]  # float64 (m,), of predicting the cohort's Kaplan-Meier curve for every case
    integrated: float  # mean of ``score`` over time, from the first horizon to the last
    integrated_reference: float  # that of ``reference``


@dataclass(frozen=True)
class DCalibration:
    """Test that predicted survival to one's own time is spread evenly from 0 to 1, as it is if predictions are right.

    Attributes:
        share: float64 (n_bins,), of the cases in each tenth (or other bin) of predicted survival, lowest first;
            1/n_bins each if calibrated.
        statistic: chi-squared.
        p: small where the predictions are not calibrated.
    """

    share: NDArray[np.float64]
    statistic: float
    p: float


def brier(
    *,
    survival: ArrayLike,
    horizons: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    censoring: SurvivalCurve | None = None,
) -> Brier:
    """Brier score at each horizon and integrated, censored cases made up for by weights.

    A case with the event at T ≤ t counts S(t)²/G(T−), one followed beyond t counts (1 − S(t))²/G(t), one censored
    before t nothing; G is the Kaplan-Meier curve of censoring, and with late entry the share that is followed, where a
    case that enters after t counts nothing either. Events come before censorings of the same time: one at T was at
    risk of being censored before T only. The integral is by the
    trapezoidal rule.

    Args:
        survival: (n, m), predicted probability of outliving each horizon.
        horizons: (m,), ascending, all before the longest follow-up.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        censoring: ``followed_share`` of the training cases; of these cases if None.

    Raises:
        MetricError: lengths differ, a value is out of range, nobody is followed beyond a horizon, or ``censoring`` says
            that nobody is followed as long as some case was.

    Source: Graf E, Schmoor C, Sauerbrei W, Schumacher M. Statistics in Medicine 1999;18:2529-2545.
    """
    data = checked_follow_up(time, event, entry)
    at = checked_horizons(horizons, data)
    predicted = checked_survival(survival, (len(data.times), len(at)))
    curve = censoring or followed_share(time=data.times, event=data.events, entry=data.entries)
    marginal = kaplan_meier(time=data.times, event=data.events, entry=data.entries).at(at)
    early, late = _weights(data, at, curve)
    score, reference = np.empty(len(at)), np.empty(len(at))
    for number, horizon in enumerate(at):
        died, alive = early * (data.times <= horizon), late[number] * (data.times > horizon)
        if data.entries is not None:
            alive = alive * (data.entries <= horizon)
        for scores, guess in ((score, predicted[:, number]), (reference, marginal[number])):
            scores[number] = np.mean(died * guess**2 + alive * (1 - guess) ** 2)
    return Brier(at, score, reference, mean_over_time(score, at), mean_over_time(reference, at))


def d_calibration(
    *, survival: ArrayLike, event: ArrayLike, n_bins: int = 10, before: ArrayLike | None = None
) -> DCalibration:
    """D-calibration of predicted survival to each case's own time.

    A case with the event counts in the bin of its prediction; where ``before`` is higher than ``survival``, since the
    model lets events happen at that very time, in equal density between the two. (With times in months or years all
    events of one would fall in one place else, and right predictions would look wrong.) One censored at predicted
    survival s would have had its event anywhere below s: it counts in equal density over 0 to s. That smooths: where
    most cases are censored, the test finds only gross faults, and a large p says little.

    Args:
        survival: (n,), predicted probability of outliving the case's own time, see ``BaselineHazard.survival_of``.
        event: (n,), bool or 0/1.
        n_bins: 2 or more; five cases a bin are wanted for the p-value.
        before: (n,), predicted survival to just before the case's own time; as ``survival`` if None.

    Raises:
        MetricError: lengths differ, a value is out of range, no event, or fewer than 5 cases a bin.

    Source: Haider H, Hoehn B, Davis S, Greiner R. Journal of Machine Learning Research 2020;21(85); of tied times,
    Czado C, Gneiting T, Held L. Biometrics 2009;65:1254-1261 (the non-randomised transform).
    """
    from scipy.stats import chi2

    data = checked_follow_up(np.ones(np.shape(event)), event)
    n = len(data.events)
    predicted = checked_survival(survival, (n,))
    if not data.events.any():
        raise MetricError(f"no D-calibration: none of {n} cases has an event")
    if n_bins < 2 or n < 5 * n_bins:
        raise MetricError(f"D-calibration of {n} cases in {n_bins} bins: two bins and five cases a bin are needed")
    high = predicted if before is None else np.maximum(checked_survival(before, (n,)), predicted)
    # of a censored case anything below its prediction; at 0 the event is in the lowest bin
    low = np.where(data.events, predicted, 0.0)
    high = np.where(data.events, high, np.maximum(predicted, np.finfo(np.float64).tiny))
    spread = high > low
    count = np.histogram(low[~spread], bins=n_bins, range=(0.0, 1.0))[0].astype(np.float64)
    low, high = low[spread], high[spread]
    for number in range(n_bins):
        ends = np.clip(np.stack([low, high]), number / n_bins, (number + 1) / n_bins)
        count[number] += np.sum((ends[1] - ends[0]) / (high - low))
    expected = n / n_bins
    statistic = float(np.sum((count - expected) ** 2) / expected)
    return DCalibration(count / n, statistic, float(chi2.sf(statistic, n_bins - 1)))


def observed_over_expected(observed: int, expected: float) -> tuple[float, float, float]:
    """Events over those expected, with the exact 95 % interval of a Poisson count, the expected number being given.

    Source: Garwood F. Biometrika 1936;28:437-442.
    """
    from scipy.stats import chi2

    low = float(chi2.ppf(0.025, 2 * observed)) / 2 if observed else 0.0
    return observed / expected, low / expected, float(chi2.ppf(0.975, 2 * observed + 2)) / 2 / expected


def _weights(
    data: FollowUp, at: NDArray[np.float64], curve: SurvivalCurve
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1/G(T−) of cases with an event by the last horizon, 0 of others, (n,); 1/G(t) of each horizon, (m,)."""
    counted = data.events & (data.times <= at[-1])
    own, horizon = curve.before(data.times), curve.at(at)
    if (own[counted] <= 0).any() or (horizon <= 0).any():
        raise MetricError(
            f"horizons to {at[-1]:g}, but the cases that censoring was learned from are all censored before: "
            "shorten the horizons"
        )
    return np.where(counted, 1 / np.maximum(own, np.finfo(np.float64).tiny), 0.0), 1 / horizon


def mean_over_time(values: NDArray[np.float64], at: NDArray[np.float64]) -> float:
    """Mean of values (m,) over the times (m,) they are of, by the trapezoidal rule."""
    if len(at) == 1:
        return float(values[0])
    steps = np.diff(at)
    return float(steps @ (values[1:] + values[:-1]) / 2 / steps.sum())
