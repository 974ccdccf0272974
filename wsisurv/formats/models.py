"""``teacher.h5``, ``student.h5``, ``findings.h5``: named arrays and a card; nothing is pickled, no code is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, overload

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from wsisurv.errors import FormatError
from wsisurv.formats.atomic import read_json
from wsisurv.formats.cards import Card, Evaluation, StudentCard, TeacherCard, first_problem
from wsisurv.formats.digests import read_array
from wsisurv.formats.finding_cards import FindingsCard
from wsisurv.formats.hdf5 import long_text, put_texts
from wsisurv.formats.header import Header, create, opened
from wsisurv.settings.base import canonical_json, changed_settings
from wsisurv.settings.renamed import present_names

Kind = Literal["teacher", "student", "findings"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CARD_VERSION = {"wsisurv's version of the student's card": "5"}
"""Among the inputs in a student's header; raised when the card holds other things than before: older ones are stale."""
FROM_ELSEWHERE = "students of other cohorts"
"""Among the inputs in a student's header: those that it was given as experts, or to start from."""
_MADE_BY: dict[Kind, str] = {
    "teacher": "wsisurv train-teacher",
    "student": "wsisurv distill",
    "findings": "wsisurv findings",
}
_CARDS: dict[Kind, type[Card]] = {"teacher": TeacherCard, "student": StudentCard, "findings": FindingsCard}

C = TypeVar("C", StudentCard, TeacherCard, FindingsCard)


@dataclass(frozen=True)
class ModelFile(Generic[C]):
    """A trained model on disk."""

    arrays: Mapping[str, NDArray[Any]]  # named arrays: weights (``members/0/…``), quantiles, scaling
    card: C  # what the model must be told to be used, and what came out of its training


def model_format(kind: Kind) -> str:
    """The ``format`` attribute of a model of this kind."""
    return f"wsisurv/{kind}"


def write_model(path: Path, model: ModelFile[C], header: Header) -> None:
    """Write ``model`` whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with create(path, header) as file:
        put_texts(file, "card", canonical_json(model.card))
        for name, array in sorted(model.arrays.items()):
            file.create_dataset(name, data=array)


@overload
def read_model(path: Path, kind: Literal["student"]) -> tuple[ModelFile[StudentCard], Header]: ...


@overload
def read_model(path: Path, kind: Literal["teacher"]) -> tuple[ModelFile[TeacherCard], Header]: ...


@overload
def read_model(path: Path, kind: Literal["findings"]) -> tuple[ModelFile[FindingsCard], Header]: ...


def read_model(path: Path, kind: Kind) -> tuple[ModelFile[Any], Header]:
    """Read a model and what made it.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also for a card with a field missing, too many, or of
            another type, which is named; and for one of a cohort's three students under the name of another.
    """
    with opened(path, model_format(kind), _MADE_BY[kind]) as (file, header):
        if kind == "student" and path.with_name("guidance.h5").exists():  # in the cohort's own folder
            if STUDENT_FILES[which_student(header)] != path.name and path.name in STUDENT_FILES.values():
                raise FormatError(
                    f"{path}: holds what belongs into {STUDENT_FILES[which_student(header)]}: files changed places. "
                    f"Run `{_MADE_BY[kind]} --redo`."
                )
        size = path.stat().st_size
        arrays: dict[str, NDArray[Any]] = {}

        def collect(name: str, item: h5py.HLObject) -> None:
            nonlocal size
            if isinstance(item, h5py.Dataset) and name != "card":
                size -= item.nbytes
                _require_numbers(path, name, item, fits=size >= 0)
                arrays[name] = np.asarray(read_array(item))

        file.visititems(collect)
        again = made_anew(header) if kind == "student" else f"Run `{_MADE_BY[kind]} --redo`."
        try:
            card = _CARDS[kind].model_validate_json(long_text(file, "card").encode(), strict=True)
        except ValidationError as error:
            raise FormatError(f"{path}: the {kind}'s card is not usable: {first_problem(error)}. {again}") from error
        return ModelFile(arrays, card), header


def _require_numbers(path: Path, name: str, item: h5py.Dataset, *, fits: bool) -> None:
    """Refuse what no model of ours holds before it is read: the file may be anybody's, and made with intent."""
    if item.dtype.kind not in "fiub":
        raise FormatError(f"{path}: {name} has type {item.dtype}, not numbers")
    if not fits:
        raise FormatError(f"{path}: {name} of shape {item.shape} is larger than the file that it is in")


def made_anew(header: Header) -> str:
    """How a student whose card lacks something is made anew, for messages."""
    if CARD_VERSION.items() <= header.inputs.items():
        return "Delete it and run `wsisurv distill` again."
    return "It was made by an older wsisurv: run `wsisurv distill --redo`."


STUDENT_FILES = {"distilled": "student_distilled.h5", "plain": "student_plain.h5", "selected": "student.h5"}
"""Key of a student in metrics.json → its file in the cohort's folder; the selected one is written last."""


def which_student(header: Header) -> str:
    """Key in metrics.json of the student that a file holds."""
    guided = header.settings.get("guided")
    return "selected" if guided is None else "distilled" if guided else "plain"


def unlike_student(header: Header, card: StudentCard, record: Mapping[str, Any]) -> str:
    """What makes the cross-validation of a cohort one of another student, in words; empty where it is of this one.

    Args:
        header: of the student's file.
        card: of the student.
        record: ``cohort`` and ``settings`` of metrics.json.

    Raises:
        KeyError, TypeError, AttributeError: it is not what ``crossval`` writes.
    """
    settings = record["settings"]
    own = {name: value for name, value in header.settings.items() if name != "guided"}
    if record["cohort"]["fingerprint"] != header.inputs.get("cohort"):
        return "of another cohort than the student"
    if changes := changed_settings(own, present_names(settings.get("student") or {})):
        return f"of a student with other settings (this one's → those: {'; '.join(changes)})"
    for name, options in (("alignment", "--alignment"), (FROM_ELSEWHERE, "--experts, --warm-start")):
        if header.inputs.get(name) != settings.get(name, {}).get("fingerprint"):
            return f"of a student with other, or without, {name} ({options})"
    if (settings.get("teacher") or {}).get("encoder", card.encoder) != card.encoder:
        return "of a student of another encoder"
    return ""


def figures_of(header: Header, card: StudentCard, record: Mapping[str, Any]) -> tuple[Evaluation | None, str]:
    """Figures of a student in what ``crossval`` wrote; None, and why, where it is about another student.

    Args:
        header: of the student's file.
        card: of the student.
        record: metrics.json.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not what ``crossval`` writes.
    """
    if why := unlike_student(header, card, record):
        return None, why
    evaluation = Evaluation.of_metrics(record, which_student(header))
    if evaluation.own is None:
        return None, f"without figures of the {evaluation.model} student: run `wsisurv crossval --redo`"
    return evaluation, ""


def add_figures(student: Path, metrics: Path) -> bool:
    """Put the figures of ``crossval`` into the card of the student that they are about, as ``evaluation``.

    Nothing else in the file changes, its fingerprint included.

    Args:
        student: one of ``STUDENT_FILES``; each takes the figures of its own model.
        metrics: ``evaluation/metrics.json``.

    Returns:
        Whether they are in the card now: False where a file is missing, or the figures are of another cohort, of a
        student with other settings, or lack this one.

    Raises:
        FormatError: a file is damaged.
        StorageError: no room or no permission.
    """
    if not (student.exists() and metrics.exists()):
        return False
    model, header = read_model(student, "student")
    try:
        evaluation, _ = figures_of(header, model.card, read_json(metrics))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else error
        raise FormatError(f"{metrics}: not the figures of `wsisurv crossval` ({problem}). Run it again.") from error
    if evaluation is None:
        return False
    write_model(student, ModelFile(model.arrays, model.card.model_copy(update={"evaluation": evaluation})), header)
    return True
