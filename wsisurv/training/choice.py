"""Which student is selected: the one that inner cross-validation prefers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.resampling import Interval, choose_units
from wsisurv.survival.splits import hospital_strata
from wsisurv.survival.stratified import FoldScores, concordance_within
from wsisurv.training.card import CrossFitted

Winner = Literal["distilled", "plain"]


@dataclass(frozen=True)
class Choice:
    """What the comparison of two students gave."""

    winner: Winner  # which is selected
    distilled: float | None  # its concordance, out of fold; None where there is no comparable pair
    plain: float | None  # the other's
    # the former minus the latter, over the same bootstrap draws, of hospitals where those are whole in the folds and
    # enough, else of cases
    difference: Interval | None
    within: Literal["fold", "hospital"] = "fold"  # of what the pairs are
    pairs: int = 0  # of cases that were compared


def choose_student(
    *,
    distilled: CrossFitted,
    plain: CrossFitted,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
    site: Sequence[str | None] = (),
) -> Choice:
    """Select the distilled student where it has the higher concordance, and otherwise the plain one.

    Each case is scored by the members that did not see it. Where hospitals are known it is compared with cases of its
    own hospital only: between hospitals a student may know the one by its stain, which is worth nothing at a third
    (docs/benchmark.md). Elsewhere it is compared with cases of its own fold only, since members of different folds have
    no common origin but the mean of their training. The sign of the difference decides, not its interval: there is no
    reason to favour one of two students that are trained with equal care, and a tie, or no comparable pair, goes to the
    one that owes nothing to reports. The winner's concordance is a little too high for having been chosen by it; what
    is to be published is that of the ``selected`` student of ``wsisurv crossval``, which makes the choice anew inside
    each training set.

    Args:
        distilled: members guided by the teacher, by fold.
        plain: the same members without it.
        time: (n_cases,), positive.
        event: bool (n_cases,).
        entry: (n_cases,), time from which each was followed; from 0 if None.
        site: hospital of each case, where known.
    """
    scores = np.stack([distilled.out_of_fold, plain.out_of_fold])
    groups: dict[Literal["hospital", "fold"], NDArray[np.int64] | None] = {
        "hospital": hospital_strata(site),
        "fold": distilled.fold,
    }
    for what, group in groups.items():
        if group is None:
            continue
        tested = [
            FoldScores(0, rows, scores[:, rows], len(time) - len(rows))
            for rows in (np.flatnonzero(group == one) for one in np.unique(group))
        ]
        try:
            units = choose_units(site, [[fold.rows for fold in tested]])
            within = concordance_within(tested, time=time, event=event, entry=entry, units=units)
        except MetricError:
            continue
        difference = within.whole.difference(0, 1)
        winner: Winner = "distilled" if difference.value > 0 else "plain"
        return Choice(
            winner, float(within.whole.value[0]), float(within.whole.value[1]), difference, what, within.pairs
        )
    return Choice("plain", None, None, None)
