"""``wsisurv evaluate-reports``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from wsisurv.cli.console import number, out, warn
from wsisurv.cli.options import DEFAULT_WORKSPACE, WorkspaceOption
from wsisurv.errors import some
from wsisurv.formats.atomic import write_json
from wsisurv.formats.statements import read_rejected, read_statements
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.reports.evaluation import ReportScores


def evaluate_reports(
    reports: Annotated[Path, typer.Argument(help="Reports that the statements were extracted from.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    gold: Annotated[
        Path | None,
        typer.Option(
            help='Gold standard: statements written by a person, JSONL: {"case_id", "statements": [{"category", '
            '"polarity", "text", "evidence"}]}. Without it, statements are compared with the reports alone.',
            dir_okay=False,
        ),
    ] = None,
    statements: Annotated[
        Path | None,
        typer.Option(
            help="Statements to score, in the form of --gold.", show_default="the workspace's own", dir_okay=False
        ),
    ] = None,
) -> None:
    """Score extracted statements, and make a page that shows each report with its statements marked in place.

    Reads the reports and reports/statements.jsonl. Writes reports/evaluation/metrics.json and index.html into the
    workspace. The page holds the reports' whole text: it is as confidential as they are.
    """
    from wsisurv.pages.statements_page import write_statements_page
    from wsisurv.reports.evaluation import evaluate_reports as score
    from wsisurv.reports.evaluation import read_gold
    from wsisurv.reports.sources import read_reports

    place = Workspace(workspace)
    if statements is None:
        place.require("; `wsisurv extract-report` makes one")
    texts = read_reports(reports)
    ours = read_statements(place.statements) if statements is None else read_gold(statements, texts)
    if statements is None and (unread := sorted(texts.keys() - ours.keys())):
        warn(
            f"{place.statements}: no record of {len(unread)} of the {len(texts)} reports: {some(unread)}. Lines of it "
            "were lost, or `wsisurv extract-report` did not get to them; run it again"
        )
    wanted = read_gold(gold, texts) if gold else None
    if wanted is not None and (strangers := sorted(wanted.keys() - texts.keys())):
        warn(f"{len(strangers)} cases of {gold} have no report here and count as not found: {some(strangers)}")
    scores = score(ours, texts, wanted)
    folder = place.statements.parent / "evaluation"
    write_statements_page(
        folder / "index.html", ours, texts, [] if statements else read_rejected(place.rejected), scores
    )
    write_json(folder / "metrics.json", asdict(scores))
    out.print(_table(scores))
    out.print(f"the reports with their statements in place: {folder / 'index.html'}")


def _table(scores: "ReportScores") -> Table:
    table = Table(title=f"Statements of {scores.reports} reports", show_header=False, title_justify="left")
    table.add_row("reports that gave a statement", f"{scores.with_statements}")
    table.add_row("statements", f"{scores.statements}")
    table.add_row("proved in the report", f"{number(scores.proved_share)} ({_counts(scores.unproved)})")
    covered = f"{number(scores.coverage)} of {scores.sentences} sentences"
    table.add_row("coverage of what a slide can show", covered)
    table.add_row("leakage from elsewhere", f"{number(scores.leakage_share)} ({_counts(scores.leakage)})")
    table.add_row("left out", _counts(scores.left_out))
    if (against := scores.against_gold) is not None:
        table.add_row("cases with a gold standard", f"{against.reports}, {against.gold} statements")
        table.add_row("precision: statements that the gold standard supports", number(against.precision))
        table.add_row("relevance: share of the gold standard that was found", number(against.relevance))
        table.add_row("polarity errors, number errors", f"{against.polarity_errors}, {against.number_errors}")
    return table


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
