"""``wsisurv tile``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.settings import TileSettings, parse_settings
from wsisurv.workspace import Workspace

_DEFAULTS = TileSettings()


def tile(
    slides: Annotated[
        list[Path], typer.Argument(help="Slide files, or folders searched for every format that OpenSlide reads.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    tile_px: Annotated[int, typer.Option(help="Side of a tile, pixels at --tile-mpp.")] = _DEFAULTS.tile_px,
    tile_mpp: Annotated[
        float, typer.Option(help="Resolution of a tile, µm per pixel; exact, never rounded to a magnification.")
    ] = _DEFAULTS.tile_mpp,
    overlap_px: Annotated[int, typer.Option(help="Pixels that neighbours share.")] = _DEFAULTS.overlap_px,
    min_tissue: Annotated[
        float, typer.Option(help="Keep a tile when at least this share of it is tissue, 0 to 1.")
    ] = _DEFAULTS.min_tissue,
    tissue_mpp: Annotated[
        float, typer.Option(help="Resolution of the view on which tissue is found, µm per pixel.")
    ] = _DEFAULTS.tissue_mpp,
    slide_mpp: Annotated[
        float | None, typer.Option(help="Resolution at level 0, µm per pixel, where the files don't say or are wrong.")
    ] = None,
    redo: RedoOption = False,
) -> None:
    """Step 1: find the tissue of each slide and lay a grid of tiles over it.

    Reads the slides. Writes tiles/SLIDE.h5 (coordinates in level-0 pixels) and preview/SLIDE.jpg into the workspace.
    A slide that fails is listed and the others go on; the same command again does only what is missing.
    """
    from wsisurv.tiling.step import tile as run

    settings = parse_settings(
        TileSettings,
        {
            "tile_px": tile_px,
            "tile_mpp": tile_mpp,
            "overlap_px": overlap_px,
            "min_tissue": min_tissue,
            "tissue_mpp": tissue_mpp,
            "slide_mpp": slide_mpp,
        },
    )
    with progress_bar("tile") as progress:
        summary = run(Workspace(workspace), slides, settings, redo=redo, progress=progress)
    report(summary, f"tiles in {workspace / 'tiles'}, previews in {workspace / 'preview'}")
    finish(summary)
