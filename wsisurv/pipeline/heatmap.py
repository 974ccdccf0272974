"""``heatmap``: which cases are drawn, and where."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wsisurv.cohort import map_slides, read_cohort, read_slide_map
from wsisurv.embedding.columns import COLUMNS
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
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
    needed = "student.h5" if finding is None else "findings.h5"
    name = None if student and not cohort else workspace.the_cohort(cohort, having=needed)
    home = workspace.cohort(name) if name else None
    model = student or workspace.cohort(str(name)) / "student.h5"
    found = {str(slide_id): path for slide_id, path in find_slides(slides).items()} if slides else {}
    if finding is not None:
        heads = open_heads(model.parent / "findings.h5")
        heads.head(finding)
        chosen, others = _choose(workspace, name, heads.card.encoder, cases, all_cases, slide_map, shard)
        folds = heads_folds(heads) if heads.card.cohort == name else {}
        return {
            folder: _draw_finding(heads, finding, wanted, folder, workspace, found, folds, tiles, redo, progress)
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
    needed = "student.h5" if finding is None else "findings.h5"
    name = None if student and not cohort else workspace.the_cohort(cohort, having=needed)
    model = student or workspace.cohort(str(name)) / "student.h5"
    if finding is not None:
        heads = open_heads(model.parent / "findings.h5")
        heads.head(finding)
        encoder = heads.card.encoder
    else:
        encoder = read_scale(model).card.encoder
    return len(_choose(workspace, name, encoder, cases, all_cases, slide_map, None)[0])


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
