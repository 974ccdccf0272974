"""A student, opened to explain what each tile did."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.guidance import read_guidance
from wsisurv.models.ensemble import Ensemble
from wsisurv.prediction.card import RiskScale, open_student, unseen_members
from wsisurv.prediction.step import training_folds


@dataclass(frozen=True)
class Explainer:
    """A student, opened to explain what each tile did."""

    path: Path  # the student's file
    scale: RiskScale  # what its input must be, and what its log hazard means
    ensemble: Ensemble  # its members
    feature_names: tuple[str, ...]  # of the columns; empty where they have none
    fold_of: Mapping[str, int] = field(default_factory=dict)  # fold of each case that it was trained on
    # the teacher's, of each of these cases; none where the student was trained without it
    relevance: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    guidance: str = ""  # fingerprint of where the relevance is from, or empty
    _by_fold: dict[int | None, Ensemble] = field(default_factory=dict)

    def members_for(self, case_id: str) -> Ensemble:
        """The members that explain a case: those that did not see it in training."""
        fold = self.fold_of.get(case_id)
        if fold not in self._by_fold:
            self._by_fold[fold] = self.ensemble.only(unseen_members(self.scale.card, fold))
        return self._by_fold[fold]


def open_explainer(student: Path, guidance: Path | None = None) -> Explainer:
    """Open a student, and the relevance that the teacher gave the tiles of its training cases.

    Args:
        student: its file.
        guidance: of the cohort whose cases are asked about; without, every member explains every case.

    Raises:
        MissingArtifactError, FormatError, StaleError: as ``training_folds``.
    """
    opened = open_student(student)
    card = opened.scale.card
    explainer = Explainer(student, opened.scale, opened.ensemble, card.feature_names)
    folds = training_folds(student, guidance) if guidance is not None and guidance.exists() else {}
    if guidance is None or not folds:
        return explainer
    found, made = read_guidance(guidance)
    relevance = found.relevance if card.guided else {}  # a student trained without it owes it nothing
    return replace(explainer, fold_of=folds, relevance=relevance, guidance=made.fingerprint)
