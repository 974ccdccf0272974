"""A student's file, opened to predict: what it must be told, and what turns its log hazard into something to say."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.header import Header
from wsisurv.formats.models import ModelFile, made_anew, read_model
from wsisurv.models.familiarity import Familiarity, load_familiarity
from wsisurv.models.fast_ensemble import FusedEnsemble
from wsisurv.models.student import load_student
from wsisurv.survival.prognosis import PER_YEAR, Prognosis, load_prognosis


@dataclass(frozen=True)
class StudentCard:
    """What a student must be told of its input, and what its log hazard means.

    Attributes:
        encoder: folder of the features it was trained on (``EmbedSettings.folder``).
        n_features: columns of its features.
        tile_settings: tile settings it was trained on (JSON object, as in the features files).
        embed_settings: settings in the header of the features that it was trained on (JSON object).
        member_folds: the fold of training cases that each member did not see.
        low: log hazard below which a case is of low risk.
        high: log hazard from which a case is of high risk.
        training_risks: float64 (n,), sorted out-of-fold log hazards of the training cases.
        fingerprint: of the student's file.
        few_tiles: tiles that 99 % of the training cases have at least.
        time_unit: of the training cohort.
        cohort: summary of the training cohort (JSON object).
        prognosis: log hazard → survival, calibrated out of fold.
        familiarity: how like the training cases a case is.
    """

    encoder: str
    n_features: int
    tile_settings: Mapping[str, Any]
    embed_settings: Mapping[str, Any]
    member_folds: tuple[int, ...]
    low: float
    high: float
    training_risks: NDArray[np.float64]
    fingerprint: str
    few_tiles: int
    time_unit: str
    cohort: Mapping[str, Any]
    prognosis: Prognosis
    familiarity: Familiarity

    def percentile(self, risk: float) -> float:
        """Share of training cases with a lower risk, 0 to 100."""
        return 100 * float(np.searchsorted(self.training_risks, risk)) / len(self.training_risks)

    def group(self, risk: float) -> str:
        """``low``, ``intermediate`` or ``high``, by the cut-offs fixed in training."""
        if risk < self.low:
            return "low"
        return "high" if risk >= self.high else "intermediate"

    def in_unit(self, years: float) -> float:
        """A number of years in the time unit of the training cohort."""
        return years * PER_YEAR[self.time_unit]


@dataclass(frozen=True)
class OpenStudent:
    """A student, ready to predict."""

    card: StudentCard
    members: FusedEnsemble


def read_card(student: Path) -> StudentCard:
    """What a student must be told, from its file.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: it is no student, or its card lacks something.
    """
    model, header = read_model(student, "student")
    return _card(student, model, header)


def open_student(student: Path, *, device: str = "cpu") -> OpenStudent:
    """Open a student to predict.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: it is no student, or something in it is missing, damaged, or does not fit the rest.
    """
    model, header = read_model(student, "student")
    card = _card(student, model, header)
    try:
        members = FusedEnsemble(load_student(model, device=device))
    except FormatError as error:
        raise FormatError(f"{student}: {error}") from error
    if members.n_features != card.n_features or members.n_members != len(card.member_folds):
        raise FormatError(
            f"{student}: the card speaks of {len(card.member_folds)} members and {card.n_features} features, the "
            f"weights of {members.n_members} and {members.n_features}. Delete it and run `wsisurv distill`."
        )
    return OpenStudent(card, members)


def _card(path: Path, model: ModelFile, header: Header) -> StudentCard:
    again = made_anew(header)
    try:
        cohort = dict(model.card["cohort"])
        hidden = int(model.arrays["members/0/embed.weight"].shape[0])
        member_folds = tuple(int(fold) for fold in model.card["member_folds"])
        card = StudentCard(
            encoder=str(model.card["encoder"]),
            n_features=int(model.card["n_features"]),
            tile_settings=dict(model.card["tile_settings"]),
            embed_settings=dict(model.card["embed_settings"]),
            member_folds=member_folds,
            low=float(model.card["cut_offs"]["low"]),
            high=float(model.card["cut_offs"]["high"]),
            training_risks=np.sort(np.asarray(model.arrays["training_risks"], dtype=np.float64).ravel()),
            fingerprint=header.fingerprint,
            few_tiles=int(cohort["tiles_a_case"]["few"]),
            time_unit=str(cohort["time_unit"]),
            cohort=cohort,
            prognosis=load_prognosis(model.arrays),
            familiarity=load_familiarity(model.arrays, len(member_folds), hidden),
        )
    except FormatError as error:
        raise FormatError(f"{path}: {error} {again}") from error
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise FormatError(f"{path}: the student's card has no usable {error}. {again}") from error
    if card.time_unit not in PER_YEAR:
        raise FormatError(f"{path}: time unit {card.time_unit!r} is none of {', '.join(PER_YEAR)}. {again}")
    numbers = [*card.training_risks, card.low, card.high]
    if not len(card.training_risks) or not np.isfinite(numbers).all() or card.low > card.high:
        raise FormatError(
            f"{path}: training risks ({len(card.training_risks)}) or cut-offs ({card.low}, {card.high}) are unusable. "
            f"{again}"
        )
    return card


def unseen_members(card: StudentCard, fold: int | None) -> NDArray[np.bool_]:
    """Members that may speak of a case of this fold; all of them for a case that was in no fold."""
    return np.array([fold is None or member_fold == fold for member_fold in card.member_folds])
