"""``heatmap``: which cases are drawn, and where."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from wsisurv.cohort import map_slides, read_cohort, read_slide_map
from wsisurv.embedding.columns import COLUMNS
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool, finished
from wsisurv.errors import (
    FormatError,
    InputError,
    MissingArtifactError,
    SlideError,
    StaleError,
    StorageError,
    did_you_mean,
)
from wsisurv.formats.statements import read_statements
from wsisurv.prediction.card import read_scale
from wsisurv.prediction.explained import CaseFiles
from wsisurv.prediction.explainer import open_explainer
from wsisurv.prediction.finding_map import draw_finding
from wsisurv.prediction.findings import OpenHeads, heads_folds, open_heads
from wsisurv.prediction.heatmap import heatmaps
from wsisurv.prediction.step import group_slides
from wsisurv.slides.find import find_slides
from wsisurv.workspace.ledger import Summary, forget_failures, make_failure, record_failure
from wsisurv.workspace.paths import Workspace


def heatmap(
    workspace: Workspace,
    cases: Sequence[str] = (),
    *,
    all_cases: bool = False,
    cohort: str | None = None,
    student: Path | None = None,
    slides: Sequence[Path] = (),
    slide_map: Path | None = None,
    tiles: int = 12,
    finding: str | None = None,
    pool: Pool | None = None,
    stage: Path | None = None,
    shard: Shard | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> dict[Path, Summary]:
    """Draw what raised and what lowered the risk of cases, or what speaks for a finding, tile by tile.

    A case that the student was trained on is explained by members that did not see it.

    Args:
        workspace: holds the features.
        cases: case_ids; slides without a case by their slide_id.
        all_cases: every case of the cohort.
        cohort: name of the cohort; None for the only one there is.
        student: the student's file; None for ``cohorts/NAME/student.h5``.
        slides: where the slides are now, if not where they were when they were tiled.
        slide_map: table slide_id,case_id, for cases that are not of the cohort.
        tiles: how many on each half of the contact sheet.
        finding: which tiles speak for this one, in place of the risk; by findings.h5 beside the student.
        pool: machines to do it on, a case each at a time, instead of this one.
        stage: folder on a disk of the machine, to which each slide is copied before it is read.
        shard: do this part of the cases only.
        redo: draw anew.
        progress: called before each case.

    Returns:
        What was drawn, by folder: ``cohorts/NAME/heatmaps``, and ``predict/heatmaps`` for cases that are not of the
        cohort. Each case has a folder with pictures, GeoJSON for QuPath and heatmap.json.

    Raises:
        InputError: no case is named, or one is not there; near names are listed.
        MissingArtifactError, FormatError, StaleError: the student or its guidance is missing, damaged or outdated.
        SettingsError: there is no head of the finding.

    Example:
        >>> import wsisurv
        >>> wsisurv.heatmap(wsisurv.Workspace(Path("workspace")), ["case-01"])  # doctest: +SKIP
    """
    name, model = _cohort_and_model(workspace, cohort, student, finding)
    home = workspace.cohort(name) if name else None
    found = {str(slide_id): path for slide_id, path in find_slides(slides).items()} if slides else {}
    if pool is not None:
        chosen, others = _choose(workspace, name, _encoder_of(model, finding), cases, all_cases, slide_map, shard)
        files = {"student": student, "slide_map": slide_map, "stage": stage}
        how: dict[str, Any] = {"cohort": name, "finding": finding, "tiles": tiles, "redo": redo}
        how |= {key: path and path.absolute() for key, path in files.items()}
        one = partial(_draw_one, Workspace(workspace.root.absolute()), how)
        return {
            folder: _draw_on_pool(pool, one, wanted, workspace, model, finding, found, progress)
            for folder, wanted in _by_folder(workspace, home, chosen, others)
        }
    if finding is not None:
        heads = open_heads(model.parent / "findings.h5")
        heads.head(finding)
        chosen, others = _choose(workspace, name, heads.card.encoder, cases, all_cases, slide_map, shard)
        folds = heads_folds(heads) if heads.card.cohort == name else {}
        return {
            folder: _draw_finding(heads, finding, wanted, folder, workspace, found, folds, tiles, stage, redo, progress)
            for folder, wanted in _by_folder(workspace, home, chosen, others)
        }
    explainer = open_explainer(model, home / "guidance.h5" if home is not None else None)
    chosen, others = _choose(workspace, name, explainer.scale.card.encoder, cases, all_cases, slide_map, shard)
    meanings = {column.name: (column.unit, column.definition) for column in COLUMNS}
    return {
        folder: heatmaps(
            explainer,
            wanted,
            folder,
            ledger=workspace,
            slides=found,
            meanings=meanings if explainer.feature_names else {},
            n_shown=tiles,
            stage=stage,
            redo=redo,
            progress=progress,
        )
        for folder, wanted in _by_folder(workspace, home, chosen, others)
    }


def count_cases(
    workspace: Workspace,
    cases: Sequence[str],
    *,
    student: Path | None,
    cohort: str | None,
    all_cases: bool,
    finding: str | None,
    slide_map: Path | None,
) -> int:
    """How many cases ``heatmap`` would draw, asked as it is.

    Raises:
        InputError, MissingArtifactError, FormatError: as ``heatmap``.
    """
    name, model = _cohort_and_model(workspace, cohort, student, finding)
    return len(_choose(workspace, name, _encoder_of(model, finding), cases, all_cases, slide_map, None)[0])


def _cohort_and_model(
    workspace: Workspace, cohort: str | None, student: Path | None, finding: str | None
) -> tuple[str | None, Path]:
    """Name of the cohort that is drawn, None for a student of no cohort here, and the student's file."""
    needed = "student.h5" if finding is None else "findings.h5"
    name = None if student and not cohort else workspace.the_cohort(cohort, having=needed)
    return name, student or workspace.cohort(str(name)) / "student.h5"


def _encoder_of(model: Path, finding: str | None) -> str:
    """Encoder of a student, or of the heads of findings beside it.

    Raises:
        SettingsError: there is no head of the finding.
    """
    if finding is None:
        return read_scale(model).card.encoder
    heads = open_heads(model.parent / "findings.h5")
    heads.head(finding)
    return heads.card.encoder


def _draw_one(workspace: Workspace, how: Mapping[str, Any], case: tuple[str, Sequence[Path]]) -> Summary:
    """Draw a case, given by its id and where its slides were moved to; words of its report are read here, not sent."""
    case_id, slides = case
    (summary,) = heatmap(workspace, [case_id], slides=slides, **how).values()
    return summary


def _draw_on_pool(
    pool: Pool,
    one: Callable[[tuple[str, Sequence[Path]]], Summary],
    cases: Sequence[CaseFiles],
    workspace: Workspace,
    model: Path,
    finding: str | None,
    slides: Mapping[str, Path],
    progress: Progress,
) -> Summary:
    """Draw each case on a worker; one whose workers die does not stop the others."""
    items = [(one.case_id, [slides[name].absolute() for name in one.slide_ids if name in slides]) for one in cases]
    progress(0, len(items), "")
    made: dict[str, Summary] = {}
    with closing(finished(one, items, 1, pool=pool)) as results:
        for (case_id, _), came in results:
            if isinstance(came, Exception):  # why the pool can't draw it
                failure = make_failure(case_id if finding is None else f"{case_id}/{finding}", model, came, "")
                record_failure(workspace, "heatmap", failure)
                came = Summary("heatmap", failed=[failure])
            made[case_id] = came
            progress(len(made), len(items), case_id)
    summary = Summary("heatmap")
    for case in cases:
        summary.add(made[case.case_id])
    return summary


def _by_folder(
    workspace: Workspace, home: Path | None, chosen: Sequence[CaseFiles], others: set[str]
) -> Iterator[tuple[Path, list[CaseFiles]]]:
    """Where the cases are drawn: those of the cohort beside it, others in predict/; no folder without a case."""
    for of_cohort in (True, False):
        wanted = [case for case in chosen if (case.case_id not in others) == of_cohort]
        if wanted:
            yield (home if home is not None and of_cohort else workspace.root / "predict") / "heatmaps", wanted


def _draw_finding(
    heads: OpenHeads,
    finding: str,
    cases: Sequence[CaseFiles],
    folder: Path,
    workspace: Workspace,
    slides: Mapping[str, Path],
    folds: Mapping[str, int],
    n_shown: int,
    stage: Path | None,
    redo: bool,
    progress: Progress,
) -> Summary:
    """Draw a finding of each case into FOLDER/CASE/FINDING/; one that fails does not stop the others."""
    records = read_statements(workspace.statements) if workspace.statements.exists() else {}
    summary = Summary("heatmap")
    for number, case in enumerate(cases):
        progress(number, len(cases), case.case_id)
        try:
            with workspace.claim("heatmap", f"{folder.parent.name}/{case.case_id}/{finding}", wait=True):
                record, kept = draw_finding(
                    heads,
                    finding,
                    case.case_id,
                    case.slide_ids,
                    case.workspace,
                    folder / case.case_id / finding,
                    fold=folds.get(case.case_id),
                    statements=records[case.case_id].statements if case.case_id in records else (),
                    slides=slides,
                    n_shown=n_shown,
                    stage=stage,
                    redo=redo,
                )
        except StorageError:
            raise
        except (MissingArtifactError, FormatError, StaleError, SlideError, OSError) as error:
            summary.failed.append(make_failure(f"{case.case_id}/{finding}", heads.path, error, heads.fingerprint))
            continue
        if record.problems:
            without = SlideError(f"drawn without pixels: {'; '.join(record.problems)}")
            summary.failed.append(
                make_failure(f"{case.case_id}/{finding}", folder / case.case_id, without, record.fingerprint)
            )
            continue
        (summary.kept if kept else summary.done).append(case.case_id)
    for failure in summary.failed:
        record_failure(workspace, "heatmap", failure)
    forget_failures(workspace, "heatmap", [f"{case_id}/{finding}" for case_id in (*summary.done, *summary.kept)])
    progress(len(cases), len(cases), "")
    return summary


def _choose(
    workspace: Workspace,
    name: str | None,
    encoder: str,
    wanted: Sequence[str],
    all_cases: bool,
    slide_map: Path | None,
    shard: Shard | None,
) -> tuple[list[CaseFiles], set[str]]:
    """The cases asked for, and which of them are no cases of the cohort."""
    of_cohort: dict[str, CaseFiles] = {}
    if name is not None:
        saved, _ = read_cohort(workspace.cohort(name))
        of_cohort = {
            str(case.case_id): CaseFiles(str(case.case_id), tuple(map(str, case.slide_ids)), workspace)
            for case in saved.cases
        }
    if not wanted and not (all_cases and name is not None):
        raise InputError(
            "name the cases to be drawn, or give --all for every case of the cohort"
            + (f" {name} ({', '.join([*of_cohort][:3])} …)" if of_cohort else "")
        )
    others: dict[str, CaseFiles] = {}
    homes = (workspace, *map(Workspace, sorted((workspace.root / "predict").glob("*/"))))
    of_slide: dict[str, str] = {}
    if slide_map is not None:
        here = {slide_id for home in homes for slide_id in home.embedded_slides(encoder)}
        of_slide, _ = map_slides(here, read_slide_map(slide_map))
    for home in homes:
        for case_id, slide_ids in group_slides(home.embedded_slides(encoder), of_slide).items():
            others.setdefault(case_id, CaseFiles(case_id, slide_ids, home))
    known = {**others, **of_cohort}
    if missing := [case_id for case_id in wanted if case_id not in known]:
        raise InputError(
            f"no case {missing[0]!r} with features of {encoder!r} in {workspace.root}"
            + (did_you_mean(missing[0], known) or ".")
            + " A slide must have been embedded, or given to `wsisurv predict`, first."
        )
    chosen = list(dict.fromkeys(of_cohort if all_cases else wanted))
    return [known[case_id] for case_id in (shard.of(chosen) if shard else chosen)], others.keys() - of_cohort.keys()
