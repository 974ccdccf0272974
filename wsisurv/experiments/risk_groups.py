"""Follow-up by risk group, and its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.formats.risks import RISK_GROUPS, UNFAMILIAR, Risk
from wsisurv.survival.kaplan_meier import kaplan_meier
from wsisurv.survival.restricted_mean import restricted_mean


@dataclass(frozen=True)
class Group:
    """Follow-up of the cases of one group.

    Attributes:
        time: float64 (n,), positive.
        event: bool (n,).
        entry: float64 (n,), time from which each case was followed; None where all were followed from 0.

    Raises:
        MetricError: lengths differ, or a time is not a positive number.
    """

    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    entry: NDArray[np.float64] | None = None

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
    median: float | None  # time by which half had the event (Kaplan-Meier); None where that is not reached
    mean: float | None = None  # mean time without the event up to ``until``; None where it is not known
    mean_se: float | None = None  # standard error of that mean
    until: float | None = None  # a time to which every group but the unfamiliar is followed


def follow_up_by_group(
    word: Sequence[str],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
) -> dict[str, Group]:
    """Follow-up of low, intermediate and high risk, empty groups too; and of unfamiliar cases, where there are any.

    Args:
        word: of each case its group.
        time: (n,), positive.
        event: (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
    """
    label = np.array(word)
    names = (*RISK_GROUPS, UNFAMILIAR) if UNFAMILIAR in word else RISK_GROUPS
    rows = {name: label == name for name in names}
    return {name: Group(time[r], event[r], None if entry is None else entry[r]) for name, r in rows.items()}


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
    median = kaplan_meier(time=time, event=event, entry=entry).median
    if until is None:
        return GroupRow(name, len(time), int(event.sum()), median)
    mean = restricted_mean(time=time, event=event, entry=entry, until=until)
    return GroupRow(name, len(time), int(event.sum()), median, mean.value, mean.se, until)
