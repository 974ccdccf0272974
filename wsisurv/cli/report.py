"""``wsisurv report``."""

import sys
from typing import Annotated

import typer

from wsisurv.cli.console import ending, out, warn
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, WorkspaceOption
from wsisurv.workspace.paths import Workspace


@settings_as_options()
def report(
    *,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    pictures: Annotated[
        int,
        typer.Option(
            min=0, help="Number of cases whose heatmap is put into the page, half of highest and half of lowest risk."
        ),
    ] = 40,
    tripod: Annotated[
        bool,
        typer.Option(
            "--tripod",
            help="Also write evaluation/tripod.html, tripod.md and, with python-docx (`pip install python-docx`), "
            "tripod.docx: the 27 items of TRIPOD+AI, filled in as far as the workspace knows.",
        ),
    ] = False,
) -> None:
    """Make one HTML page of a cohort: audit, figures, tables, heatmaps, and how all of it was made.

    Reads cohorts/NAME/ and the folders of the slides' features and statements. Writes evaluation/index.html, which
    needs no other file, beside it each figure as SVG, PDF and PNG, and into evaluation/tables/ each table of the page
    as CSV and LaTeX (booktabs). What has not been run yet is listed on the page with the command that makes it.
    """
    from wsisurv.pages.cohort_page import write_report
    from wsisurv.pages.tripod_files import NO_DOCX

    place = Workspace(workspace)
    for name in place.the_cohorts(cohort):
        result = write_report(place, name, n_pictures=pictures, tripod=tripod, command=["wsisurv", *sys.argv[1:]])
        for why in dict.fromkeys(result.missing.values()):
            parts = ", ".join(part for part, said in result.missing.items() if said == why)
            out.print(f"not on the page: {parts}: {why}")
        warn(*result.differs)
        ending(
            f"report: {len(result.figures) // 3} figures, {len(result.tables) // 2} tables, "
            f"{result.pictures} heatmaps · {result.page}"
        )
        for path in result.tripod:
            out.print(f"report: TRIPOD+AI · {path}")
        if tripod and len(result.tripod) < 3:
            out.print(NO_DOCX)
