"""``wsisurv cohort``."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.clinical import MakingOptions
from wsisurv.cli.console import ending
from wsisurv.cli.from_settings import option, settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.cohort import read_cohort
from wsisurv.errors import WsisurvError
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.training import TeacherSettings
from wsisurv.workspace.paths import Workspace


@settings_as_options()
def cohort(
    *,
    name: Annotated[str, typer.Argument(help="Name of the new cohort, a folder in cohorts/.", show_default=False)],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    clinical: Annotated[
        Path,
        typer.Option(
            help="Clinical table with follow-up (CSV, TSV or .xlsx, one row a case).",
            dir_okay=False,
            show_default=False,
        ),
    ],
    columns: CohortSettings,
    making: MakingOptions,
    encoder: Annotated[str, option(TeacherSettings, "encoder")] = TeacherSettings().encoder,
    reports_only: Annotated[
        bool,
        typer.Option(
            "--reports-only", help="Take the cases that have a report, for crossval --reports-only; needs no slide."
        ),
    ] = False,
    redo: RedoOption = False,
) -> None:
    """Match a clinical table with slides and reports, print the audit, and train nothing.

    Reads the clinical table, the names in features/ENCODER/ and reports/statements.jsonl. Writes cohort.csv and
    audit.json into cohorts/NAME/, or, with --endpoint, into cohorts/NAME/ENDPOINT/ for each endpoint. `train-teacher`
    and `crossval` then take it as --cohort NAME.
    """
    place = Workspace(workspace)
    before = _fingerprints(place, name)
    made = making.make(place, name, clinical, columns, encoder=encoder, reports_only=reports_only, redo=redo)
    kept = all(before.get(one.name) == one.fingerprint for one, _ in made)
    counts = f"{max(len(one.cases) for one, _ in made)} cases"
    done = "kept" if kept else "nothing was written" if making.audit_only else "done"
    ending(f"cohort: {counts}, {done} · {place.cohort(name)}", kept=kept)


def _fingerprints(place: Workspace, name: str) -> dict[str, str]:
    """Fingerprints of the cohort of that name, or of its endpoints, as it is there; of a damaged one there is none."""
    found = {}
    for one in place.cohorts():
        if one.partition("/")[0] == name:
            with suppress(WsisurvError):
                found[one] = read_cohort(place.cohort(one))[0].fingerprint
    return found
