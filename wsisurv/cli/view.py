"""``wsisurv view``."""

from typing import Annotated

import typer

from wsisurv.cli.console import err, out
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, MovedSlidesOption, StudentOption, WorkspaceOption
from wsisurv.workspace.paths import Workspace


def view(
    case: Annotated[str | None, typer.Argument(help="Id of the case that is shown first.")] = None,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    student: StudentOption = None,
    slides: MovedSlidesOption = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of this machine to serve on.", show_default="any that is free")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Look at slides, what each tile did, and what is known of the case, in a browser.

    Reads the cohort, its student, risk.csv, findings.h5, statements and the slides; the page says what is missing.
    Writes nothing. It is served to this machine alone, to whoever has the address with its token, until Ctrl-C.
    """
    from wsisurv.viewer.serve import view as run

    def ready(address: str) -> None:
        out.print(address)
        err.print("Ctrl-C ends it")
        if browser:
            typer.launch(address)

    run(Workspace(workspace), case, cohort=cohort, student=student, slides=slides or (), port=port, ready=ready)
