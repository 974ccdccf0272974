"""``wsisurv align``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from wsisurv.cli.console import number, out, progress_bar, warn
from wsisurv.cli.from_settings import option
from wsisurv.cli.options import RedoOption
from wsisurv.settings.training import TeacherSettings


def align(
    *,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Workspaces, each of one cancer; or folders of cohorts, WORKSPACE/cohorts/NAME.", exists=True
        ),
    ],
    output: Annotated[Path, typer.Option(help="The alignment.", dir_okay=False)] = Path("alignment.h5"),
    encoder: Annotated[str, option(TeacherSettings, "encoder")] = "histomics",
    text_encoder: Annotated[str, option(TeacherSettings, "text_encoder")] = "hashing",
    sites: Annotated[
        list[Path] | None,
        typer.Option(help="Table case_id,site: hospitals of cases that are in no cohort; can be given several times."),
    ] = None,
    redo: RedoOption = False,
) -> None:
    """Learn across cohorts what tiles tell about reports, without any outcome, for distill --alignment.

    Reads features/ENCODER/ and reports/vectors/ of each workspace, and hospitals of its cohorts. Every case with a
    slide and a report counts, with or without follow-up. Both are centred within each hospital of each cohort; rank and
    ridge are chosen at hospitals that were not fitted. Writes one file, which holds a row a case (its mean tile and the
    mean of its statement vectors): keep it as you keep the workspaces. Whoever is tested is left out of it and the rest
    fitted anew, by case id and hospital.
    """
    from wsisurv.pipeline.align import align as run

    with progress_bar("align") as progress:
        result = run(
            sources,
            output,
            encoder=encoder,
            text_encoder=text_encoder,
            sites=sites or (),
            redo=redo,
            progress=progress,
        )
    warn(*result.warnings)
    fit = result.fit
    head = ("cohort", "pairs", "hospitals", "compared within one", "variance of reports explained")
    table = Table(*head, title="Alignment: within hospital, at unseen hospitals", title_justify="left")
    for cohort in result.cohorts:
        counts = map(str, (cohort.cases, cohort.hospitals, cohort.compared))
        table.add_row(cohort.name, *counts, number(fit.explained_in.get(cohort.name)))
    table.add_row("all", "", str(fit.n_hospitals), str(fit.n_cases), number(fit.explained))
    out.print(table)
    told = ", ".join(number(value) for value in fit.agreement[:5]) or "none"
    out.print(f"directions that hold there: {len(fit.agreement)} (correlation with the reports {told})")
    out.print(f"align: {'kept' if result.kept else 'done'} · {output}")
