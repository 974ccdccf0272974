"""A student, opened to be asked what each tile did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import read_model
from wsisurv.models.ensemble import Ensemble, load_student
from wsisurv.prediction.card import RiskScale, read_scale, unseen_members
from wsisurv.prediction.step import training_folds


@dataclass(frozen=True)
class Explainer:
    """A student, opened to be asked about its tiles.

    Attributes:
        path: the student's file.
        scale: what it must be told, and what its log hazard means.
        ensemble: its members.
        feature_names: of the columns; empty where they have none.
        fold_of: fold of each case that it was trained on.
        relevance: the teacher's, of each of these cases; none where the student did not listen to the teacher.
        guidance: fingerprint of where the relevance is from, or empty.
    """

    path: Path
    scale: RiskScale
    ensemble: Ensemble
    feature_names: tuple[str, ...]
    fold_of: Mapping[str, int] = field(default_factory=dict)
    relevance: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    guidance: str = ""
    _by_fold: dict[int | None, Ensemble] = field(default_factory=dict)

    def members_for(self, case_id: str) -> Ensemble:
        """The members that may speak of a case: those that did not see it in training."""
        fold = self.fold_of.get(case_id)
        if fold not in self._by_fold:
            self._by_fold[fold] = self.ensemble.only(unseen_members(self.scale.card, fold))
        return self._by_fold[fold]


def open_explainer(student: Path, guidance: Path | None = None) -> Explainer:
    """Open a student, and the teacher's word on the cases that it was trained on.

    Args:
        student: its file.
        guidance: of the cohort whose cases are asked about; without, every member speaks of every case.

    Raises:
        MissingArtifactError, FormatError, StaleError: as ``training_folds``.
    """
    scale = read_scale(student)
    model, _ = read_model(student, "student")
    names = model.card.feature_names
    explainer = Explainer(student, scale, load_student(model), names)
    folds = training_folds(student, guidance) if guidance is not None and guidance.exists() else {}
    if guidance is None or not folds:
        return explainer
    told, made = read_guidance(guidance)
    relevance = told.relevance if model.card.guided else {}  # a student that was not told of it owes it nothing
    return Explainer(student, scale, explainer.ensemble, names, folds, relevance, made.fingerprint)
