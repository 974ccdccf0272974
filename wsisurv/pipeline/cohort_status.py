"""``status`` of a cohort: which of its models, folds, figures and tables are done, and which are stale."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wsisurv.cohort import Cohort, read_cohort
from wsisurv.errors import WsisurvError
from wsisurv.formats import guidance, text_vectors
from wsisurv.formats.atomic import read_json
from wsisurv.formats.header import Header, read_header
from wsisurv.formats.models import model_format, read_model, unlike_student
from wsisurv.formats.risk_shares import RiskShare, count_shares
from wsisurv.formats.risks import read_source
from wsisurv.formats.splits import read_splits
from wsisurv.settings.base import canonical_json, changes_between, fingerprint
from wsisurv.workspace.index import Indexed
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class CohortStatus:
    """One cohort, or one endpoint of it."""

    name: str
    cases: int
    events: int
    parts: Mapping[str, str]  # teacher, student, crossval … → ``done``, ``missing``, ``stale: WHY``, ``9 of 15 folds``
    next_command: str | None  # that does the first part which is not done


def cohort_status(workspace: Workspace, name: str, embedded: Mapping[str, Mapping[str, Indexed]]) -> CohortStatus:
    """Look at a cohort.

    Args:
        workspace: that holds it.
        name: of the cohort, or of one of its endpoints.
        embedded: encoder → slide → header of its features.
    """
    folder = workspace.cohort(name)
    try:
        cohort = read_cohort(folder)[0]
    except WsisurvError as error:
        again = f"wsisurv cohort {name} --clinical FILE --redo"
        return CohortStatus(name, 0, 0, {"cohort": f"can't be read: {error}"}, again)
    evaluation = folder / "evaluation"
    events = sum(case.event for case in cohort.cases)
    if not (folder / "guidance.h5").exists() and (evaluation / "external.json").exists():
        return CohortStatus(name, len(cohort.cases), events, {"evaluate": _evaluation(evaluation, cohort)}, None)
    parts = {
        "train-teacher": _model(workspace, folder / "guidance.h5", guidance.FORMAT, guidance.MADE_BY, cohort, embedded),
        "distill": _model(
            workspace, folder / "student.h5", model_format("student"), "wsisurv distill", cohort, embedded
        ),
        "crossval": _crossval(folder, cohort),
        "predict": _risks(folder, embedded),
        "report": "done" if (evaluation / "index.html").exists() else "missing",
    }
    if (folder / "reports-only").exists():
        parts["crossval --reports-only"] = _folds(
            folder / "reports-only", evaluation / "metrics-reports-only.json", cohort
        )
        if not any(case.slide_ids for case in cohort.cases):
            parts = {key: parts[key] for key in ("crossval --reports-only", "report")}
    left = next((part for part, state in parts.items() if state != "done"), None)
    if left is None:
        return CohortStatus(name, len(cohort.cases), events, parts, None)
    anew = " --redo" if parts[left].startswith("stale") else ""
    return CohortStatus(name, len(cohort.cases), events, parts, f"wsisurv {left} --cohort {name}{anew}")


def _model(
    workspace: Workspace,
    path: Path,
    format: str,
    made_by: str,
    cohort: Cohort,
    embedded: Mapping[str, Mapping[str, Indexed]],
) -> str:
    """State of a model's file: whether cohort, features, statements and guidance are still those it was made from."""
    if not path.exists():
        return "missing"
    try:
        header = read_header(path, format, made_by)
        now = _inputs_now(workspace, path, header, cohort, embedded)
    except WsisurvError as error:
        return f"can't be read: {error}"
    differs = [key for key in header.inputs.keys() & now.keys() if header.inputs[key] != now[key]]
    return f"stale: {' and '.join(sorted(differs))} made anew since" if differs else "done"


def _inputs_now(
    workspace: Workspace, path: Path, header: Header, cohort: Cohort, embedded: Mapping[str, Mapping[str, Indexed]]
) -> dict[str, str]:
    now = {"cohort": cohort.fingerprint}
    beside = path.with_name("guidance.h5")
    settings = header.settings
    if path != beside and beside.exists():
        of_guidance = read_header(beside, guidance.FORMAT, guidance.MADE_BY)
        now["guidance"], settings = of_guidance.fingerprint, of_guidance.settings
    slides = embedded.get(str(settings.get("encoder")), {})
    ids = [slide_id for case in cohort.cases for slide_id in case.slide_ids]
    if all(slide_id in slides for slide_id in ids):
        now["features"] = fingerprint({}, {slide_id: slides[slide_id].fingerprint for slide_id in ids})
    vectors = workspace.vectors(str(settings.get("text_encoder")))
    if vectors.exists():  # tfidf has none: its words are counted in training
        now["statements"] = read_header(vectors, text_vectors.FORMAT, text_vectors.MADE_BY).fingerprint
    return now


def _crossval(folder: Path, cohort: Cohort) -> str:
    metrics, student = folder / "evaluation" / "metrics.json", folder / "student.h5"
    state = _folds(folder / "crossval", metrics, cohort)
    if state != "done" or not student.exists():
        return state
    try:
        model, header = read_model(student, "student")
        why = unlike_student(header, model.card, read_json(metrics))
    except WsisurvError:
        return state  # that of distill says so
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"can't be read: {metrics}: damaged ({error})"
    return f"stale: {why}" if why else "done"


def _folds(place: Path, metrics: Path, cohort: Cohort) -> str:
    """State of the folds in a folder, and of the figures that were made from them."""
    splits = (place if place.name == "reports-only" else place.parent) / "splits.jsonl"
    if not splits.exists():
        return "missing"
    try:
        names = [fold.name for fold in read_splits(splits)]
        made = {name: _fold(place / name / "risks.json") for name in names}
        record = read_json(metrics) if metrics.exists() else None
        figures = None if record is None else {one["name"]: one["fingerprint"] for one in record["folds"]}
        of_cohort = None if record is None else record["cohort"]["fingerprint"]
    except WsisurvError as error:
        return f"can't be read: {error}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"can't be read: {metrics}: damaged ({error})"
    if damaged := sum(one == ("", "") for one in made.values()):
        return f"stale: {damaged} of {len(names)} folds can't be read"
    there = {name: one for name, one in made.items() if one is not None}
    if figures is None:
        ways = Counter(settings for _, settings in there.values()).most_common()
        if len(ways) < 2:
            return f"{len(there)} of {len(names)} folds"
        differs = "; ".join(changes_between(json.loads(ways[1][0]), json.loads(ways[0][0])))
        others = len(there) - ways[0][1]
        return f"stale: {others} of the {len(there)} folds that are done have other settings than most: {differs}"
    if of_cohort != cohort.fingerprint:
        return "stale: cohort made anew since"
    changed = [name for name in {*names, *figures} if figures.get(name) != there.get(name, ("", ""))[0]]
    if not changed:
        return "done"
    gone = len(set(changed) - there.keys())
    counts = ((len(changed) - gone, "made anew"), (gone, "gone"))
    how = " and ".join(f"{count} {what}" for count, what in counts if count)
    return f"stale: of {len(names)} folds {how} since the figures"


def _fold(path: Path) -> tuple[str, str] | None:
    """Fingerprint and settings of a fold that is done; None where it is not, empty texts where it can't be read."""
    if not path.exists():
        return None
    try:
        record = read_json(path)
        return str(record["fingerprint"]), canonical_json(record["settings"])
    except (WsisurvError, ValueError, KeyError, TypeError):
        return "", ""


def _evaluation(folder: Path, cohort: Cohort) -> str:
    path = folder / "external.json"
    try:
        same = read_json(path)["cohort"]["fingerprint"] == cohort.fingerprint
    except (WsisurvError, ValueError, KeyError, TypeError) as error:
        return f"can't be read: {path}: {error}"
    return "done" if same else "stale: cohort made anew since"


def _risks(folder: Path, embedded: Mapping[str, Mapping[str, Indexed]]) -> str:
    table = folder / "risk.csv"

    def current(share: RiskShare) -> bool:
        """Whether all features that it read are those of one encoder now."""
        return any(
            all(
                (made[slide_id].fingerprint if slide_id in made else "") == read
                for slide_id, read in share.features.items()
            )
            for made in embedded.values()
        )

    if shares := count_shares(table, current):  # of an array that has not ended
        return shares
    if not table.exists():
        return "missing"
    try:
        student = read_source(table).student
        now = read_header(folder / "student.h5", model_format("student"), "wsisurv distill").fingerprint
    except WsisurvError as error:
        return f"can't be read: {error}"
    return "done" if student == now else "stale: the student was made anew since, or another was used"
