"""``wsisurv export``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.workspace.paths import Workspace


def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write into.", file_okay=False)],
    layout: Annotated[
        Literal["stamp", "clam", "trident", "qupath", "anndata", "spatialdata"],
        typer.Option(
            "--format",
            help="Tool that will read the files: stamp, clam, trident, qupath, anndata (scanpy), or spatialdata "
            "(LazySlide).",
            metavar="TOOL",
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder whose features to export, as `wsisurv embed` printed it. Without it, tiles are exported."
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    redo: RedoOption = False,
) -> None:
    """Write tiles or features in the layout of another tool.

    Reads tiles/SLIDE.h5 and features/ENCODER/SLIDE.h5. Writes into FOLDER what STAMP, CLAM (patches/, h5_files/) or
    TRIDENT (patches/, features_ENCODER/) would have written, SLIDE.geojson with every tile for QuPath, SLIDE.h5ad with
    every tile's features for AnnData, or SLIDE.zarr with tiles and features for SpatialData and LazySlide (pip install
    'wsisurv[spatialdata]').
    """
    from wsisurv.embedding.export import export as run

    with progress_bar("export") as progress:
        summary = run(Workspace(workspace), folder, layout, encoder, redo=redo, progress=progress)
    report(summary, f"{layout} files in {folder}")
    finish(summary)
