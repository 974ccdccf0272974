"""What a student's file holds beside its weights: all that use needs and a reader may ask, and no row of a patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.cohort import Cohort
from wsisurv.formats.models import ModelFile
from wsisurv.models.familiarity import Familiarity, fit_familiarity
from wsisurv.models.fused import FusedEnsemble
from wsisurv.models.student import Ensemble
from wsisurv.survival.kaplan_meier import censoring_curve
from wsisurv.survival.prognosis import fit_prognosis
from wsisurv.training.inputs import TrainingCases

_FEW = 0.01


@dataclass(frozen=True)
class CrossFitted:
    """An ensemble, and what its members say of the training cases that they did not see.

    Attributes:
        ensemble: the students.
        out_of_fold: float64 (n_cases,), log hazard of each case by the members that did not see it.
        member_folds: the fold that each member did not see.
        fold: int64 (n_cases,), the fold of each case.
    """

    ensemble: Ensemble
    out_of_fold: NDArray[np.float64]
    member_folds: tuple[int, ...]
    fold: NDArray[np.int64]

    @property
    def cut_offs(self) -> dict[str, float]:
        """Tertiles of the out-of-fold risk."""
        low, high = np.quantile(self.out_of_fold, [1 / 3, 2 / 3])
        return {"low": float(low), "high": float(high)}


def student_model(
    cases: TrainingCases,
    cohort: Cohort,
    encoder: str,
    students: CrossFitted,
    *,
    guided: bool,
    result: Mapping[str, Any],
) -> ModelFile:
    """A student's file, from what it was trained on and what came out.

    Args:
        cases: the training cases.
        cohort: whose they are.
        encoder: folder of the features.
        students: the ensemble.
        guided: whether any member listened to reports.
        result: the figures printed in training (JSON object).

    Raises:
        MetricError: no event among the cases.
    """
    prognosis = fit_prognosis(log_hazard=students.out_of_fold, time=cases.time, event=cases.event)
    familiarity = _familiarity(cases, students)
    tiles = cases.bags.lengths.numpy()
    card = {
        "encoder": encoder,
        "n_features": students.ensemble.n_features,
        "feature_names": list(cases.names),
        "embed_settings": dict(cases.embed_settings),
        "encoder_weights": cases.encoder_weights,
        "tile_settings": dict(cases.tile_settings),
        "cut_offs": students.cut_offs,
        "risk_mean": float(students.out_of_fold.mean()),
        "guided": guided,
        "member_folds": students.member_folds,
        "calibration": {"slope": prognosis.slope},
        "familiarity": {"threshold": familiarity.threshold},
        "cohort": {
            "name": cohort.name,
            "cases": len(cases.case_ids),
            "events": int(cases.event.sum()),
            "slides": cases.n_slides,
            "sites": len({site for site in cases.site if site}),
            "time_unit": cohort.settings.time_unit,
            "median_time": float(np.median(cases.time)),
            "median_follow_up": censoring_curve(time=cases.time, event=cases.event).median,
            "longest_follow_up": float(cases.time.max()),
            "tiles_a_case": {
                "least": int(tiles.min()),
                "few": int(np.quantile(tiles, _FEW)),
                "median": float(np.median(tiles)),
                "most": int(tiles.max()),
            },
        },
        "result": dict(result),
    }
    arrays = {"training_risks": np.sort(students.out_of_fold), **prognosis.arrays(), **familiarity.arrays()}
    return ModelFile(students.ensemble.arrays() | arrays, card)


def _familiarity(cases: TrainingCases, students: CrossFitted) -> Familiarity:
    fused = FusedEnsemble(students.ensemble)
    pooled = [
        fused(cases.bags.select(torch.tensor([case])).load().rows.cpu().numpy()).pooled
        for case in range(cases.bags.n_bags)
    ]
    seen = np.array(students.member_folds)[:, None] != students.fold[None, :]
    return fit_familiarity(np.stack(pooled, axis=1), seen=seen, site=cases.site)
