"""How long and how hard students are trained, chosen inside their training cases by what predicts cases out of fold.

A student that is trained until it knows its cases orders others hardly better than chance, with log hazards many times
too extreme; where that begins depends on the cohort. So a few ways are tried by the members of the ensemble themselves,
whose left-out folds are the inner folds; fewer epochs are met on the way to more. The best way and epoch stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.bags.packed import sample_rows
from wsisurv.errors import MetricError
from wsisurv.models.ensemble import ensemble_of
from wsisurv.models.student import Student
from wsisurv.settings.training import DistillSettings
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.follow_up import one_after_another
from wsisurv.survival.losses import cox_log_likelihood
from wsisurv.training.card import CrossFitted
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log, threads_for
from wsisurv.training.students import StudentPlan, train_path, train_students
from wsisurv.training.subspace import SCALING_TILES

_LOOKS = (4, 8, 16, 30, 60, 100)
"""Epochs after which a way is looked at, beside its last."""
_SHORT = 60
"""Epochs of the ways that learn less; they need no more."""
_LEAST_SCALE = 0.05
"""Factor of log hazards that predict nothing out of fold: their order is kept, and they say next to nothing."""


@dataclass(frozen=True)
class _Outcome:
    """What students out of fold are worth.

    Attributes:
        gained: partial log likelihood within folds, of scaled log hazards, above that of none.
        scale: factor of the log hazards of highest likelihood, at most 1.
    """

    gained: float
    scale: float


def ways_of(settings: DistillSettings) -> list[DistillSettings]:
    """The ways of training that are tried: as the settings say, with more dropout, slow and pulled to zero, narrow."""
    short = {"epochs": min(settings.epochs, _SHORT), "dropout": max(settings.dropout, 0.5)}
    slow = {"learning_rate": settings.learning_rate / 5, "weight_decay": max(settings.weight_decay, 5.0)}
    narrow = {"hidden": max(2, settings.hidden // 4)}
    return [*dict.fromkeys([settings, *(settings.model_copy(update=short | more) for more in ({}, slow, narrow))])]


def epochs_of(settings: DistillSettings) -> int:
    """Epochs of one set of students, in all ways that are tried."""
    return sum(way.epochs for way in ways_of(settings)) if settings.tuning != "none" else settings.epochs


def train_tuned(
    cases: TrainingCases,
    plans: Sequence[StudentPlan],
    folds: Sequence[int],
    fold: NDArray[np.int64],
    settings: DistillSettings,
    *,
    device: torch.device,
    part: str,
    log: Log,
) -> list[Student]:
    """Train students in the way, and for the epochs, that predict the cases which they did not see best.

    One choice for all members; without ``settings.tuning``, or a comparable pair, the settings as they are.

    Args:
        cases: the whole cohort.
        plans: the students.
        folds: the fold that each has not seen.
        fold: int64 (n_cases,), the fold of each case.
        settings: how; the longest training.
        device: where.
        part: what is trained, for the history.
        log: history and progress.

    Source: Verweij and van Houwelingen 1993 (cross-validated likelihood).
    """
    if settings.tuning == "none":
        return train_students(cases, plans, settings, device=device, part=part, log=log)
    best, found, chosen = _Outcome(-np.inf, 1.0), None, (settings, 0)
    for number, way in enumerate(ways_of(settings), 1):
        looks = [epochs for epochs in _LOOKS if number > 1 or epochs >= _SHORT]  # early steps at full rate are noise
        path = train_path(cases, plans, way, device=device, part=f"{part}, way {number}", log=log, epochs=looks)
        for epochs in sorted(path):
            outcome = _out_of_fold(cases, path[epochs], plans, folds, fold, settings, device)
            if found is None or outcome.gained > best.gained:
                best, found, chosen = outcome, path[epochs], (way, epochs)
    if found is None:
        raise ValueError("no way of training")
    way, epochs = chosen
    log.line(
        part=f"{part}, chosen",
        epochs=epochs,
        **way.model_dump(include={"learning_rate", "weight_decay", "dropout", "hidden"}),
        scale=best.scale,
        likelihood_gained=best.gained,
    )
    return found


def _out_of_fold(
    cases: TrainingCases,
    students: Sequence[Student],
    plans: Sequence[StudentPlan],
    folds: Sequence[int],
    fold: NDArray[np.int64],
    settings: DistillSettings,
    device: torch.device,
) -> _Outcome:
    """What the students say of the cases that they did not see, from some tiles of each."""
    bags = sample_rows(cases.bags, SCALING_TILES, torch.Generator().manual_seed(settings.seed)).on(device)
    with torch.inference_mode(), threads_for(bags):
        states = ensemble_of([(student, 0.0) for student in students]).states_of(bags)
    risks = np.stack([one.log_hazard for one in states])
    centres = np.array([risks[plan.train, member].mean() for member, plan in enumerate(plans)])
    states = [replace(one, log_hazard=one.log_hazard - centres) for one in states]
    fitted = CrossFitted(ensemble_of([(student, 0.0) for student in students]), tuple(states), tuple(folds), fold)
    return worth(fitted.out_of_fold, fold, cases.time, cases.event, cases.entry)


def worth(
    risk: NDArray[np.float64],
    fold: NDArray[np.int64],
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
) -> _Outcome:
    """Judge log hazards out of fold, whose scale is free between 0 and 1, by cases of one fold against each other."""
    try:
        slope = cox_slope(log_hazard=risk, time=time, event=event, entry=entry, stratum=fold).value
    except MetricError:  # all alike, or no comparable pair: nothing is predicted
        slope = 0.0
    scale = float(np.clip(slope, 0.0, 1.0))
    at, entered = one_after_another(time, fold, entry)

    def likelihood(log_hazard: NDArray[np.float64]) -> float:
        return float(
            cox_log_likelihood(
                log_hazard=torch.from_numpy(log_hazard),
                time=torch.from_numpy(at),
                event=torch.from_numpy(event),
                entry=None if entered is None else torch.from_numpy(entered),
            )
        )

    return _Outcome(likelihood(scale * risk) - likelihood(0 * risk), max(scale, _LEAST_SCALE))
