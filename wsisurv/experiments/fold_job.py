"""One fold as a piece of work: its training cases as a cohort of their own, its risks written down and found again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsisurv.cohort import Cohort
from wsisurv.errors import FormatError, WsisurvError
from wsisurv.experiments.fold_models import FoldRisks
from wsisurv.formats.atomic import read_json, write_json
from wsisurv.formats.splits import Fold
from wsisurv.settings.base import fingerprint
from wsisurv.workspace.freshness import Freshness, Origin, compare, require_fresh
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class FoldJob:
    """One fold to be done."""

    fold: Fold  # who is trained on and who is tested
    cohort: Cohort  # the training cases as a cohort of their own, whose folder is PLACE/REPEAT-FOLD/
    settings: Mapping[str, Any]  # all that decides its risks, as a JSON object
    fingerprint: str  # sha256 of those and of all that is read

    def path(self, workspace: Workspace) -> Path:
        """Where its risks are written, last of all: where the file is, the fold is done."""
        return workspace.cohort(self.cohort.name) / "risks.json"


def make_job(cohort: Cohort, place: str, fold: Fold, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> FoldJob:
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
    return FoldJob(fold, train, settings, fingerprint(settings, read))


def write_risks(job: FoldJob, workspace: Workspace, risks: FoldRisks) -> None:
    """Write the risks of a fold down: it is done then.

    Raises:
        StorageError: no room or no permission.
    """
    record = {
        "format": "wsisurv/fold-risks",
        "settings": job.settings,
        "fingerprint": job.fingerprint,
        "gate": risks.gate,
        "selected": risks.selected,
        "warnings": risks.warnings,
        "case_ids": risks.case_ids,
        "risks": {name: values.tolist() for name, values in risks.risks.items()},
    }
    write_json(job.path(workspace), record, indent=None)


def finished_folds(jobs: Sequence[FoldJob], workspace: Workspace, *, redo: bool) -> dict[str, FoldRisks]:
    """Folds that are done already, by their names.

    Raises:
        StaleError: a fold was made otherwise, and not ``redo``; names the settings.
        FormatError: the file of one is damaged, and not ``redo``.
    """
    found: dict[str, FoldRisks] = {}
    seen: dict[Path, Freshness] = {}
    for job in jobs:
        path = job.path(workspace)
        if not path.exists():
            continue
        try:
            record = read_json(path)
            made = Origin(str(record["fingerprint"]), dict(record["settings"]))
            seen[path.parent] = compare(made, Origin(job.fingerprint, job.settings))
            if seen[path.parent].done:
                risks = {name: np.array(values, dtype=np.float64) for name, values in record["risks"].items()}
                warnings = tuple(map(str, record["warnings"]))
                gate = None if record["gate"] is None else float(record["gate"])
                found[job.fold.name] = FoldRisks(
                    tuple(record["case_ids"]), risks, gate, warnings, selected=record["selected"]
                )
        except (WsisurvError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not redo:
                raise FormatError(
                    f"{path}: damaged ({error}). Delete it and run crossval again, or add --redo."
                ) from error
    if not redo:
        require_fresh(seen)
    return found
