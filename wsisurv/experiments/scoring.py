"""All folds of a cohort: checked for leaks before any training, then trained and scored, finished ones kept."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsisurv.cohort import Cohort, read_cohort
from wsisurv.engine.dask import stop_if_unwanted
from wsisurv.engine.progress import Progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool, Shares, finished, tell_share
from wsisurv.errors import BackendError, CohortError, SharesLeftError, WsisurvError, some
from wsisurv.experiments.fold_job import FoldJob, finished_folds, write_risks
from wsisurv.experiments.fold_models import FoldRisks
from wsisurv.experiments.folds import draw_folds, folds_of, read_folds, require_events
from wsisurv.experiments.leaks import SlideDigest, find_links, require_no_leak
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
"""Progress is counted in thousandths of a fold."""


@dataclass(frozen=True)
class PlannedFolds:
    """What is settled before any training: folds, checked for leaks, of the cases that can be scored."""

    cohort: Cohort  # those cases
    folds: tuple[Fold, ...]  # of them
    warnings: tuple[str, ...]  # what a person should know, one line each


@dataclass(frozen=True)
class ScoredFolds:
    """All folds, trained and scored, before anything is made of them."""

    cohort: Cohort  # the cases that have a tile, or a report where no slide is read
    cases_with_statements: int  # how many of them have
    jobs: tuple[FoldJob, ...]  # the folds
    risks: tuple[FoldRisks, ...]  # of each
    kept: int  # folds that were there already
    settings: Mapping[str, object]  # of the training, as a JSON object
    warnings: tuple[str, ...]  # what a person should know, one line each

    def for_results(self) -> list[ScoredFold]:
        """The folds with cases by their numbers in ``cohort``."""
        number_of = {str(case.case_id): number for number, case in enumerate(self.cohort.cases)}
        return [
            ScoredFold(
                repeat=job.fold.repeat,
                rows=np.array([number_of[case_id] for case_id in risks.case_ids]),
                n_train=len(job.fold.train),
                risks=dict(risks.risks),
                selected=risks.selected,
            )
            for job, risks in zip(self.jobs, self.risks, strict=True)
        ]


def plan_folds(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    usable: Collection[str],
    lacking: str,
    *,
    whole: Cohort,
    slides: Sequence[SlideDigest] = (),
    splits: Path | None,
    keep_together: bool,
) -> PlannedFolds:
    """Make the folds of the cases that can be scored, and stop at any leak.

    Folds are drawn of the cases of all endpoints, and are those of ``cohort`` among them: a case is in the same fold
    for each endpoint.

    Args:
        workspace: holds the statements.
        cohort: all cases.
        settings: number and seed of folds that are drawn.
        usable: ids of the cases that can be scored.
        lacking: why others can't, for messages.
        whole: the cases of all endpoints, see ``with_all_endpoints``.
        slides: of the usable cases, where slides are read.
        splits: the user's folds, see ``read_folds``; drawn if None.
        keep_together: put cases that share a slide, a report or tissue on one side, where folds are drawn.

    Raises:
        CohortError: no usable case; a leak; too few events or cases for the folds.
        FormatError: statements or splits are damaged.
    """
    empty = [str(case.case_id) for case in cohort.cases if case.case_id not in usable]
    warnings = [f"left out, since {lacking}: {some(empty, _SHOWN)}"] if empty else []
    chosen = replace(cohort, cases=tuple(case for case in cohort.cases if case.case_id in usable))
    if not chosen.cases:
        raise CohortError(f"cohort {cohort.name}: none of its {len(empty)} cases can be scored, since {lacking}")
    everyone = replace(whole, cases=tuple(case for case in whole.cases if case.case_id in usable))
    links = find_links(workspace, everyone.cases, slides)
    if splits is not None:
        kept = {case.case_id for case in chosen.cases}
        folds = read_folds(splits, chosen, _table_ids(workspace, cohort) - kept)
    else:
        together = [(link.one, link.other) for link in links] if keep_together else []
        require_events(chosen, settings.folds)
        folds = draw_folds(
            everyone, n_folds=settings.folds, repeats=settings.repeats, seed=settings.seed, together=together
        )
        folds = folds_of(folds, chosen)
    require_no_leak(folds.folds, links)
    if links:
        warnings.append(f"{len(links)} pairs of cases share a slide, a report or tissue; all are on one side of folds")
    if any(slide.random_weights for slide in slides):
        warnings.append("the features come from random weights: these figures are for trying things out only")
    return PlannedFolds(chosen, folds.folds, (*warnings, *folds.notes))


def _table_ids(workspace: Workspace, cohort: Cohort) -> set[str]:
    """All cases of the clinical table that the cohort was made from, those too that are not in it."""
    ids = {str(case.case_id) for case in cohort.cases}
    folder = workspace.cohort(cohort.name)
    if (folder / "audit.json").exists():
        _, audit = read_cohort(folder)
        ids |= {drop.case_id for drop in audit.dropped} | {*audit.cases_without_slide, *audit.cases_without_report}
    return ids


@dataclass(frozen=True)
class CasesWithStatements:
    """Cases with statements, and the fingerprint of what those are."""

    case_ids: frozenset[str]
    fingerprint: str


def cases_with_statements(workspace: Workspace, cohort: Cohort, text_encoder: str) -> CasesWithStatements:
    """Which cases of the cohort have statements, or vectors of them where the text encoder is not ``tfidf``.

    Raises:
        FormatError: they are damaged.
    """
    cases = {str(case.case_id) for case in cohort.cases}
    if text_encoder == "tfidf":
        records = read_statements(workspace.statements) if workspace.statements.exists() else {}
        made = {case_id: records[case_id].fingerprint for case_id in sorted(cases & records.keys())}
        return CasesWithStatements(
            frozenset(case_id for case_id in made if records[case_id].statements), fingerprint({}, made)
        )
    path = workspace.vectors(text_encoder)
    if not path.exists():  # the training says so where vectors of another encoder are there
        return CasesWithStatements(frozenset(), "none")
    vectors, header = read_text_vectors(path)
    return CasesWithStatements(frozenset(cases.intersection(vectors.case_ids)), header.fingerprint)


def run_folds(
    workspace: Workspace,
    cohort_name: str,
    jobs: Sequence[FoldJob],
    score: Callable[[FoldJob, Progress], FoldRisks],
    *,
    splits_at: Path,
    redo: bool,
    progress: Progress,
    workers: int = 1,
    pool: Pool | None = None,
    shard: Shard | None = None,
) -> tuple[list[FoldRisks], int]:
    """Score the folds that are not done, and write each down.

    Args:
        workspace: holds the cohort.
        cohort_name: whose folds they are; no two processes score them, or the same share of them, at once.
        jobs: the folds.
        score: trains and scores one; a record where there are several workers.
        splits_at: where the folds are written.
        redo: replace splits and folds that were made otherwise.
        progress: called in each fold.
        workers: folds at once, each in a process of one thread; 1 is this process. Those under way when the run stops
            are ended, and go on from their checkpoints in the next.
        pool: machines to score them on, instead of processes here; ``jobs`` and ``score`` have absolute paths.
        shard: score this part of the folds only.

    Returns:
        The risks of all folds, and how many of them were there already.

    Raises:
        StaleError: splits or a fold were made otherwise, and not ``redo``.
        BusyError: another process is cross-validating this cohort, or this share of its folds, now.
        SharesLeftError: this share is done, and folds of others are not.
        BackendError: a process was killed.
        WsisurvError: as ``score``, with the name of the fold.
    """
    what = f"cross-validating cohort {cohort_name}"
    item = cohort_name if shard is None else f"{cohort_name}/{shard.number}-of-{shard.count}"
    with workspace.claim_alone(STEP, item, what, jobs[0].settings):
        _save_splits(splits_at, [job.fold for job in jobs], redo)
        scored = finished_folds(jobs, workspace, redo=redo)
        n_kept = len(scored)
        mine = jobs if shard is None else shard.of(jobs)
        todo = [job for job in mine if job.fold.name not in scored]
        workers = min(workers, len(todo))

        def tell(done: float, what: str) -> None:
            progress(int(_TICKS * (n_kept + done)), _TICKS * (n_kept + len(todo)), what)

        def move(done: int, total: int, what: str) -> None:
            now = len(scored) - n_kept
            tell(now + done / max(total, 1), f"fold {todo[now].fold.name}: {what}")

        do = _Scoring(score, workspace, {job.fold.name: number for number, job in enumerate(todo)})
        if pool is not None:
            runs = finished(replace(do, move=_look_up), todo, 1, pool=pool)
        elif workers > 1:
            shares = Shares(len(todo), lambda done: tell(done, f"{workers} folds at once"))
            runs = finished(do, todo, workers, processes=True, shares=shares)
        else:
            runs = finished(replace(do, move=move), todo, 1)
        with closing(runs):
            for job, risks in runs:
                if not isinstance(risks, FoldRisks):  # why the pool can't give them
                    raise BackendError(f"fold {job.fold.name}: {risks}")
                scored[job.fold.name] = risks
                if pool is not None:
                    tell(len(scored) - n_kept, f"fold {job.fold.name}")
        tell(len(todo), "")
    if shard is not None:
        scored = finished_folds(jobs, workspace, redo=True)  # other shares may have ended since
        if left := [job.fold.name for job in jobs if job.fold.name not in scored]:
            raise SharesLeftError(
                f"the {len(mine)} folds of this share are done, and {len(left)} of {len(jobs)} are left to other "
                f"shares ({some(left, _SHOWN)}): the one that ends last makes the figures"
            )
    return [scored[job.fold.name] for job in jobs], n_kept


def _look_up(done: int, total: int, what: str) -> None:
    """Progress of a fold on another machine: whether it is still wanted."""
    del done, total, what
    stop_if_unwanted()


_turn = threading.Lock()
"""Threads of a worker train one after the other: torch has one state of chance and one number of threads."""


@dataclass(frozen=True)
class _Scoring:
    """Scores a fold and writes it down, here or in another process; an error says which fold."""

    score: Callable[[FoldJob, Progress], FoldRisks]
    workspace: Workspace
    number_of: Mapping[str, int]  # of each fold in the shares
    move: Progress | None = None  # None in another process

    def __call__(self, job: FoldJob) -> FoldRisks:
        """The risks."""

        def tell(done: int, total: int, what: str) -> None:
            del what
            tell_share(self.number_of[job.fold.name], done / max(total, 1))

        try:
            with _turn:
                risks = self.score(job, self.move or tell)
        except WsisurvError as error:
            raise type(error)(f"fold {job.fold.name}: {error}") from error
        write_risks(job, self.workspace, risks)
        if self.move is None:
            tell(1, 1, "")
        return risks


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


def counted(risks: Sequence[FoldRisks]) -> list[str]:
    """Each kind of warning once, with the number of folds that it was given in; kinds may differ in brackets."""
    kinds: dict[str, list[str]] = {}
    for line in (line for fold in risks for line in fold.warnings):
        kinds.setdefault(line.split(" (")[0], []).append(line)
    return [f"in {len(alike)} of {len(risks)} folds: {alike[0]}" for alike in kinds.values()]
