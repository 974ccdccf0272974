"""``wsisurv import``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.cohort import read_table
from wsisurv.errors import InputError
from wsisurv.workspace import Workspace


def import_features(
    folder: Annotated[
        Path, typer.Argument(help="Features of STAMP, TRIDENT or CLAM: one .h5 a slide.", exists=True, file_okay=False)
    ],
    encoder: Annotated[str, typer.Option(help="Name of the encoder that made them, e.g. uni2-h.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    tile_px: Annotated[int | None, typer.Option(min=1, help="Side of a tile, where the files don't say.")] = None,
    tile_mpp: Annotated[
        float | None, typer.Option(help="Resolution of a tile, µm per pixel, where the files don't say.")
    ] = None,
    slide_mpp: Annotated[float | None, typer.Option(help="Resolution of all slides at level 0, µm per pixel.")] = None,
    mpp_table: Annotated[
        Path | None, typer.Option(help="Table slide_id,mpp where slides differ in resolution.", dir_okay=False)
    ] = None,
    redo: RedoOption = False,
) -> None:
    """Start from features that another tool made, instead of tile and embed.

    Reads FOLDER/SLIDE.h5 in the layout of STAMP, TRIDENT or CLAM. Writes features/ENCODER/SLIDE.h5 into the workspace.
    What a file doesn't say (CLAM's has neither tile size nor resolution) is asked for, never guessed.
    """
    from wsisurv.embedding.foreign import Scale
    from wsisurv.embedding.foreign import import_features as run

    scale = Scale(tile_px, tile_mpp, slide_mpp, _read_mpps(mpp_table) if mpp_table else None)
    with progress_bar("import") as progress:
        summary = run(Workspace(workspace), folder, encoder, scale, redo=redo, progress=progress)
    report(summary, f"features in {workspace / 'features'}")
    finish(summary)


def _read_mpps(path: Path) -> dict[str, float]:
    mpps = {}
    for row_number, row in enumerate(read_table(path), start=2):
        try:
            mpps[row["slide_id"]] = float(row["mpp"])
        except KeyError as error:
            raise InputError(f"{path}: columns slide_id and mpp are needed; it has {', '.join(row)}") from error
        except ValueError as error:
            raise InputError(f"{path}, row {row_number}: mpp is {row['mpp']!r}, not a number") from error
        if mpps[row["slide_id"]] <= 0:
            raise InputError(f"{path}, row {row_number}: mpp {row['mpp']} is not positive")
    return mpps
