"""``wsisurv import``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.from_settings import option
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.cli.resolution import MppFromObjectiveOption, MppTableOption, SlideMppOption, read_mpp_table
from wsisurv.errors import InputError, NoSlidesError
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.paths import Workspace


def import_features(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Tiles or features of STAMP, TRIDENT, CLAM or AtlasPatch: one .h5 a slide.",
            exists=True,
            file_okay=False,
        ),
    ],
    encoder: Annotated[
        str | None, typer.Option(help="Name of the encoder that made the features, e.g. uni2-h. Without it: tiles.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    slides: Annotated[
        list[Path] | None,
        typer.Option(help="Slides, or their folder: they tell their resolution. Needed for tiles."),
    ] = None,
    tile_px: Annotated[int | None, option(TileSettings, "tile_px", unset="as the files say")] = None,
    tile_mpp: Annotated[float | None, option(TileSettings, "tile_mpp", unset="as the files say")] = None,
    overlap_px: Annotated[int | None, option(TileSettings, "overlap_px", unset="as the files say")] = None,
    slide_mpp: SlideMppOption = None,
    mpp_table: MppTableOption = None,
    mpp_from_objective: MppFromObjectiveOption = False,
    dataset: Annotated[str | None, typer.Option(help="Dataset of an AtlasPatch file, where it holds several.")] = None,
    redo: RedoOption = False,
) -> None:
    """Start from tiles or features that another tool made, instead of tile and embed.

    Reads FOLDER/*.h5 in the layout of STAMP, TRIDENT, CLAM or AtlasPatch. Writes features/ENCODER/SLIDE.h5, or
    tiles/SLIDE.h5, into the workspace. What a file doesn't say (CLAM's features have neither tile size nor resolution)
    is asked for, never guessed.
    """
    from wsisurv.embedding.foreign import Scale
    from wsisurv.embedding.foreign import import_features as run
    from wsisurv.formats.foreign import holds_features
    from wsisurv.slides.find import find_slides
    from wsisurv.slides.resolution import GivenMpp
    from wsisurv.tiling.check import resolve_mpps
    from wsisurv.tiling.foreign import import_tiles

    files = sorted(folder.glob("*.h5"))
    if not files:
        raise NoSlidesError(f"{folder}: no *.h5 file there. Name the folder that holds them.")
    place, found = Workspace(workspace), find_slides(slides) if slides else {}
    given = GivenMpp(slide_mpp, read_mpp_table(mpp_table), mpp_from_objective)
    if encoder is not None:
        scale = Scale(tile_px, tile_mpp, slide_mpp, {**given.by_slide, **resolve_mpps(found, given)})
        with progress_bar("import") as progress:
            summary = run(place, folder, encoder, scale, dataset=dataset, slides=found, redo=redo, progress=progress)
        report(summary, f"features in {workspace / 'features'}")
    elif holds_features(files[0]):
        raise InputError(f"{files[0]}: these are features. Name the encoder that made them with --encoder.")
    elif tile_mpp is None:
        raise InputError(
            f"{folder}: give --tile-mpp, the resolution that tiles are meant to have (e.g. 0.5 for 20×): these files "
            "tell it by magnification."
        )
    else:
        with progress_bar("import") as progress:
            summary = import_tiles(
                place,
                folder,
                found,
                tile_mpp=tile_mpp,
                overlap_px=overlap_px,
                given=given,
                redo=redo,
                progress=progress,
            )
        report(summary, f"tiles in {workspace / 'tiles'}")
    finish(summary)
