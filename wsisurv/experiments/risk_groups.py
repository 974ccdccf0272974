"""Follow-up by risk group, and its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.formats.risks import RISK_GROUPS, UNFAMILIAR, Risk
from wsisurv.survival.competing import GrayTest, cumulative_incidence, gray_test
from wsisurv.survival.kaplan_meier import kaplan_meier
from wsisurv.survival.restricted_mean import restricted_mean


@dataclass(frozen=True)
class Group:
    """Follow-up of the cases of one group.

    Attributes:
        time: float64 (n,), positive.
        event: bool (n,).
        entry: float64 (n,), time from which each case was followed; None where all were followed from 0.
        cause: int64 (n,), 0 censored, 1 the event, 2 a competing one; None where nothing competes.

    Raises:
        MetricError: lengths differ, or a time is not a positive number.
    """

    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    entry: NDArray[np.float64] | None = None
    cause: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.time.shape != self.event.shape:
            raise MetricError(f"lengths differ: time {self.time.shape} and event {self.event.shape}")
        if (bad := np.flatnonzero(~np.isfinite(self.time) | (self.time <= 0))).size:
            raise MetricError(f"time of case {bad[0]} is {self.time[bad[0]]}, not a positive number")

    def at_risk(self, time: float) -> int:
        """How many cases are followed at a time, those that leave then too."""
        there = self.time >= time
        return int((there if self.entry is None else there & (self.entry <= time)).sum())


@dataclass(frozen=True)
class GroupRow:
    """One group in numbers."""

    name: str  # the group
    cases: int  # how many
    events: int  # how many had the event
    # time by which half had the event (Kaplan-Meier; cumulative incidence with competing events); None where that is
    # not reached
    median: float | None
    mean: float | None = None  # mean time without the event up to ``until``; None where it is not known
    mean_se: float | None = None  # standard error of that mean
    until: float | None = None  # a time to which every group but the unfamiliar is followed
    # with competing events, which take the place of the mean: how many had one; share with the event by ``until``
    # (cumulative incidence) and its standard error
    competing: int | None = None
    incidence: float | None = None
    incidence_se: float | None = None


def follow_up_by_group(
    word: Sequence[str],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
    cause: NDArray[np.int64] | None = None,
) -> dict[str, Group]:
    """Follow-up of low, intermediate and high risk, empty groups too; and of unfamiliar cases, where there are any.

    Args:
        word: of each case its group.
        time: (n,), positive.
        event: (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
        cause: (n,), 0 censored, 1 the event, 2 a competing one; None where nothing competes.
    """
    label = np.array(word)
    names = (*RISK_GROUPS, UNFAMILIAR) if UNFAMILIAR in word else RISK_GROUPS
    rows = {name: label == name for name in names}

    def some(values: NDArray[Any] | None, of: NDArray[np.bool_]) -> NDArray[Any] | None:
        return None if values is None else values[of]

    return {name: Group(time[r], event[r], some(entry, r), some(cause, r)) for name, r in rows.items()}


def group_gray_test(groups: Mapping[str, Group]) -> GrayTest:
    """Gray's test of the groups that go by risk.

    Raises:
        MetricError: as ``gray_test``.
    """
    chosen = {name: group for name, group in groups.items() if name != UNFAMILIAR}
    zero = [np.zeros(len(one.time)) if one.entry is None else one.entry for one in chosen.values()]
    return gray_test(
        group=np.concatenate([np.full(len(one.time), number) for number, one in enumerate(chosen.values())]),
        time=np.concatenate([one.time for one in chosen.values()]),
        cause=np.concatenate([one.event * 1 if one.cause is None else one.cause for one in chosen.values()]),
        entry=np.concatenate(zero),
    )


def risk_groups(risks: Sequence[Risk], follow_up: Mapping[str, tuple[float, bool]]) -> dict[str, Group]:
    """Follow-up by risk group, from the rows of a risk table.

    Args:
        risks: rows of the risk table; cases without a risk or without follow-up are left out.
        follow_up: case_id → (time, event).

    Returns:
        As ``follow_up_by_group``.
    """
    known = [risk for risk in risks if risk.log_hazard is not None and risk.case_id in follow_up]
    rows = [follow_up[risk.case_id] for risk in known]
    return follow_up_by_group(
        [risk.risk_group for risk in known],
        time=np.array([time for time, _ in rows], dtype=np.float64),
        event=np.array([event for _, event in rows], dtype=bool),
    )


def risk_groups_table(groups: Mapping[str, Group]) -> tuple[GroupRow, ...]:
    """Cases, events, median and restricted mean survival of each group, in order.

    The mean is up to the time to which each of them is followed; unfamiliar cases, which may be one, have none.
    """
    known = [group.time for name, group in groups.items() if name != UNFAMILIAR and len(group.time)]
    until = min((float(time.max()) for time in known), default=None)
    return tuple(_row(name, group, None if name == UNFAMILIAR else until) for name, group in groups.items())


def _row(name: str, group: Group, until: float | None) -> GroupRow:
    time, event, entry = group.time, group.event, group.entry
    if not len(time):
        return GroupRow(name, 0, 0, None)
    if group.cause is not None:
        return _competing_row(name, group, group.cause, until)
    median = kaplan_meier(time=time, event=event, entry=entry).median
    if until is None:
        return GroupRow(name, len(time), int(event.sum()), median)
    mean = restricted_mean(time=time, event=event, entry=entry, until=until)
    return GroupRow(name, len(time), int(event.sum()), median, mean.value, mean.se, until)


def _competing_row(name: str, group: Group, cause: NDArray[np.int64], until: float | None) -> GroupRow:
    curve = cumulative_incidence(time=group.time, cause=cause, entry=group.entry)
    half = curve.times[curve.incidence >= 0.5]
    return GroupRow(
        name=name,
        cases=len(group.time),
        events=int(group.event.sum()),
        median=float(half[0]) if half.size else None,
        until=until,
        competing=int((cause == 2).sum()),
        incidence=None if until is None else float(curve.at(until)),
        incidence_se=None if until is None else float(curve.se_at(until)),
    )
