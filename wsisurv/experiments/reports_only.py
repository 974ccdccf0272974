"""Folds without slides, from cases that have follow-up and a report."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Cohort, with_all_endpoints
from wsisurv.engine.progress import Progress
from wsisurv.engine.shards import Shard
from wsisurv.errors import CohortError, MissingArtifactError, some
from wsisurv.experiments.fold_job import FoldJob, make_job
from wsisurv.experiments.fold_models import SCORING_VERSION, FoldRisks
from wsisurv.experiments.report_models import ReportInputs, score_report_fold
from wsisurv.experiments.scoring import ScoredFolds, cases_with_statements, counted, plan_folds, run_folds
from wsisurv.formats.statements import read_statements
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.reports.sources import read_reports
from wsisurv.settings.base import canonical_json, fingerprint
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import TeacherSettings
from wsisurv.workspace.paths import Workspace

PLACE = "reports-only"
REPORTS_VERSION = 3
"""Raised when what is read from reports, or how it is fitted, changes: folds scored before are then stale."""


def score_reports_only(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    teacher: TeacherSettings,
    *,
    report_text: Path | None,
    splits: Path | None,
    keep_together: bool,
    shard: Shard | None,
    redo: bool,
    progress: Progress,
) -> ScoredFolds:
    """Fit and score every fold; writes splits.jsonl and REPEAT-FOLD/ into the cohort's reports-only/.

    Args:
        workspace: holds the statements.
        cohort: the cases.
        settings: folds, and covariates by their names.
        teacher: of which the text branch and its settings are taken.
        report_text: the reports themselves, for a model of their whole text; None leaves it out.
        splits: as ``plan_folds``.
        keep_together: as ``plan_folds``.
        shard: as ``run_folds``.
        redo: as ``run_folds``.
        progress: called in each fold.

    Raises:
        CohortError: no report of ``report_text`` is of a case of the cohort.
        MissingArtifactError: no statements, or no vectors of the text encoder.
        ReportError: the reports can't be read.
        WsisurvError: as ``plan_folds``, ``run_folds`` and ``score_report_fold``.
    """
    inputs = _read_inputs(workspace, teacher.text_encoder, report_text)
    if inputs.full_text and not inputs.full_text.keys() & {str(case.case_id) for case in cohort.cases}:
        raise CohortError(
            f"{report_text}: none of its {len(inputs.full_text)} reports is of a case of cohort {cohort.name}: it has "
            f"{some(list(inputs.full_text), 2)}; cases are called {some([case.case_id for case in cohort.cases], 2)}."
        )
    planned = plan_folds(
        workspace,
        cohort,
        settings,
        inputs.case_ids,
        "there is no report",
        whole=with_all_endpoints(workspace, cohort),
        splits=splits,
        keep_together=keep_together,
    )
    stated = cases_with_statements(workspace, planned.cohort, teacher.text_encoder)
    covariates = settings.covariates or ()
    trained = _decided(teacher, inputs)
    decided = {**trained, "covariates": list(covariates), "scoring": SCORING_VERSION}
    read = {"features": fingerprint({}, {}), "statements": stated.fingerprint}
    jobs = tuple(make_job(planned.cohort, PLACE, fold, decided, read) for fold in planned.folds)
    case_of = {str(case.case_id): case for case in planned.cohort.cases}

    def score(job: FoldJob, move: Progress) -> FoldRisks:
        move(0, 1, "reports")
        test = [case_of[case_id] for case_id in job.fold.test]
        return score_report_fold(
            inputs, job.cohort.cases, test, teacher=teacher, covariates=covariates, repeat=job.fold.repeat
        )

    splits_at = workspace.cohort(cohort.name) / PLACE / "splits.jsonl"
    risks, kept = run_folds(
        workspace, cohort.name, jobs, score, splits_at=splits_at, redo=redo, progress=progress, shard=shard
    )
    warnings = (*planned.warnings, *counted(risks))
    return ScoredFolds(planned.cohort, len(stated.case_ids), jobs, tuple(risks), kept, trained, warnings)


def _read_inputs(workspace: Workspace, text_encoder: str, report_text: Path | None) -> ReportInputs:
    """Statements of all reports, their vectors where these are not ``tfidf``, and whole texts where asked for."""
    records = read_statements(workspace.statements)
    vectors: Mapping[str, NDArray[np.float32]] = {}
    if text_encoder != "tfidf":
        path = workspace.vectors(text_encoder)
        if not path.exists():
            raise MissingArtifactError(f"{path}: not there. Name vectors that are with --text-encoder, or tfidf.")
        vectors = read_text_vectors(path)[0].by_case()
    return ReportInputs(
        statements={case_id: record.statements for case_id, record in records.items()},
        vectors=vectors,
        full_text=read_reports(report_text) if report_text is not None else {},
    )


def _decided(teacher: TeacherSettings, inputs: ReportInputs) -> dict[str, object]:
    """All that decides how a fold is fitted; the teacher's settings only where its text branch is."""
    texts = dict(inputs.full_text)
    digest = hashlib.sha256(canonical_json(texts).encode()).hexdigest() if texts else None
    text = {
        "branch": teacher.text_branch,
        "text_encoder": teacher.text_encoder,
        "full_text": digest,
        "version": REPORTS_VERSION,
    }
    attention = {"teacher": teacher.model_dump(mode="json")} if teacher.text_branch == "attention" else {}
    return {**attention, "text": text}
