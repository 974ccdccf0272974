"""Cross-validation of the whole method: folds, leak audit, training anew in each fold, and one account of it all."""

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wsisurv import __version__
from wsisurv.cohort import Cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.experiments.fold_job import Job, Scorer
from wsisurv.experiments.fold_models import FoldRisks
from wsisurv.experiments.results import Account, make_account
from wsisurv.experiments.scoring import STEP, score_folds
from wsisurv.experiments.verdict import verdict
from wsisurv.formats.atomic import write_text
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.workspace.paths import Workspace

REPORTS_ONLY = "reports-only"


@dataclass(frozen=True)
class CrossvalResult:
    """What came out.

    Attributes:
        account: all figures.
        verdict: what they show, in words.
        n_folds: folds in all.
        kept: folds that were there already.
        metrics: path of metrics.json.
        warnings: what a person should know, one line each.
    """

    account: Account
    verdict: tuple[str, ...]
    n_folds: int
    kept: int
    metrics: Path
    warnings: tuple[str, ...]


def crossval(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    training: Scorer,
    *,
    splits: Path | None = None,
    keep_together: bool = False,
    redo: bool = False,
    progress: Progress = no_progress,
) -> CrossvalResult:
    """Cross-validate; writes splits.jsonl, crossval/REPEAT-FOLD/ and evaluation/metrics.json into the cohort's folder.

    Where no slide is read these are reports-only/splits.jsonl, reports-only/REPEAT-FOLD/ and
    evaluation/metrics-reports-only.json.

    Args:
        workspace: holds features and statements.
        cohort: the cases.
        settings: how.
        training: trains a fold.
        splits: the user's folds, see ``read_folds``; drawn if None.
        keep_together: put cases that share a slide, a report or tissue on one side, where folds are drawn.
        redo: replace splits and folds that were made otherwise.
        progress: told of the audit, then of the training.

    Raises:
        MetricError: the tested cases can't give the figures.
        WsisurvError: as ``score_folds``.
    """
    scored = score_folds(
        workspace,
        cohort,
        settings,
        training,
        splits=splits,
        keep_together=keep_together,
        redo=redo,
        place=STEP if training.encoder is not None else REPORTS_ONLY,
        progress=progress,
    )
    account = make_account(
        scored.for_account(),
        scored.cohort.cases,
        settings.covariates,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    warnings = [*scored.warnings, *account.warnings]
    if not scored.cases_with_statements:
        warnings.append("no case has statements of a report: reports, teacher and distilled student are left out")
    if not settings.covariates:
        warnings.append("no covariates named (--covariates age,stage): what the clinic knows already is left out")
    words = verdict(account, settings.covariates)
    record = {
        "format": "wsisurv/metrics",
        "cohort": {
            "name": cohort.name,
            "fingerprint": cohort.fingerprint,
            "cases": len(scored.cohort.cases),
            "cases_with_statements": scored.cases_with_statements,
            "tested": account.cases,
            "tested_events": account.events,
            "time_unit": cohort.settings.time_unit,
        },
        "settings": {**training.settings, "crossval": settings.model_dump(mode="json")},
        "splits": "given" if splits else "drawn",
        "versions": versions(),
        "horizons": account.horizons,
        "models": [asdict(row) for row in account.models],
        "differences": [asdict(row) for row in account.differences],
        "added_by_slides": asdict(account.added) if account.added else None,
        "added_by_report": asdict(account.added_by_report) if account.added_by_report else None,
        "folds": [_fold_record(*fold) for fold in zip(scored.jobs, scored.risks, account.by_fold, strict=True)],
        "verdict": words,
        "warnings": warnings,
    }
    file = "metrics.json" if training.encoder is not None else f"metrics-{REPORTS_ONLY}.json"
    metrics = workspace.cohort(cohort.name) / "evaluation" / file
    write_text(metrics, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return CrossvalResult(account, words, len(scored.jobs), scored.kept, metrics, tuple(warnings))


def _fold_record(job: Job, risks: FoldRisks, by_fold: dict[str, float | None]) -> dict[str, Any]:
    return {
        "name": job.fold.name,
        "repeat": job.fold.repeat,
        "fold": job.fold.fold,
        "train": len(job.fold.train),
        "train_events": sum(case.event for case in job.cohort.cases),
        "test": len(job.fold.test),
        "gate": risks.gate,
        "concordance": by_fold,
        "fingerprint": job.fingerprint,
    }


def versions() -> dict[str, str]:
    """Versions that figures depend on."""
    return {
        "wsisurv": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "lifelines", "numpy")},
    }
