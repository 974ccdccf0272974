"""Tested cases and their folds, numbered as the figures need them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case, cause_of, entry_of
from wsisurv.survival.stratified import FoldScores


@dataclass(frozen=True)
class ScoredFold:
    """One fold with its risks."""

    repeat: int  # which division of the cohort
    rows: NDArray[np.int64]  # int64 (n_test,), numbers of the tested cases in the cohort
    n_train: int  # cases trained on
    risks: dict[str, NDArray[np.float64]]  # model → float64 (n_test,)
    # the student that distilling selected by this fold's training cases; None where no slide is read
    selected: str | None = None


@dataclass(frozen=True)
class Tested:
    """The tested cases, and the folds with cases by their numbers among them."""

    cases: list[Case]  # those that any fold tests, n of them
    time: NDArray[np.float64]  # float64 (n,)
    event: NDArray[np.bool_]  # bool (n,)
    folds: list[FoldScores]  # their rows count in ``cases``
    entry: NDArray[np.float64] | None = None  # float64 (n,), followed from then; None where all were from 0
    cause: NDArray[np.int64] | None = None  # int64 (n,), see ``cause_of``; None where nothing competes


def number_tested(folds: Sequence[ScoredFold], cases: Sequence[Case], names: Sequence[str]) -> Tested:
    """Number the tested cases anew, with the log hazards of the models in the order of ``names``."""
    rows = np.unique(np.concatenate([fold.rows for fold in folds]))
    number_of = {row: number for number, row in enumerate(rows.tolist())}
    chosen = [cases[row] for row in rows]
    return Tested(
        cases=chosen,
        time=np.array([case.time for case in chosen]),
        event=np.array([case.event for case in chosen]),
        entry=entry_of(chosen),
        cause=cause_of(chosen),
        folds=[
            FoldScores(
                repeat=fold.repeat,
                rows=np.array([number_of[row] for row in fold.rows.tolist()]),
                log_hazard=np.stack([fold.risks[name] for name in names]),
                n_train=fold.n_train,
            )
            for fold in folds
        ],
    )


@dataclass(frozen=True)
class Repeat:
    """All folds of one repeat, one after the other."""

    rows: NDArray[np.int64]  # int64 (n,), numbers of the cases
    fold: NDArray[np.int64]  # int64 (n,)
    log_hazard: NDArray[np.float64]  # float64 (n_models, n)


def join_repeats(tested: Sequence[FoldScores]) -> list[Repeat]:
    """All folds of each repeat as one."""
    repeats = []
    for number in sorted({fold.repeat for fold in tested}):
        folds = [fold for fold in tested if fold.repeat == number]
        repeats.append(
            Repeat(
                rows=np.concatenate([fold.rows for fold in folds]),
                fold=np.concatenate([np.full(len(fold.rows), k) for k, fold in enumerate(folds)]),
                log_hazard=np.concatenate([fold.log_hazard for fold in folds], axis=1),
            )
        )
    return repeats
