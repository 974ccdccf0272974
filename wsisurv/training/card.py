"""What a student's file holds beside its weights: all that use needs and a reader may ask, and no row of a patient."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.cohort import Cohort, cause_of
from wsisurv.formats.cards import (
    CalibrationSlopes,
    CutOffs,
    DistillResult,
    FamiliarityLimit,
    StudentCard,
    TilesACase,
    TrainingCohort,
)
from wsisurv.formats.models import ModelFile
from wsisurv.models.ensemble import Ensemble
from wsisurv.models.familiarity import fit_familiarity
from wsisurv.models.fast_ensemble import CaseStates
from wsisurv.survival.kaplan_meier import censoring_curve
from wsisurv.survival.prognosis import Prognosis, fit_prognosis
from wsisurv.survival.reference import OutOfFoldScale, fit_out_of_fold_scale
from wsisurv.training.inputs import TrainingCases

_FEW = 0.01
_LEAST_FACTOR = 0.01
"""Factor of log hazards that predict nothing out of fold: their order is kept, and they say next to nothing."""


@dataclass(frozen=True)
class CrossFitted:
    """An ensemble, and the risks of the training cases by members that did not see them."""

    ensemble: Ensemble  # the students
    states: tuple[CaseStates, ...]  # what the members make of each case
    member_folds: tuple[int, ...]  # the fold that each member did not see
    fold: NDArray[np.int64]  # int64 (n_cases,), the fold of each case
    factor: float = 1.0  # by which log hazards were multiplied after training

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Whether each member was trained on each case, (n_members, n_cases)."""
        seen: NDArray[np.bool_] = np.array(self.member_folds)[:, None] != self.fold[None, :]
        return seen

    @property
    def risks(self) -> NDArray[np.float64]:
        """Log hazard of each case by each member, (n_members, n_cases)."""
        return np.stack([one.log_hazard for one in self.states], 1)

    @cached_property
    def out_of_fold(self) -> NDArray[np.float64]:
        """Log hazard of each case by the members that did not see it, (n_cases,)."""
        unseen = ~self.seen
        out: NDArray[np.float64] = (self.risks * unseen).sum(0) / unseen.sum(0)
        return out

    @cached_property
    def scale(self) -> OutOfFoldScale:
        """Scale that brings out-of-fold risks to the mean of members on new cases."""
        return fit_out_of_fold_scale(out_of_fold=self.out_of_fold, by_member=self.risks, fold=self.fold)

    @cached_property
    def reference(self) -> NDArray[np.float64]:
        """Log hazards that new cases like the training's would have, float64 (n_cases,)."""
        scale = self.scale
        return np.array([scale.placed(*one) for one in zip(self.out_of_fold.tolist(), self.fold.tolist(), strict=True)])

    @property
    def cut_offs(self) -> CutOffs:
        """Tertiles of the reference."""
        low, high = np.quantile(self.reference, [1 / 3, 2 / 3])
        return CutOffs(low=float(low), high=float(high))

    def calmed(self, cases: TrainingCases) -> "CrossFitted":
        """The same with log hazards multiplied by their calibration slope out of fold, where that is below 1.

        A student that is trained long knows its cases by heart, and is many times too sure of others. No order changes.

        Raises:
            MetricError: no event among the cases.

        Source: van Houwelingen and Le Cessie 1990 (shrinkage by the calibration slope).
        """
        factor = float(np.clip(self.prognosis(cases).slope, _LEAST_FACTOR, 1.0))
        if factor == 1:
            return self
        members = self.ensemble.members
        with torch.inference_mode():
            for student in members:
                student.hazard.weight.mul_(factor)
            # asked anew, from the states of the cases, so that predict gives them these very risks
            asked = [
                [
                    float(student.hazard(torch.from_numpy(row[None])))
                    for student, row in zip(members, one.pooled, strict=True)
                ]
                for one in self.states
            ]
        risks = np.array(asked)
        centres = np.array([risks[seen, member].mean() for member, seen in enumerate(self.seen)])
        states = tuple(replace(one, log_hazard=own - centres) for one, own in zip(self.states, risks, strict=True))
        ensemble = Ensemble(members, tuple(centres.tolist()))
        return CrossFitted(ensemble, states, self.member_folds, self.fold, factor)

    def prognosis(self, cases: TrainingCases) -> Prognosis:
        """Log hazard of a new case → survival, by the same reference as the cut-offs.

        Raises:
            MetricError: no event among the cases.
        """
        return fit_prognosis(
            log_hazard=self.out_of_fold,
            time=cases.time,
            event=cases.event,
            entry=cases.entry,
            fold=self.fold,
            averaging=1 / self.scale.shrinkage,
            reference=self.reference,
            cause=cause_of(cases.clinical),
        )


def student_model(
    cases: TrainingCases,
    cohort: Cohort,
    encoder: str,
    students: CrossFitted,
    prognosis: Prognosis,
    *,
    guided: bool,
    result: DistillResult,
) -> ModelFile[StudentCard]:
    """A student's file, from what it was trained on and what came out.

    Args:
        cases: the training cases.
        cohort: whose they are.
        encoder: folder of the features.
        students: the ensemble.
        prognosis: theirs.
        guided: whether any member was guided by reports.
        result: the figures printed in training.
    """
    pooled = np.stack([one.pooled for one in students.states], 1)
    familiarity = fit_familiarity(pooled, seen=students.seen, site=cases.site)
    tiles = cases.bags.lengths.numpy()
    card = StudentCard(
        encoder=encoder,
        n_features=students.ensemble.n_features,
        feature_names=cases.names,
        embed_settings=dict(cases.embed_settings),
        encoder_weights=cases.encoder_weights,
        tile_settings=dict(cases.tile_settings),
        cut_offs=students.cut_offs,
        reference="mean of members",
        baseline="efron",
        risk_mean=students.scale.mean,
        guided=guided,
        member_folds=students.member_folds,
        calibration=CalibrationSlopes(slope=prognosis.slope, slope_of_one=prognosis.slope_of_one),
        familiarity=FamiliarityLimit(threshold=familiarity.threshold),
        cohort=TrainingCohort(
            name=cohort.name,
            cases=len(cases.case_ids),
            events=int(cases.event.sum()),
            competing=sum(case.competing for case in cases.clinical) if cohort.settings.knows_competing else None,
            outcome_note=cohort.outcome_note,
            slides=cases.n_slides,
            sites=len({site for site in cases.site if site}),
            time_unit=cohort.settings.time_unit,
            median_time=float(np.median(cases.time)),
            median_follow_up=censoring_curve(time=cases.time, event=cases.event, entry=cases.entry).median,
            longest_follow_up=float(cases.time.max()),
            tiles_a_case=TilesACase(
                least=int(tiles.min()),
                few=int(np.quantile(tiles, _FEW)),
                median=float(np.median(tiles)),
                most=int(tiles.max()),
            ),
        ),
        result=result,
    )
    arrays = {"training_risks": np.sort(students.reference), **students.scale.arrays()}
    return ModelFile(students.ensemble.arrays() | arrays | prognosis.arrays() | familiarity.arrays(), card)
