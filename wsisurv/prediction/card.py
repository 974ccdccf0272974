"""A student's file, opened to predict: what its input must be, and what its log hazard means."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.header import Header
from wsisurv.formats.models import ModelFile, made_anew, read_model
from wsisurv.models.ensemble import Ensemble, load_student
from wsisurv.models.familiarity import Familiarity, load_familiarity
from wsisurv.survival.prognosis import PER_YEAR, Prognosis, load_prognosis
from wsisurv.survival.reference import OutOfFoldScale, load_out_of_fold_scale

_ROUNDING = 1e-4
"""Of the training risks' standard deviation: log hazards that are nearer are the same, computed otherwise."""


@dataclass(frozen=True)
class RiskScale:
    """What a student's log hazard means."""

    card: StudentCard  # what the student's input must be, and what is known of its training
    fingerprint: str  # of the student's file
    # float64 (n,), sorted log hazards of the training cases, out of fold, as ``out_of_fold`` places them among new
    # cases
    training_risks: NDArray[np.float64]
    prognosis: Prognosis  # log hazard → survival, calibrated out of fold
    familiarity: Familiarity  # how like the training cases a case is
    out_of_fold: OutOfFoldScale  # from the log hazard of a training case to that of a new one

    def percentile(self, risk: float) -> float:
        """Share of training cases with a lower risk, 0 to 100; of ``out_of_fold.placed`` for a training case."""
        # a case of the training is among them, and scored elsewhere it may come out a rounding above itself
        rounding = _ROUNDING * float(self.training_risks.std())
        return 100 * float(np.searchsorted(self.training_risks, risk - rounding)) / len(self.training_risks)

    def group(self, risk: float) -> str:
        """``low``, ``intermediate`` or ``high``, by the cut-offs fixed in training."""
        if risk < self.card.cut_offs.low:
            return "low"
        return "high" if risk >= self.card.cut_offs.high else "intermediate"

    def in_unit(self, years: float) -> float:
        """A number of years in the time unit of the training cohort."""
        return years * PER_YEAR[self.card.cohort.time_unit]


@dataclass(frozen=True)
class OpenStudent:
    """A student, ready to predict."""

    scale: RiskScale
    ensemble: Ensemble


def read_scale(student: Path) -> RiskScale:
    """What a student's input must be and what its log hazard means, from its file.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: it is no student, or its card or an array lacks something.
    """
    model, header = read_model(student, "student")
    return _scale(student, model, header)


def open_student(student: Path, *, device: str = "cpu") -> OpenStudent:
    """Open a student to predict.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: it is no student, or something in it is missing, damaged, or does not fit the rest.
    """
    model, header = read_model(student, "student")
    scale = _scale(student, model, header)
    try:
        ensemble = load_student(model, device=device)
        n_members, n_features = ensemble.fast.n_members, ensemble.fast.n_features  # made ready, or refused here
    except FormatError as error:
        raise FormatError(f"{student}: {error}") from error
    card = scale.card
    if n_features != card.n_features or n_members != len(card.member_folds):
        raise FormatError(
            f"{student}: the card names {len(card.member_folds)} members and {card.n_features} features, the "
            f"weights of {n_members} and {n_features}. Delete it and run `wsisurv distill`."
        )
    return OpenStudent(scale, ensemble)


def _scale(path: Path, model: ModelFile[StudentCard], header: Header) -> RiskScale:
    again = made_anew(header)
    try:
        hidden = int(model.arrays["members/0/embed.weight"].shape[0])
        risks = np.sort(np.asarray(model.arrays["training_risks"], dtype=np.float64).ravel())
        prognosis = load_prognosis(model.arrays)
        familiarity = load_familiarity(model.arrays, len(model.card.member_folds), hidden)
        scale = load_out_of_fold_scale(
            model.arrays,
            n_folds=max(model.card.member_folds) + 1,
            shrinkage=prognosis.slope_of_one / prognosis.slope if prognosis.slope > 0 else 1.0,
        )
    except FormatError as error:
        raise FormatError(f"{path}: {error} {again}") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"{path}: the student has no usable {error}. {again}") from error
    if not len(risks) or not np.isfinite(risks).all():
        raise FormatError(f"{path}: training risks ({len(risks)}) are unusable. {again}")
    return RiskScale(model.card, header.fingerprint, risks, prognosis, familiarity, scale)


def unseen_members(card: StudentCard, fold: int | None) -> NDArray[np.bool_]:
    """Members that did not see the cases of this fold; all of them for a case that was in no fold."""
    return np.array([fold is None or member_fold == fold for member_fold in card.member_folds])
