"""Follow-up of cases as arrays, checked once and in one place."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError


@dataclass(frozen=True)
class FollowUp:
    """Checked follow-up.

    Attributes:
        risks: float64 (n_models, n), log hazards.
        times: float64 (n,), positive.
        events: bool (n,).
        entries: float64 (n,), times from which each case was followed; None where all were followed from 0. A case is
            at risk at t if its entry is before t and its time is t or later.
    """

    risks: NDArray[np.float64]
    times: NDArray[np.float64]
    events: NDArray[np.bool_]
    entries: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[Any]) -> "FollowUp":
        """Select cases, by number or by a bool each."""
        entries = None if self.entries is None else self.entries[rows]
        return FollowUp(self.risks[:, rows], self.times[rows], self.events[rows], entries)

    def at_risk(self, time: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many cases are at risk at each time."""
        left = len(self.times) - np.searchsorted(np.sort(self.times), time, side="left")
        if self.entries is not None:
            left = left - (len(self.times) - np.searchsorted(np.sort(self.entries), time, side="left"))
        return np.asarray(left, dtype=np.int64)


def checked(log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None) -> FollowUp:
    """Give the input as arrays.

    Args:
        log_hazard: (n,) or (n_models, n).
        time: (n,).
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: lengths differ, a value is not finite, a time not positive, an event not 0/1, or an entry negative
            or not before the time; it says which.
    """
    risks = np.atleast_2d(np.asarray(log_hazard, dtype=np.float64))
    times, raw_events = np.asarray(time, dtype=np.float64), np.asarray(event)
    if risks.ndim != 2 or times.ndim != 1 or raw_events.shape != times.shape or risks.shape[1] != len(times):
        raise MetricError(
            f"lengths differ: log_hazard {np.shape(log_hazard)}, time {times.shape}, event {raw_events.shape}"
        )
    if not np.isfinite(risks).all():
        model, case = np.argwhere(~np.isfinite(risks))[0]
        raise MetricError(f"log_hazard of case {case} is {risks[model, case]}")
    if (bad := np.flatnonzero(~np.isfinite(times) | (times <= 0))).size:
        raise MetricError(f"time of case {bad[0]} is {times[bad[0]]}, not a positive number")
    if (bad := np.flatnonzero((raw_events != 0) & (raw_events != 1))).size:
        raise MetricError(f"event of case {bad[0]} is {raw_events[bad[0]]!r}, not true or false")
    entries = None if entry is None else np.asarray(entry, dtype=np.float64)
    if entries is not None:
        if entries.shape != times.shape:
            raise MetricError(f"lengths differ: time {times.shape}, entry {entries.shape}")
        if (bad := np.flatnonzero(~((entries >= 0) & (entries < times)))).size:
            raise MetricError(
                f"entry of case {bad[0]} is {entries[bad[0]]}, not from 0 to before its time, {times[bad[0]]}"
            )
        entries = entries if entries.any() else None
    return FollowUp(risks, times, raw_events.astype(bool), entries)


def one_after_another(
    time: ArrayLike, stratum: NDArray[np.int64] | None, entry: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Put the times of strata one after another, each case followed from the start of its own stratum only.

    A Cox regression that takes the time of entry is then stratified: no risk set holds cases of two strata. Times are
    given as their ranks, which is all that it looks at, so that none are rounded together.

    Args:
        time: (n,), positive.
        stratum: (n,), numbers from 0; None for no strata.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Returns:
        Time and entry of each case, (n,); both as they were without strata.
    """
    times = np.asarray(time, dtype=np.float64)
    entries = np.zeros_like(times) if entry is None else np.asarray(entry, dtype=np.float64)
    if stratum is None:
        return times, None if entry is None else entries
    both = np.concatenate([[0.0], times, entries])
    ranks = np.unique(both, return_inverse=True)[1].astype(np.float64)
    starts = stratum * (ranks.max() + 1)
    return starts + ranks[1 : len(times) + 1], starts + ranks[len(times) + 1 :]


def checked_follow_up(time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None) -> FollowUp:
    """Give times and events as arrays, without a risk (zeros).

    Raises:
        MetricError: as ``checked``, or there is no case.
    """
    data = checked(np.zeros(np.shape(time)), time, event, entry)
    if not len(data.times):
        raise MetricError("follow-up of no case at all")
    return data


def require_pairs(data: FollowUp) -> None:
    """Refuse follow-up without a comparable pair.

    Raises:
        MetricError: at no event is anybody at risk who is followed beyond it.
    """
    here, fell = np.unique(data.times[data.events], return_counts=True)
    if (data.at_risk(here) > fell).any():
        return
    raise MetricError(
        f"no comparable pair in {len(data.times)} cases with {int(data.events.sum())} events: nobody was followed "
        "beyond an event"
    )


def checked_horizons(horizons: ArrayLike, data: FollowUp) -> NDArray[np.float64]:
    """Give horizons as float64 (m,).

    Raises:
        MetricError: none, not ascending, not positive, or one that nobody was followed beyond.
    """
    at = np.atleast_1d(np.asarray(horizons, dtype=np.float64))
    if at.ndim != 1 or not at.size or not np.isfinite(at).all() or at[0] <= 0 or (np.diff(at) <= 0).any():
        raise MetricError(f"horizons {at.tolist()}: positive, ascending times are needed")
    if at[-1] >= data.times.max():
        raise MetricError(
            f"horizon {at[-1]:g}, but nobody was followed beyond {data.times.max():g}: shorten the horizons"
        )
    return at


def checked_survival(survival: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Give predicted survival as float64 of this shape.

    Raises:
        MetricError: another shape, or a value that is no probability; it says which case.
    """
    values = np.asarray(survival, dtype=np.float64)
    if values.shape != shape:
        raise MetricError(f"predicted survival is of shape {values.shape}; {shape} is needed")
    wrong = np.argwhere(~((values >= 0) & (values <= 1)))
    if len(wrong):
        raise MetricError(f"predicted survival of case {wrong[0][0]} is {values[tuple(wrong[0])]}, not between 0 and 1")
    return values
