"""Folds with slides: teacher and students are trained anew on each fold's training cases, and score its tested ones."""

import shutil
from dataclasses import replace
from pathlib import Path

from wsisurv.cohort import Cohort, with_all_endpoints
from wsisurv.engine.progress import Progress
from wsisurv.experiments.fold_job import FoldJob, make_job
from wsisurv.experiments.fold_models import SCORING_VERSION, FoldRisks, Inputs, score_fold
from wsisurv.experiments.leaks import digest_slides, mean_tiles
from wsisurv.experiments.scoring import STEP, ScoredFolds, cases_with_statements, counted, plan_folds, run_folds
from wsisurv.settings.base import fingerprint
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace


def score_with_slides(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    teacher: TeacherSettings,
    student: DistillSettings,
    *,
    place: str = STEP,
    teachers_at: Path | None = None,
    splits: Path | None,
    keep_together: bool,
    allow_random_weights: bool,
    device: str,
    redo: bool,
    progress: Progress,
) -> ScoredFolds:
    """Train and score every fold; writes splits.jsonl and PLACE/REPEAT-FOLD/ into the cohort's folder.

    Each fold is trained as a cohort of its training cases alone, for a fixed number of epochs, so that nothing fitted
    and no choice has seen the tested cases. A finished fold is kept, an interrupted run goes on with the next.

    Args:
        workspace: holds features and statements.
        cohort: the cases.
        settings: folds, and covariates by their names.
        teacher: how each fold's teacher is trained; a repeat's number is added to the seed.
        student: how its students are distilled; the same.
        place: folder of the folds in the cohort's.
        teachers_at: folder of folds of the same names that have this very teacher already, to be copied from.
        splits: as ``plan_folds``.
        keep_together: as ``plan_folds``.
        allow_random_weights: train on features of an encoder that was never trained.
        device: ``auto``, ``cpu``, ``cuda`` …
        redo: as ``run_folds``.
        progress: called in the leak check, then in the training.

    Raises:
        WsisurvError: as ``plan_folds``, ``run_folds``, ``train_teacher`` and ``distill``.
    """
    whole = with_all_endpoints(workspace, cohort)
    slides = digest_slides(workspace, whole, teacher.encoder, progress)
    planned = plan_folds(
        workspace,
        cohort,
        settings,
        {slide.case_id for slide in slides},
        "no tile was found",
        whole=whole,
        slides=slides,
        splits=splits,
        keep_together=keep_together,
    )
    scored = {str(case.case_id) for case in planned.cohort.cases}
    slides = tuple(slide for slide in slides if slide.case_id in scored)
    reported = cases_with_statements(workspace, planned.cohort, teacher.text_encoder)
    covariates = settings.covariates or ()
    inputs = Inputs(
        workspace=workspace,
        cases={str(case.case_id): case for case in planned.cohort.cases},
        mean_tiles=mean_tiles(slides),
        covariates=covariates,
        with_reports=bool(reported.case_ids),
    )
    trained = {"teacher": teacher.model_dump(mode="json"), "student": student.model_dump(mode="json")}
    decided = {**trained, "covariates": list(covariates), "scoring": SCORING_VERSION}
    read = {
        "features": fingerprint({}, {slide.slide_id: slide.made for slide in slides}),
        "statements": reported.fingerprint,
    }
    jobs = tuple(make_job(planned.cohort, place, fold, decided, read) for fold in planned.folds)

    def score(job: FoldJob, move: Progress) -> FoldRisks:
        if teachers_at is not None:
            _copy_teacher(teachers_at / job.fold.name, workspace.cohort(job.cohort.name))
        warned = _train(workspace, job, teacher, student, allow_random_weights, device, move)
        risks = score_fold(
            inputs, job.cohort, job.fold.test, encoder=teacher.encoder, text_encoder=teacher.text_encoder
        )
        return replace(risks, warnings=(*warned, *risks.warnings))

    folder = workspace.cohort(cohort.name)
    risks, kept = run_folds(
        workspace, cohort.name, jobs, score, splits_at=folder / "splits.jsonl", redo=redo, progress=progress
    )
    warnings = (*planned.warnings, *counted(risks))
    return ScoredFolds(planned.cohort, len(reported.case_ids), jobs, tuple(risks), kept, trained, warnings)


def _train(
    workspace: Workspace,
    job: FoldJob,
    teacher: TeacherSettings,
    student: DistillSettings,
    allow_random_weights: bool,
    device: str,
    progress: Progress,
) -> tuple[str, ...]:
    """Models of a fold are only a step on the way to its risks, which are what is kept or stale: so ``redo``."""
    repeat = job.fold.repeat
    first = train_teacher(
        workspace,
        job.cohort,
        teacher.model_copy(update={"seed": teacher.seed + repeat}),
        allow_random_weights=allow_random_weights,
        redo=True,
        device=device,
        progress=lambda done, total, what: progress(done, 2 * total, what),
    )
    distill(
        workspace,
        job.cohort,
        student.model_copy(update={"seed": student.seed + repeat}),
        redo=True,
        device=device,
        progress=lambda done, total, what: progress(total + done, 2 * total, what),
    )
    return first.warnings  # those of distill repeat them, or judge the student by less than the results table does


def _copy_teacher(source: Path, target: Path) -> None:
    """Put a fold's teacher where the training looks for one; it is kept there if it is the one that is asked for."""
    if all((source / name).exists() for name in ("teacher.h5", "guidance.h5")):
        target.mkdir(parents=True, exist_ok=True)
        for name in ("guidance.h5", "teacher.h5"):
            shutil.copyfile(source / name, target / name)
