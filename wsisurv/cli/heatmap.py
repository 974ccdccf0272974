"""``wsisurv heatmap``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, out, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, RedoOption, WorkspaceOption
from wsisurv.workspace.paths import Workspace


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
    from wsisurv.pipeline.heatmap import heatmap as run

    with progress_bar("heatmap") as progress:
        made = run(
            Workspace(workspace),
            cases or (),
            all_cases=all_cases,
            cohort=cohort,
            student=student,
            slides=slides or (),
            slide_map=slide_map,
            tiles=tiles,
            redo=redo,
            progress=progress,
        )
    for folder, summary in made.items():
        report(summary, f"pictures in {folder}")
    if all_cases:
        out.print("`wsisurv report` puts them on a page", markup=False)
    finish(*made.values())
