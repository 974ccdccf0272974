"""One fold as a piece of work: trained as a cohort of its own, scored, written down, and found again."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from wsisurv.cohort import Cohort
from wsisurv.engine.progress import Progress
from wsisurv.errors import FormatError
from wsisurv.experiments.fold_models import FoldRisks, Inputs, score_fold
from wsisurv.formats.atomic import write_text
from wsisurv.formats.splits import Fold
from wsisurv.settings.base import fingerprint
from wsisurv.workspace.freshness import Freshness, Origin, compare, require_fresh
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class Training:
    """How a fold is trained.

    Attributes:
        run: trains teacher and students on a cohort, so that teacher.h5, guidance.h5, student_distilled.h5 and
            student_plain.h5 lie in its folder; told the number of the repeat, to be added to its seed, and a progress;
            gives warnings.
        settings: all that decides what it does, as a JSON object; a fold made with others is stale.
        encoder: folder of the features.
        text_encoder: of the statements' vectors.
    """

    run: Callable[[Cohort, int, Progress], Sequence[str]]
    settings: Mapping[str, Any]
    encoder: str
    text_encoder: str

    case_ids: ClassVar[None] = None

    def score(self, inputs: Inputs, trained: Cohort, fold: Fold, progress: Progress) -> FoldRisks:
        """Train on a fold's training cases and score its tested ones.

        Raises:
            WsisurvError: as the training and ``score_fold``.
        """
        warned = self.run(trained, fold.repeat, progress)
        scored = score_fold(inputs, trained, fold.test, encoder=self.encoder, text_encoder=self.text_encoder)
        return replace(scored, warnings=(*warned, *scored.warnings))


class Scorer(Protocol):
    """What trains and scores a fold: ``Training`` with slides, ``ReportTraining`` without.

    Attributes:
        settings: all that decides what it does, as a JSON object; a fold made with others is stale.
        encoder: folder of the features; None where no slide is read.
        text_encoder: of the statements' vectors.
        case_ids: cases that can be scored; None for all that have tiles.
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def encoder(self) -> str | None: ...  # noqa: D102
    @property
    def text_encoder(self) -> str: ...  # noqa: D102
    @property
    def case_ids(self) -> frozenset[str] | None: ...  # noqa: D102

    def score(self, inputs: Inputs, trained: Cohort, fold: Fold, progress: Progress) -> FoldRisks:
        """Train on a fold's training cases and score its tested ones."""
        ...


@dataclass(frozen=True)
class Job:
    """One fold to be done.

    Attributes:
        fold: who is trained on and who is tested.
        cohort: the training cases as a cohort of their own, whose folder is PLACE/REPEAT-FOLD/.
        settings: all that decides its risks, as a JSON object.
        fingerprint: sha256 of those and of all that is read.
    """

    fold: Fold
    cohort: Cohort
    settings: Mapping[str, Any]
    fingerprint: str

    def path(self, workspace: Workspace) -> Path:
        """Where its risks are written, last of all: where the file is, the fold is done."""
        return workspace.cohort(self.cohort.name) / "risks.json"


def make_job(cohort: Cohort, place: str, fold: Fold, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Job:
    """Describe the work of one fold.

    Args:
        cohort: all cases.
        place: folder of all folds in the cohort's.
        fold: of the cases.
        settings: all that decides the risks.
        inputs: fingerprints of features and statements.
    """
    train, test = (
        Cohort(
            name=f"{cohort.name}/{place}/{fold.name}",
            cases=tuple(case for case in cohort.cases if case.case_id in ids),
            settings=cohort.settings,
        )
        for ids in (set(fold.train), set(fold.test))
    )
    read = {**inputs, "train": train.fingerprint, "test": test.fingerprint}
    return Job(fold, train, settings, fingerprint(settings, read))


def do_job(job: Job, inputs: Inputs, training: Scorer, progress: Progress) -> FoldRisks:
    """Train and score a fold, and write its risks down.

    Raises:
        WsisurvError: as the training.
    """
    risks = training.score(inputs, job.cohort, job.fold, progress)
    record = {
        "format": "wsisurv/fold-risks",
        "settings": job.settings,
        "fingerprint": job.fingerprint,
        "gate": risks.gate,
        "warnings": risks.warnings,
        "case_ids": risks.case_ids,
        "risks": {name: values.tolist() for name, values in risks.risks.items()},
    }
    write_text(job.path(inputs.workspace), json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return risks


def finished(jobs: Sequence[Job], workspace: Workspace, *, redo: bool) -> dict[str, FoldRisks]:
    """Folds that are done already, by their names.

    Raises:
        StaleError: a fold was made otherwise, and not ``redo``; names the settings.
        FormatError: its file is damaged.
    """
    found: dict[str, FoldRisks] = {}
    seen: dict[Path, Freshness] = {}
    for job in jobs:
        path = job.path(workspace)
        if not path.exists():
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            made = Origin(str(record["fingerprint"]), dict(record["settings"]))
            seen[path.parent] = compare(made, Origin(job.fingerprint, job.settings))
            if seen[path.parent].done:
                risks = {name: np.array(values, dtype=np.float64) for name, values in record["risks"].items()}
                warnings = tuple(map(str, record["warnings"]))
                gate = None if record["gate"] is None else float(record["gate"])
                found[job.fold.name] = FoldRisks(tuple(record["case_ids"]), risks, gate, warnings)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path}: damaged ({error}). Delete it and run crossval again.") from error
    if not redo:
        require_fresh(seen)
    return found
