"""All folds of a cohort: audited before any training, then trained and scored one by one, finished ones kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsisurv.cohort import Cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import CohortError, some
from wsisurv.experiments.fold_job import Job, Scorer, do_job, finished, make_job
from wsisurv.experiments.fold_models import SCORING_VERSION, FoldRisks, Inputs
from wsisurv.experiments.folds import Folds, draw_folds, read_folds
from wsisurv.experiments.leaks import SlideDigest, digest_slides, find_links, mean_tiles, require_no_leak
from wsisurv.experiments.tested import ScoredFold
from wsisurv.formats.splits import Fold, read_splits, write_splits
from wsisurv.formats.statements import read_statements
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.settings.base import fingerprint
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.workspace.freshness import Origin, compare, require_fresh
from wsisurv.workspace.paths import Workspace

STEP = "crossval"
_SHOWN = 8
_TICKS = 1000
"""Progress is told in thousandths of a fold."""


@dataclass(frozen=True)
class ScoredFolds:
    """All folds, trained and scored, before anything is made of them.

    Attributes:
        cohort: the cases that have a tile, or a report where no slide is read.
        cases_with_statements: how many of them have.
        jobs: the folds.
        risks: of each.
        kept: folds that were there already.
        warnings: what a person should know, one line each.
    """

    cohort: Cohort
    cases_with_statements: int
    jobs: tuple[Job, ...]
    risks: tuple[FoldRisks, ...]
    kept: int
    warnings: tuple[str, ...]

    def for_account(self) -> list[ScoredFold]:
        """The folds with cases by their numbers in ``cohort``."""
        number_of = {str(case.case_id): number for number, case in enumerate(self.cohort.cases)}
        return [
            ScoredFold(
                repeat=job.fold.repeat,
                rows=np.array([number_of[case_id] for case_id in risks.case_ids]),
                n_train=len(job.fold.train),
                risks=dict(risks.risks),
            )
            for job, risks in zip(self.jobs, self.risks, strict=True)
        ]


@dataclass(frozen=True)
class _Plan:
    """What is settled before any training: audited folds of the cases that have tiles."""

    cohort: Cohort
    folds: tuple[Fold, ...]
    slides: tuple[SlideDigest, ...]
    warnings: tuple[str, ...]


def score_folds(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    training: Scorer,
    *,
    splits: Path | None = None,
    keep_together: bool = False,
    redo: bool = False,
    place: str = STEP,
    progress: Progress = no_progress,
) -> ScoredFolds:
    """Train and score every fold; writes splits.jsonl and PLACE/REPEAT-FOLD/ into the cohort's folder.

    Where no slide is read, the cases are those with a report, and splits.jsonl lies in PLACE/.

    Each fold is trained as a cohort of its training cases alone, for a fixed number of epochs, so that nothing fitted
    and no choice has seen the tested cases. A finished fold is kept, an interrupted run goes on with the next.

    Args:
        workspace: holds features and statements.
        cohort: the cases.
        settings: how.
        training: trains a fold.
        splits: as ``crossval``.
        keep_together: as ``crossval``.
        redo: as ``crossval``.
        place: folder of the folds in the cohort's.
        progress: as ``crossval``.

    Raises:
        CohortError: a leak; too few events or cases for the folds; a covariate that the cohort has not.
        StaleError: splits or a fold were made otherwise, and not ``redo``.
        ArtifactError: another process is cross-validating this cohort now.
        WsisurvError: as the training.
    """
    if unknown := set(settings.covariates) - set(cohort.settings.covariates):
        raise CohortError(
            f"cohort {cohort.name} has no covariate {', '.join(sorted(unknown))}; it has "
            f"{', '.join(cohort.settings.covariates) or 'none'}. Make it with them: "
            "`wsisurv train-teacher --clinical FILE --covariates …`."
        )
    plan = _plan(workspace, cohort, settings, training, splits, keep_together, progress)
    told = _statements(workspace, plan.cohort, training.text_encoder)
    inputs = Inputs(
        workspace=workspace,
        cases={str(case.case_id): case for case in plan.cohort.cases},
        mean_tiles=mean_tiles(plan.slides),
        covariates=settings.covariates,
        with_reports=bool(told.case_ids),
    )
    decided = {**training.settings, "covariates": list(settings.covariates), "scoring": SCORING_VERSION}
    read = {
        "features": fingerprint({}, {slide.slide_id: slide.made for slide in plan.slides}),
        "statements": told.fingerprint,
    }
    jobs = tuple(make_job(plan.cohort, place, fold, decided, read) for fold in plan.folds)
    folder = workspace.cohort(cohort.name)
    with workspace.claim_alone(STEP, cohort.name, f"cross-validating cohort {cohort.name}"):
        where = folder if training.encoder is not None else folder / place
        _save_splits(where / "splits.jsonl", plan.folds, redo)
        kept = finished(jobs, workspace, redo=redo)
        scored = []
        for number, job in enumerate(jobs):
            move = _part(progress, number, len(jobs), job.fold.name)
            risks = kept.get(job.fold.name) or do_job(job, inputs, training, move)
            move(1, 1, "done")
            scored.append(risks)
    warnings = (*plan.warnings, *_counted([line for risks in scored for line in risks.warnings], len(jobs)))
    return ScoredFolds(plan.cohort, len(told.case_ids), jobs, tuple(scored), len(kept), warnings)


def _plan(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    training: Scorer,
    splits: Path | None,
    keep_together: bool,
    progress: Progress,
) -> _Plan:
    """Read every slide once, make the folds, and stop at any leak."""
    slides: tuple[SlideDigest, ...] = ()
    if training.encoder is not None:
        slides = digest_slides(workspace, cohort, training.encoder, progress)
    usable = training.case_ids if training.case_ids is not None else {slide.case_id for slide in slides}
    lacking = "no tile was found" if training.encoder is not None else "there is no report"
    empty = [str(case.case_id) for case in cohort.cases if case.case_id not in usable]
    warnings = [f"left out, since {lacking}: {some(empty, _SHOWN)}"] if empty else []
    chosen = replace(cohort, cases=tuple(case for case in cohort.cases if case.case_id in usable))
    if not chosen.cases:
        raise CohortError(f"cohort {cohort.name}: none of its {len(empty)} cases can be scored, since {lacking}")
    links = find_links(workspace, chosen.cases, slides)
    folds = _folds(chosen, settings, splits, [(link.one, link.other) for link in links] if keep_together else [])
    require_no_leak(folds.folds, links)
    if links:
        warnings.append(f"{len(links)} pairs of cases share a slide, a report or tissue; all are on one side of folds")
    if any(slide.random_weights for slide in slides):
        warnings.append("the features come from random weights: these figures are for trying things out only")
    return _Plan(chosen, folds.folds, slides, (*warnings, *folds.notes))


def _folds(
    cohort: Cohort, settings: CrossvalSettings, splits: Path | None, together: Sequence[tuple[str, str]]
) -> Folds:
    if splits is not None:
        return read_folds(splits, cohort)
    return draw_folds(cohort, n_folds=settings.folds, repeats=settings.repeats, seed=settings.seed, together=together)


def _save_splits(path: Path, folds: Sequence[Fold], redo: bool) -> None:
    if path.exists() and not redo:
        made, wanted = (
            Origin(fingerprint([fold.model_dump(mode="json") for fold in several], {}))
            for several in (read_splits(path), folds)
        )
        seen = compare(made, wanted, also=["other folds: another number, another seed, or other cases"])
        require_fresh({path: seen}, remedy=f"Use --redo to replace them, or --splits {path} to go on with them.")
        return
    write_splits(path, folds)


@dataclass(frozen=True)
class _Told:
    """Cases with statements, and the fingerprint of what those are."""

    case_ids: frozenset[str]
    fingerprint: str


def _statements(workspace: Workspace, cohort: Cohort, text_encoder: str) -> _Told:
    cases = {str(case.case_id) for case in cohort.cases}
    if text_encoder == "tfidf":
        records = read_statements(workspace.statements) if workspace.statements.exists() else {}
        made = {case_id: records[case_id].fingerprint for case_id in sorted(cases & records.keys())}
        return _Told(frozenset(case_id for case_id in made if records[case_id].statements), fingerprint({}, made))
    path = workspace.vectors(text_encoder)
    if not path.exists():  # the training says so where vectors of another encoder are there
        return _Told(frozenset(), "none")
    vectors, header = read_text_vectors(path)
    return _Told(frozenset(cases.intersection(vectors.case_ids)), header.fingerprint)


def _part(progress: Progress, number: int, n_folds: int, name: str) -> Progress:
    """Progress of one fold as part of all."""

    def move(done: int, total: int, what: str) -> None:
        progress(number * _TICKS + _TICKS * done // max(total, 1), n_folds * _TICKS, f"fold {name}: {what}")

    return move


def _counted(lines: Sequence[str], n_folds: int) -> list[str]:
    """Each kind of warning once, with the number of folds that it was given in; kinds may differ in brackets."""
    kinds: dict[str, list[str]] = {}
    for line in lines:
        kinds.setdefault(line.split(" (")[0], []).append(line)
    return [f"in {len(alike)} of {n_folds} folds: {alike[0]}" for alike in kinds.values()]
