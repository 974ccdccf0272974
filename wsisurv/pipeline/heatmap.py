"""``heatmap``: which cases are drawn, and where."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from wsisurv.cohort import map_slides, read_cohort, read_slide_map
from wsisurv.embedding.columns import COLUMNS
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import InputError
from wsisurv.prediction.explainer import open_explainer
from wsisurv.prediction.heatmap import CaseFiles, heatmaps
from wsisurv.prediction.step import group_slides
from wsisurv.slides.find import find_slides
from wsisurv.workspace.ledger import Summary
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
    redo: bool = False,
    progress: Progress = no_progress,
) -> dict[Path, Summary]:
    """Draw what raised and what lowered the risk of cases, tile by tile.

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
        redo: draw anew.
        progress: called before each case.

    Returns:
        What was drawn, by folder: ``cohorts/NAME/heatmaps``, and ``predict/heatmaps`` for cases that are not of the
        cohort. Each case has a folder with pictures, GeoJSON for QuPath and heatmap.json.

    Raises:
        InputError: no case is named, or one is not there; near names are listed.
        MissingArtifactError, FormatError, StaleError: the student or its guidance is missing, damaged or outdated.

    Example:
        >>> import wsisurv
        >>> wsisurv.heatmap(wsisurv.Workspace(Path("workspace")), ["case-01"])  # doctest: +SKIP
    """
    name = None if student and not cohort else workspace.the_cohort(cohort, having="student.h5")
    home = workspace.cohort(name) if name else None
    model = student or workspace.cohort(str(name)) / "student.h5"
    explainer = open_explainer(model, home / "guidance.h5" if home is not None else None)
    chosen, others = _choose(workspace, name, explainer.scale.card.encoder, cases, all_cases, slide_map)
    found = {str(slide_id): path for slide_id, path in find_slides(slides).items()} if slides else {}
    meanings = {column.name: (column.unit, column.definition) for column in COLUMNS}
    made: dict[Path, Summary] = {}
    for of_cohort in (True, False):
        wanted = [case for case in chosen if (case.case_id not in others) == of_cohort]
        if not wanted:
            continue
        folder = (home if home is not None and of_cohort else workspace.root / "predict") / "heatmaps"
        made[folder] = heatmaps(
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
    return made


def _choose(
    workspace: Workspace, name: str | None, encoder: str, wanted: Sequence[str], all_cases: bool, slide_map: Path | None
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
        near = get_close_matches(missing[0], known, n=3, cutoff=0.5)
        raise InputError(
            f"no case {missing[0]!r} with features of {encoder!r} in {workspace.root}"
            + (f"; did you mean {', '.join(near)}?" if near else "")
            + " A slide must have been embedded, or given to `wsisurv predict`, first."
        )
    chosen = list(of_cohort) if all_cases else wanted
    return [known[case_id] for case_id in dict.fromkeys(chosen)], others.keys() - of_cohort.keys()
