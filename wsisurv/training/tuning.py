"""How long and how hard students are trained, chosen inside their training cases by what predicts cases out of fold.

A student that is trained until it knows its cases orders others hardly better than chance, with log hazards many times
too extreme; where that begins depends on the cohort. So few slow steps and long training are tried by the members of
the ensemble themselves, whose left-out folds are the inner folds, and the better way stays.
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
from wsisurv.survival.splits import hospital_strata
from wsisurv.training.card import CrossFitted
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log, threads_for
from wsisurv.training.students import StudentPlan, train_students
from wsisurv.training.subspace import SCALING_TILES

_LONG = {"epochs": 150, "learning_rate": 1e-2, "weight_decay": 1e-3, "dropout": 0.1}
"""Long training, tried beside the settings: it finds what rare tiles tell where few and slow steps find nothing, and
knows its cases by heart where tiles tell little (docs/benchmark.md, docs/log.md)."""
AHEAD = 1.92
"""Partial log likelihood by which long training must be ahead: half the 95 % point of χ² with one degree of freedom. On
real patients it is ahead by less than one in most folds, by chance (docs/benchmark.md)."""
_LEAST_SCALE = 0.05
"""Factor of log hazards that predict nothing out of fold: their order is kept, and they say next to nothing."""


@dataclass(frozen=True)
class Worth:
    """What students out of fold are worth.

    Attributes:
        gained: partial log likelihood within folds, of scaled log hazards, above that of none.
        scale: factor of the log hazards of highest likelihood, at most 1.
    """

    gained: float
    scale: float


def ways_of(settings: DistillSettings) -> list[DistillSettings]:
    """The ways of training that are tried: the default, and long; or as the settings say, where these ask for a way."""
    if settings.tuning == "none" or any(
        getattr(settings, name) != DistillSettings.model_fields[name].default for name in _LONG
    ):
        return [settings]
    return [settings, settings.model_copy(update=_LONG)]


def epochs_of(settings: DistillSettings) -> int:
    """Epochs of one set of students, in all ways that are tried."""
    return sum(way.epochs for way in ways_of(settings))


@dataclass(frozen=True)
class Tuned:
    """Students, and the way in which they were trained."""

    students: list[Student]
    way: DistillSettings


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
) -> Tuned:
    """Train students as the settings say, or long where that predicts the cases which they did not see clearly better.

    One choice for all members.

    Args:
        cases: the whole cohort.
        plans: the students.
        folds: the fold that each has not seen.
        fold: int64 (n_cases,), the fold of each case.
        settings: how, and whether long training is tried too.
        device: where.
        part: what is trained, for the history.
        log: history and progress.

    Source: Verweij and van Houwelingen 1993 (cross-validated likelihood).
    """
    ways = ways_of(settings)
    if len(ways) == 1:
        return Tuned(train_students(cases, plans, settings, device=device, part=part, log=log), settings)
    found: list[tuple[float, Tuned]] = []
    for number, way in enumerate(ways, 1):
        named = f"{part}, way {number}"
        students = train_students(cases, plans, way, device=device, part=named, log=log)
        told = _out_of_fold(cases, students, plans, folds, fold, settings, device)
        log.line(part=named, scale=told.scale, likelihood_gained=told.gained)
        found.append((told.gained, Tuned(students, way)))
    (gained, as_given), (gained_long, trained_long) = found
    return trained_long if gained_long > gained + AHEAD else as_given


def _out_of_fold(
    cases: TrainingCases,
    students: Sequence[Student],
    plans: Sequence[StudentPlan],
    folds: Sequence[int],
    fold: NDArray[np.int64],
    settings: DistillSettings,
    device: torch.device,
) -> Worth:
    """What the students say of the cases that they did not see, from some tiles of each."""
    bags = sample_rows(cases.bags, SCALING_TILES, torch.Generator().manual_seed(settings.seed)).on(device)
    with torch.inference_mode(), threads_for(bags):
        states = ensemble_of([(student, 0.0) for student in students]).states_of(bags)
    risks = np.stack([one.log_hazard for one in states])
    centres = np.array([risks[plan.train, member].mean() for member, plan in enumerate(plans)])
    states = [replace(one, log_hazard=one.log_hazard - centres) for one in states]
    fitted = CrossFitted(ensemble_of([(student, 0.0) for student in students]), tuple(states), tuple(folds), fold)
    hospital = hospital_strata(cases.site)
    return worth(fitted.out_of_fold, fold if hospital is None else hospital, cases.time, cases.event, cases.entry)


def worth(
    risk: NDArray[np.float64],
    stratum: NDArray[np.int64],
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
) -> Worth:
    """Judge log hazards out of fold, whose scale is free between 0 and 1, by cases of one stratum against each other.

    Strata are hospitals where these are known, since students are for others: a long training learns their stains.
    """
    try:
        slope = cox_slope(log_hazard=risk, time=time, event=event, entry=entry, stratum=stratum).value
    except MetricError:  # all alike, or no comparable pair: nothing is predicted
        slope = 0.0
    scale = float(np.clip(slope, 0.0, 1.0))
    at, entered = one_after_another(time, stratum, entry)

    def likelihood(log_hazard: NDArray[np.float64]) -> float:
        return float(
            cox_log_likelihood(
                log_hazard=torch.from_numpy(log_hazard),
                time=torch.from_numpy(at),
                event=torch.from_numpy(event),
                entry=None if entered is None else torch.from_numpy(entered),
            )
        )

    return Worth(likelihood(scale * risk) - likelihood(0 * risk), max(scale, _LEAST_SCALE))
