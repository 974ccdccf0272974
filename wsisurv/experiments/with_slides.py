"""Folds with slides: teacher and students are trained anew on each fold's training cases, and score its tested ones."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wsisurv.bags.memory import memory_share
from wsisurv.cohort import Cohort, with_all_endpoints
from wsisurv.engine.devices import choose_device
from wsisurv.engine.progress import Progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool, cores
from wsisurv.errors import FormatError, SettingsError
from wsisurv.experiments.finding_risk import findings_settings
from wsisurv.experiments.fold_job import FoldJob, make_job
from wsisurv.experiments.fold_models import SCORING_VERSION, FoldRisks, Inputs, score_fold
from wsisurv.experiments.leaks import digest_slides, mean_tiles
from wsisurv.experiments.scoring import STEP, ScoredFolds, cases_with_statements, counted, plan_folds, run_folds
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import FROM_ELSEWHERE, read_model
from wsisurv.settings.base import fingerprint
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training.alignment import Alignment, open_alignment
from wsisurv.training.distill import distill_scored
from wsisurv.training.experts import open_transfer
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace


def score_with_slides(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    teacher: TeacherSettings,
    student: DistillSettings,
    *,
    alignment: Path | None = None,
    experts: Sequence[Path] = (),
    warm_start: Path | None = None,
    place: str = STEP,
    teachers_at: Path | None = None,
    splits: Path | None,
    keep_together: bool,
    allow_random_weights: bool,
    device: str,
    memory_gib: float | None,
    workers: int | None,
    pool: Pool | None = None,
    shard: Shard | None,
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
        alignment: of many cohorts, for the students; fitted in each fold without its tested cases and their hospitals.
        experts: students of other cohorts, see ``open_transfer``; those that saw tested patients, or their hospitals,
            are left out in that fold.
        warm_start: the same of a student to start from.
        place: folder of the folds in the cohort's.
        teachers_at: folder of folds of the same names that have this very teacher already, to be copied from.
        splits: as ``plan_folds``.
        keep_together: as ``plan_folds``.
        allow_random_weights: train on features of an encoder that was never trained.
        device: ``auto``, ``cpu``, ``cuda`` …
        memory_gib: for all folds that are trained at once; None for half of the machine's. Changes no result.
        workers: folds at once, each in a process of one thread; None for one a processor, on a GPU one. Changes no
            result.
        pool: as ``run_folds``; ``memory_gib`` is then of each fold.
        shard: as ``run_folds``.
        redo: as ``run_folds``.
        progress: called in the leak check, then in the training.

    Raises:
        SettingsError: fewer than one worker.
        WsisurvError: as ``plan_folds``, ``run_folds``, ``train_teacher`` and ``distill``.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"{workers} workers asked: at least 1 is needed")
    if pool is not None:  # whose working folder is another
        workspace, alignment = Workspace(workspace.root.absolute()), alignment and alignment.absolute()
        teachers_at, workers = teachers_at and teachers_at.absolute(), 1
        experts, warm_start = [path.absolute() for path in experts], warm_start and warm_start.absolute()
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
    # in crossval alone: an ablation compares students
    findings = findings_settings(workspace, scored, teacher.encoder) if place == STEP else None
    inputs = Inputs(
        workspace=workspace,
        cases={str(case.case_id): case for case in planned.cohort.cases},
        mean_tiles=mean_tiles(slides),
        covariates=covariates,
        with_reports=bool(reported.case_ids),
        findings=findings,
    )
    trained = {"teacher": teacher.model_dump(mode="json"), "student": student.model_dump(mode="json")}
    if alignment is not None:
        trained["alignment"] = {"fingerprint": open_alignment(alignment).fingerprint}
    transfer = open_transfer(experts, warm_start)
    if transfer.fingerprint:
        trained[FROM_ELSEWHERE] = {"fingerprint": transfer.fingerprint}
    decided = {**trained, "covariates": list(covariates), "scoring": SCORING_VERSION}
    if findings is not None:
        decided["findings"] = findings.model_dump(mode="json")
    read = {
        "features": fingerprint({}, {slide.slide_id: slide.made for slide in slides}),
        "statements": reported.fingerprint,
    }
    jobs = tuple(make_job(planned.cohort, place, fold, decided, read) for fold in planned.folds)
    if workers is None:
        workers = 1 if choose_device(device, ("cuda",)).type == "cuda" else cores()
    workers = min(workers, len(jobs))
    memory = memory_share(memory_gib, workers)
    others = (tuple(experts), warm_start)
    score = _Training(inputs, teacher, student, alignment, others, teachers_at, allow_random_weights, device, memory)
    for job in jobs:  # before any training
        if (unseen := score.alignment_of(job)) is not None:
            unseen.require_hospitals()
    folder = workspace.cohort(cohort.name)
    risks, kept = run_folds(
        workspace,
        cohort.name,
        jobs,
        score,
        splits_at=folder / "splits.jsonl",
        redo=redo,
        progress=progress,
        workers=workers,
        pool=pool,
        shard=shard,
    )
    warnings = (*planned.warnings, *counted(risks))
    return ScoredFolds(planned.cohort, len(reported.case_ids), jobs, tuple(risks), kept, trained, warnings)


@dataclass(frozen=True)
class _Training:
    """Trains and scores one fold; a record that can be sent to another process."""

    inputs: Inputs
    teacher: TeacherSettings
    student: DistillSettings
    alignment: Path | None
    others: tuple[tuple[Path, ...], Path | None]
    teachers_at: Path | None
    allow_random_weights: bool
    device: str
    memory_gib: float | None

    def __call__(self, job: FoldJob, progress: Progress) -> FoldRisks:
        """Risks of the tested cases.

        Models of a fold are only a step on the way to its risks, which are what is kept or stale: so ``redo``.
        """
        workspace, repeat = self.inputs.workspace, job.fold.repeat
        damaged: tuple[str, ...] = ()
        if self.teachers_at is not None:
            damaged = copy_teacher(self.teachers_at / job.fold.name, workspace.cohort(job.cohort.name))
        tested = [self.inputs.cases[case_id] for case_id in job.fold.test]
        named = open_transfer(*self.others)
        transfer = named.without(tested)
        with _one_thread():
            first = train_teacher(
                workspace,
                job.cohort,
                self.teacher.model_copy(update={"seed": self.teacher.seed + repeat}),
                allow_random_weights=self.allow_random_weights,
                redo=True,
                device=self.device,
                memory_gib=self.memory_gib,
                progress=lambda done, total, what: progress(done, 2 * total, what),
            )
            _, seen = distill_scored(
                workspace,
                job.cohort,
                self.student.model_copy(update={"seed": self.student.seed + repeat}),
                alignment=self.alignment_of(job),
                transfer=transfer,
                redo=True,
                device=self.device,
                memory_gib=self.memory_gib,
                progress=lambda done, total, what: progress(total + done, 2 * total, what),
            )
            risks = score_fold(
                self.inputs,
                job.cohort,
                job.fold.test,
                encoder=self.teacher.encoder,
                text_encoder=self.teacher.text_encoder,
                seen=seen,
                memory_gib=self.memory_gib,
            )
        # the warnings of distill repeat the teacher's, or judge the student by less than the results table does
        left_out = named.left_out(transfer)
        return replace(risks, warnings=(*damaged, *first.warnings, *left_out, *risks.warnings))

    def alignment_of(self, job: FoldJob) -> Alignment | None:
        """The alignment without the tested cases of a fold and their hospitals."""
        if self.alignment is None:
            return None
        tested = [self.inputs.cases[case_id] for case_id in job.fold.test]
        return open_alignment(self.alignment).without(tested, job.cohort.cases)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: so the number of folds at once changes no result."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def copy_teacher(source: Path, target: Path) -> tuple[str, ...]:
    """Put a fold's teacher where the training looks for one; it is kept there if it is the one that is asked for.

    Gives warnings: a damaged one is named and not copied, so that the fold trains its own.
    """
    if not all((source / name).exists() for name in ("teacher.h5", "guidance.h5")):
        return ()
    try:
        read_model(source / "teacher.h5", "teacher")
        read_guidance(source / "guidance.h5")
    except FormatError as error:
        return (f"{error} Its teacher was trained anew.",)
    target.mkdir(parents=True, exist_ok=True)
    for name in ("guidance.h5", "teacher.h5"):
        shutil.copyfile(source / name, target / name)
    return ()
