"""Cross-validation of the whole method: folds, leak check, training anew in each fold, and one results table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsisurv.cohort import Cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool
from wsisurv.experiments.fold_groups import fold_groups
from wsisurv.experiments.fold_job import FoldJob
from wsisurv.experiments.fold_models import FoldRisks
from wsisurv.experiments.fold_settings import Changes, student_settings, teacher_settings, with_changes, with_covariates
from wsisurv.experiments.reports_only import PLACE, score_reports_only
from wsisurv.experiments.results import ResultsTable, make_results
from wsisurv.experiments.scoring import ScoredFolds
from wsisurv.experiments.verdict import verdict
from wsisurv.experiments.with_slides import score_with_slides
from wsisurv.formats.atomic import write_json
from wsisurv.formats.models import STUDENT_FILES, add_figures
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings, TextBranch
from wsisurv.version import versions
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CrossvalResult:
    """What came out.

    Attributes:
        table: all figures.
        covariates: columns of the clinical model.
        verdict: what the figures show, in words.
        n_folds: folds in all.
        kept: folds that were there already.
        metrics: path of the record.
        warnings: what a person should know, one line each.
    """

    table: ResultsTable
    covariates: tuple[str, ...]
    verdict: tuple[str, ...]
    n_folds: int
    kept: int
    metrics: Path
    warnings: tuple[str, ...]

    def to_frame(self) -> "pd.DataFrame":
        """The results table: figures by model, by its key in metrics.json; what can't be given is missing."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.table.models]).set_index("model")


def crossval(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings | None = None,
    *,
    teacher: TeacherSettings | Changes | None = None,
    student: DistillSettings | Changes | None = None,
    alignment: Path | None = None,
    experts: Sequence[Path] = (),
    warm_start: Path | None = None,
    splits: Path | None = None,
    keep_together: bool = False,
    landmarks: Sequence[float] = (),
    allow_random_weights: bool = False,
    device: str = "auto",
    memory_gib: float | None = None,
    workers: int | None = None,
    pool: Pool | None = None,
    shard: Shard | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> CrossvalResult:
    """Train teacher and students anew in each fold, and compare them with the clinical covariates.

    Writes splits.jsonl, crossval/REPEAT-FOLD/ and evaluation/metrics.json into the cohort's folder, and into the card
    of each of its students the figures of that student.

    Args:
        workspace: holds features and statements.
        cohort: the cases.
        settings: folds, repeats, covariates; None for the defaults.
        teacher: settings of each fold's teacher, or changes to those that the cohort's own was trained with.
        student: the same of its students.
        alignment: of many cohorts, for the students; in each fold without its tested cases and their hospitals.
        experts: students of other cohorts for the distilled one, each where it saw no tested patient or hospital.
        warm_start: student of another cohort that training of the distilled one starts from, likewise.
        splits: the user's folds, see ``read_folds``; drawn if None.
        keep_together: put cases that share a slide, a report or tissue on one side, where folds are drawn.
        landmarks: years at which the cases alive then are looked at, in figures of their own.
        allow_random_weights: train on features of an encoder that was never trained.
        device: ``auto``, ``cpu``, ``cuda`` …
        memory_gib: what features and gradients of all folds at once may take in memory; None for half of the machine's.
            Changes no result.
        workers: folds trained at once, each in a process of one thread; None for one a processor, on a GPU one. Changes
            no result.
        pool: machines to train folds on, instead of processes here; ``memory_gib`` is then of each fold.
        shard: train and score this part of the folds only; where the others are done, go on to the figures.
        redo: replace splits and folds that were made otherwise.
        progress: called in the leak check, then in the training.

    Raises:
        MetricError: the tested cases can't give the figures.
        SharesLeftError: the folds of ``shard`` are done, and others are not.
        WsisurvError: as ``score_with_slides``.

    Example:
        >>> import wsisurv
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> wsisurv.crossval(place, wsisurv.Cohort.load(place)).to_frame()  # doctest: +SKIP
    """
    folder = workspace.cohort(cohort.name)
    settings = with_covariates(settings or CrossvalSettings(), cohort)
    scored = score_with_slides(
        workspace,
        cohort,
        settings,
        teacher_settings(folder, teacher),
        student_settings(folder, student),
        alignment=alignment,
        experts=experts,
        warm_start=warm_start,
        splits=splits,
        keep_together=keep_together,
        allow_random_weights=allow_random_weights,
        device=device,
        memory_gib=memory_gib,
        workers=workers,
        pool=pool,
        shard=shard,
        redo=redo,
        progress=progress,
    )
    metrics = folder / "evaluation" / "metrics.json"
    result = _record(workspace, scored, cohort, settings, metrics, given=splits is not None, landmarks=landmarks)
    for file in STUDENT_FILES.values():
        add_figures(folder / file, result.metrics)
    return result


def crossval_reports(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    *,
    teacher: TeacherSettings | Changes | None = None,
    text_branch: TextBranch = "ridge",
    report_text: Path | None = None,
    splits: Path | None = None,
    keep_together: bool = False,
    landmarks: Sequence[float] = (),
    shard: Shard | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> CrossvalResult:
    """Compare models of reports with the clinical covariates, without any slide.

    Writes reports-only/splits.jsonl, reports-only/REPEAT-FOLD/ and evaluation/metrics-reports-only.json into the
    cohort's folder.

    Args:
        workspace: holds the statements.
        cohort: the cases; slides they have are not read.
        settings: as ``crossval``.
        teacher: as ``crossval``; the text encoder, and the settings of the branch with attention, are taken of it.
        text_branch: ``ridge`` on words and findings, or the teacher's ``attention`` over statements.
        report_text: the reports themselves, for a row of their whole text; None leaves it out.
        splits: as ``crossval``.
        keep_together: as ``crossval``.
        landmarks: as ``crossval``.
        shard: as ``crossval``.
        redo: as ``crossval``.
        progress: called in each fold.

    Raises:
        MetricError: the tested cases can't give the figures.
        SharesLeftError: as ``crossval``.
        WsisurvError: as ``score_reports_only``.
    """
    folder = workspace.cohort(cohort.name)
    settings = with_covariates(settings, cohort)
    scored = score_reports_only(
        workspace,
        cohort,
        settings,
        with_changes(teacher_settings(folder, teacher), {"text_branch": text_branch}),
        report_text=report_text,
        splits=splits,
        keep_together=keep_together,
        shard=shard,
        redo=redo,
        progress=progress,
    )
    metrics = folder / "evaluation" / f"metrics-{PLACE}.json"
    return _record(workspace, scored, cohort, settings, metrics, given=splits is not None, landmarks=landmarks)


def _record(
    workspace: Workspace,
    scored: ScoredFolds,
    cohort: Cohort,
    settings: CrossvalSettings,
    metrics: Path,
    *,
    given: bool,
    landmarks: Sequence[float],
) -> CrossvalResult:
    """Figures of all folds, and what they show; written to ``metrics``."""
    covariates = settings.covariates or ()
    table = make_results(
        scored.for_results(),
        scored.cohort.cases,
        covariates,
        resamples=settings.resamples,
        seed=settings.seed,
        landmarks=landmarks,
        time_unit=cohort.settings.time_unit,
    )
    warnings = [*scored.warnings, *table.warnings]
    if not scored.cases_with_statements:
        warnings.append("no case has statements of a report: reports, teacher and distilled student are left out")
    if not covariates:
        warnings.append("no covariates named (--covariates age,stage): there is no clinical model to compare with")
    if cohort.outcome_note:
        warnings.append(cohort.outcome_note)
    groups = None
    if table.competing is not None and scored.jobs and scored.risks[0].selected is not None:
        groups = fold_groups(workspace, scored)
    words = verdict(table, covariates)
    record = {
        "format": "wsisurv/metrics",
        "cohort": {
            "name": cohort.name,
            "fingerprint": cohort.fingerprint,
            "cases": len(scored.cohort.cases),
            "cases_with_statements": scored.cases_with_statements,
            "tested": table.cases,
            "tested_events": table.events,
            "time_unit": cohort.settings.time_unit,
        },
        "settings": {**scored.settings, "crossval": settings.model_dump(mode="json")},
        "splits": "given" if given else "drawn",
        "versions": versions(),
        "interval": table.interval,
        "uno_until": table.uno_until,
        "horizons": table.horizons,
        **({} if table.competing is None else {"competing": table.competing, "groups": groups}),
        **({"landmarks": [asdict(one) for one in table.landmarks]} if table.landmarks else {}),
        "models": [asdict(row) for row in table.models],
        "differences": [asdict(row) for row in table.differences],
        "added_by_slides": asdict(table.added) if table.added else None,
        "added_by_report": asdict(table.added_by_report) if table.added_by_report else None,
        "folds": [_fold_record(*fold) for fold in zip(scored.jobs, scored.risks, table.by_fold, strict=True)],
        "verdict": words,
        "warnings": warnings,
    }
    write_json(metrics, record)
    return CrossvalResult(table, covariates, words, len(scored.jobs), scored.kept, metrics, tuple(warnings))


def _fold_record(job: FoldJob, risks: FoldRisks, by_fold: dict[str, float | None]) -> dict[str, Any]:
    return {
        "name": job.fold.name,
        "repeat": job.fold.repeat,
        "fold": job.fold.fold,
        "train": len(job.fold.train),
        "train_events": sum(case.event for case in job.cohort.cases),
        "test": len(job.fold.test),
        "gate": risks.gate,
        "selected": risks.selected,
        "concordance": by_fold,
        "fingerprint": job.fingerprint,
    }
