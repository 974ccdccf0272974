"""``wsisurv verify``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import err, out, progress_bar
from wsisurv.cli.options import DEFAULT_WORKSPACE
from wsisurv.workspace.paths import Workspace


def verify(
    workspace: Annotated[
        Path, typer.Argument(envvar="WSISURV_WORKSPACE", help="Workspace to check.", file_okay=False)
    ] = DEFAULT_WORKSPACE,
) -> None:
    """Check every file of a workspace against its checksums, its name, and the files it was made from.

    Reads all files, and of each slide the first and last MiB. Writes nothing. What is wrong is listed by file, with the
    way out, and the exit code is 1. Leftovers of killed runs and slides that were moved are notes.
    """
    from wsisurv.pipeline.verify import verify as run

    with progress_bar("verify") as progress:
        seen = run(Workspace(workspace), progress=progress)
    for note in seen.notes:
        err.print(f"note: {note}", markup=False)
    for problem in seen.problems:
        err.print(f"wrong: {problem}", markup=False, style="red")
    out.print(f"verify: {seen.n_files} files, {len(seen.problems)} wrong · {workspace}", markup=False)
    if seen.problems:
        raise typer.Exit(1)
