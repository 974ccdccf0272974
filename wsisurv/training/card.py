"""What a student's file holds beside its weights: all that use needs and a reader may ask, and no row of a patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Cohort
from wsisurv.formats.models import ModelFile
from wsisurv.models.student import Ensemble
from wsisurv.training.inputs import TrainingCases


@dataclass(frozen=True)
class CrossFitted:
    """An ensemble, and what its members say of the training cases that they did not see.

    Attributes:
        ensemble: the students.
        out_of_fold: float64 (n_cases,), log hazard of each case by the members that did not see it.
        member_folds: the fold that each member did not see.
    """

    ensemble: Ensemble
    out_of_fold: NDArray[np.float64]
    member_folds: tuple[int, ...]

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
    """
    card = {
        "encoder": encoder,
        "n_features": students.ensemble.n_features,
        "feature_names": list(cases.names),
        "embed_settings": dict(cases.embed_settings),
        "tile_settings": dict(cases.tile_settings),
        "cut_offs": students.cut_offs,
        "risk_mean": float(students.out_of_fold.mean()),
        "guided": guided,
        "member_folds": students.member_folds,
        "cohort": {
            "name": cohort.name,
            "cases": len(cases.case_ids),
            "events": int(cases.event.sum()),
            "slides": cases.n_slides,
            "sites": len({site for site in cases.site if site}),
            "time_unit": cohort.settings.time_unit,
            "median_time": float(np.median(cases.time)),
        },
        "result": dict(result),
    }
    risks = {"training_risks": np.sort(students.out_of_fold)}
    return ModelFile(students.ensemble.arrays() | risks, card)
