"""``wsisurv heatmap``."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsisurv.cli.console import finish, out, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, RedoOption, WorkspaceOption
from wsisurv.cohort import read_cohort, read_slide_map
from wsisurv.errors import InputError
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.prediction.contributions import Meaning
    from wsisurv.prediction.heatmap import CaseFiles


def heatmap(
    cases: Annotated[list[str] | None, typer.Argument(help="Cases; slides without a case by their slide_id.")] = None,
    all_cases: Annotated[bool, typer.Option("--all", help="All cases of the cohort.")] = False,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    student: Annotated[
        Path | None, typer.Option(help="Student's file.", show_default="cohorts/NAME/student.h5", dir_okay=False)
    ] = None,
    slides: Annotated[
        list[Path] | None, typer.Option(help="Slides, or their folder, if not where they were when they were tiled.")
    ] = None,
    slide_map: Annotated[
        Path | None, typer.Option(help="Table slide_id,case_id, for cases that are not of the cohort.")
    ] = None,
    tiles: Annotated[int, typer.Option(min=1, max=60, help="Tiles on each half of the contact sheet.")] = 12,
    redo: RedoOption = False,
) -> None:
    """What raised and what lowered the risk of a case, tile by tile.

    Reads the student, features/ENCODER/ and the slides. Writes into cohorts/NAME/heatmaps/CASE/ (predict/heatmaps/CASE/
    for slides that were given to predict) a picture and a GeoJSON for QuPath a slide, the highest and lowest tiles as
    tiles.jpg, and heatmap.json. A case that the student was trained on is explained by members that did not see it.
    """
    from wsisurv.prediction.explainer import open_explainer
    from wsisurv.prediction.heatmap import heatmaps
    from wsisurv.slides.find import find_slides

    place = Workspace(workspace)
    name = None if student and not cohort else place.the_cohort(cohort)
    home = place.cohort(name) if name else None
    explainer = open_explainer(
        student or place.cohort(str(name)) / "student.h5", home / "guidance.h5" if home is not None else None
    )
    chosen, predicted = _choose(place, name, explainer.scale.card.encoder, cases or [], all_cases, slide_map)
    found = {str(slide_id): path for slide_id, path in find_slides(slides).items()} if slides else {}
    meanings = _meanings() if explainer.feature_names else {}
    made = []
    for of_cohort in (True, False):
        wanted = [case for case in chosen if (case.case_id not in predicted) == of_cohort]
        if not wanted:
            continue
        folder = (home if home is not None and of_cohort else place.root / "predict") / "heatmaps"
        with progress_bar("heatmap") as progress:
            summary = heatmaps(
                explainer,
                wanted,
                folder,
                ledger=place,
                slides=found,
                meanings=meanings,
                n_shown=tiles,
                redo=redo,
                progress=progress,
            )
        report(summary, f"pictures in {folder}")
        made.append(summary)
    if name is not None and all_cases:
        out.print(f"`wsisurv report --cohort {name}` puts them on a page", markup=False)
    finish(*made)


def _choose(
    place: Workspace, name: str | None, encoder: str, wanted: list[str], all_cases: bool, slide_map: Path | None
) -> tuple[list["CaseFiles"], set[str]]:
    """The cases asked for, and which of them are no cases of the cohort."""
    from wsisurv.prediction.heatmap import CaseFiles
    from wsisurv.prediction.step import group_slides

    of_cohort: dict[str, CaseFiles] = {}
    if name is not None:
        saved, _ = read_cohort(place.cohort(name))
        of_cohort = {
            str(case.case_id): CaseFiles(str(case.case_id), tuple(map(str, case.slide_ids)), place)
            for case in saved.cases
        }
    if not wanted and not (all_cases and name is not None):
        raise InputError(
            "name the cases to be drawn, or give --all for every case of the cohort"
            + (f" {name} ({', '.join([*of_cohort][:3])} …)" if of_cohort else "")
        )
    others: dict[str, CaseFiles] = {}
    of_slide = read_slide_map(slide_map) if slide_map else None
    for home in (place, *map(Workspace, sorted((place.root / "predict").glob("*/")))):
        for case_id, slide_ids in group_slides(home.embedded_slides(encoder), slide_map=of_slide).items():
            others.setdefault(case_id, CaseFiles(case_id, slide_ids, home))
    known = {**others, **of_cohort}
    if missing := [case_id for case_id in wanted if case_id not in known]:
        near = get_close_matches(missing[0], known, n=3, cutoff=0.5)
        raise InputError(
            f"no case {missing[0]!r} with features of {encoder!r} in {place.root}"
            + (f"; did you mean {', '.join(near)}?" if near else "")
            + " A slide must have been embedded, or given to `wsisurv predict`, first."
        )
    chosen = list(of_cohort) if all_cases else wanted
    return [known[case_id] for case_id in dict.fromkeys(chosen)], others.keys() - of_cohort.keys()


def _meanings() -> dict[str, "Meaning"]:
    """What the columns of the embedded encoder measure."""
    from wsisurv.embedding.histomics import COLUMNS
    from wsisurv.prediction.contributions import Meaning

    return {column.name: Meaning(column.unit, column.definition) for column in COLUMNS}
