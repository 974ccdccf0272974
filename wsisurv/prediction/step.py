"""Step 6, predict: a student and the features of cases → risks."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import match_case
from wsisurv.errors import EncoderMismatchError, FormatError, MissingArtifactError, StaleError
from wsisurv.formats.features import Features, read_features
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import ModelFile, read_model
from wsisurv.formats.risks import Risk
from wsisurv.models.student import load_student
from wsisurv.workspace import Failure, Progress, Workspace, make_failure, no_progress

UNKNOWN = "unknown"
_PER_SLIDE = {"slide_mpp", "measures"}
"""Tile settings that tell how one slide was read or what is known of it besides, not what its tiles are."""
_ARITHMETIC = {"precision"}
"""Embed settings that change a feature by rounding only."""


@dataclass(frozen=True)
class StudentCard:
    """What a student must be told of its input, and what turns its risk into a percentile and a group.

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

    def percentile(self, risk: float) -> float:
        """Share of training cases with a lower risk, 0 to 100."""
        return 100 * float(np.searchsorted(self.training_risks, risk)) / len(self.training_risks)

    def group(self, risk: float) -> str:
        """``low``, ``intermediate`` or ``high``, by the cut-offs fixed in training."""
        if risk < self.low:
            return "low"
        return "high" if risk >= self.high else "intermediate"


@dataclass(frozen=True)
class Prediction:
    """What came out.

    Attributes:
        risks: one a case that could be read, sorted by case.
        failed: cases of which a features file is missing or damaged; no risk is given from half a case.
    """

    risks: tuple[Risk, ...]
    failed: tuple[Failure, ...]


def read_card(student: Path) -> StudentCard:
    """What a student must be told, from its file.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: it is no student, or its card lacks something.
    """
    model, header = read_model(student, "student")
    return _card(student, model, header.fingerprint)


def _card(path: Path, model: ModelFile, fingerprint: str) -> StudentCard:
    try:
        training = np.sort(np.asarray(model.arrays["training_risks"], dtype=np.float64).ravel())
        card = StudentCard(
            encoder=str(model.card["encoder"]),
            n_features=int(model.card["n_features"]),
            tile_settings=dict(model.card["tile_settings"]),
            embed_settings=dict(model.card["embed_settings"]),
            member_folds=tuple(int(fold) for fold in model.card["member_folds"]),
            low=float(model.card["cut_offs"]["low"]),
            high=float(model.card["cut_offs"]["high"]),
            training_risks=training,
            fingerprint=fingerprint,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path}: the student's card has no usable {error}. Run `wsisurv distill` again to make it anew."
        ) from error
    if not len(training) or not np.isfinite([*training, card.low, card.high]).all() or card.low > card.high:
        raise FormatError(
            f"{path}: training risks ({len(training)}) or cut-offs ({card.low}, {card.high}) are unusable. "
            "Run `wsisurv distill` again."
        )
    return card


def group_slides(
    slide_ids: Sequence[str],
    *,
    case_ids: Collection[str] | None = None,
    slide_map: Mapping[str, str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Whose each slide is, for slides straight from the scanner.

    Args:
        slide_ids: the slides.
        case_ids: known cases; a slide is of the case that its name begins with (``cohort.match_case``).
        slide_map: slide_id → case_id; goes before the name.

    Returns:
        case_id → its slides, both sorted; a slide of no known case is a case of its own.
    """
    groups: dict[str, list[str]] = {}
    for slide_id in sorted(set(slide_ids)):
        case_id = (slide_map or {}).get(slide_id) or match_case(slide_id, case_ids or ()) or slide_id
        groups.setdefault(case_id, []).append(slide_id)
    return {case_id: tuple(groups[case_id]) for case_id in sorted(groups)}


def find_bags(
    workspace: Workspace, encoder: str, slides_of: Mapping[str, Sequence[str]]
) -> dict[str, tuple[Path, ...]]:
    """Features files of each case, by its slides: case_id → paths."""
    return {
        case_id: tuple(workspace.features(encoder, slide_id) for slide_id in slides)
        for case_id, slides in slides_of.items()
    }


def training_folds(student: Path, guidance: Path) -> dict[str, int]:
    """The fold of each case that the student was trained on: case_id → fold.

    Empty where ``guidance`` is of another training than the student's: then its cases are new to the student.

    Raises:
        MissingArtifactError, FormatError: a file is missing or damaged.
        StaleError: student and guidance lie side by side, but the teacher was trained anew since.
    """
    _, header = read_model(student, "student")
    told, made = read_guidance(guidance)
    if header.inputs.get("guidance") == made.fingerprint:
        return dict(zip(told.case_ids, told.fold.tolist(), strict=True))
    if student.parent.resolve() == guidance.parent.resolve():
        raise StaleError(f"{student}: the teacher was trained anew since. Run `wsisurv distill --redo` first.")
    return {}


def predict_cases(
    student: Path,
    bags: Mapping[str, Sequence[Path]],
    *,
    fold_of: Mapping[str, int] | None = None,
    progress: Progress = no_progress,
) -> Prediction:
    """Predict the risk of each case from all tiles of all of its slides; one case in memory at a time.

    A case without a tile has no risk and is of group ``unknown``: nothing was seen, so nothing is said.

    Args:
        student: the model's file.
        bags: case_id → features files of its slides.
        fold_of: ``training_folds``; a case of a fold is predicted only by members that did not see that fold, so
            that the student does not repeat what it was told.
        progress: told before each case.

    Raises:
        MissingArtifactError, FormatError: the student is missing or damaged.
        EncoderMismatchError: a features file was made by another encoder, with other tiles or of another width than
            the student was trained on.
    """
    model, header = read_model(student, "student")
    card, ensemble = _card(student, model, header.fingerprint), load_student(model)
    risks, failed = [], []
    for number, case_id in enumerate(sorted(bags)):
        progress(number, len(bags), case_id)
        slides = []
        try:
            for path in bags[case_id]:
                slides.append(read_features_for(path, card, student))
        except (MissingArtifactError, FormatError, OSError) as error:
            failed.append(make_failure(case_id, path, error, card.fingerprint))
            continue
        values = [slide.values for slide in slides if len(slide.values)]
        log_hazard = None
        if values:
            by_member = ensemble.members_log_hazard(np.concatenate(values))
            log_hazard = float(by_member[unseen_members(card, (fold_of or {}).get(case_id))].mean())
        risks.append(_risk(case_id, slides, log_hazard, card))
    progress(len(bags), len(bags), "")
    return Prediction(tuple(risks), tuple(failed))


def unseen_members(card: StudentCard, fold: int | None) -> NDArray[np.bool_]:
    """Members that may speak of a case of this fold; all of them for a case that was in no fold."""
    return np.array([fold is None or member_fold == fold for member_fold in card.member_folds])


def _risk(case_id: str, slides: Sequence[Features], log_hazard: float | None, card: StudentCard) -> Risk:
    names = tuple(str(slide.slide_id) for slide in slides)
    if log_hazard is None:
        return Risk(case_id, names, 0, None, None, UNKNOWN)
    if not math.isfinite(log_hazard):
        raise FormatError(
            f"case {case_id}: the student gives {log_hazard}; its weights or the features of "
            f"{', '.join(names)} are damaged. Make the features anew with `wsisurv embed --redo`."
        )
    n_tiles = sum(len(slide.values) for slide in slides)
    return Risk(case_id, names, n_tiles, log_hazard, card.percentile(log_hazard), card.group(log_hazard))


def read_features_for(path: Path, card: StudentCard, student: Path) -> Features:
    """Features of one slide, refused where the student can't be right about them.

    Args:
        path: the features file.
        card: of the student.
        student: the student's file, for the message.

    Raises:
        MissingArtifactError, FormatError: the file is missing or damaged.
        EncoderMismatchError: made by another encoder, with other tiles or of another width than in training.
    """
    features, header = read_features(path)
    encoder = card.embed_settings.get("encoder", card.encoder)
    if features.encoder not in {card.encoder, encoder}:
        raise EncoderMismatchError(
            f"{path}: features of encoder {features.encoder!r}, but {student} was trained on {encoder!r}. Embed the "
            f"slides with `wsisurv embed --encoder {encoder}`, or name a student that was trained on these features."
        )
    n_features = features.values.shape[1]
    if len(features.values) and n_features != card.n_features:
        raise EncoderMismatchError(
            f"{path}: {n_features} features a tile, but {student} was trained on {card.n_features} of {encoder!r}. "
            "Embed the slides with the version of the encoder that was used in training."
        )
    if changes := _differences(header.settings, card.embed_settings, _ARITHMETIC):
        raise EncoderMismatchError(
            f"{path}: embedded with {_listed(changes)} {student} was trained on. Embed the slides in the same way."
        )
    if changes := _differences(features.tile_settings, card.tile_settings, _PER_SLIDE):
        options = " ".join(f"--{change.name.replace('_', '-')} {change.wanted}" for change in changes)
        raise EncoderMismatchError(
            f"{path}: tiles made with {_listed(changes)} {student} was trained on. Tile the slides with "
            f"`wsisurv tile {options}` and embed them, in a --workspace of their own."
        )
    return features


@dataclass(frozen=True)
class _Difference:
    name: str
    seen: Any
    wanted: Any


def _differences(seen: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str]) -> list[_Difference]:
    names = sorted((seen.keys() | wanted.keys()) - set(ignored))
    pairs = [_Difference(name, seen.get(name), wanted.get(name)) for name in names]
    return [pair for pair in pairs if pair.seen != pair.wanted]


def _listed(changes: Sequence[_Difference]) -> str:
    return " and ".join(f"{change.name} {change.seen} instead of the {change.wanted} that" for change in changes)
