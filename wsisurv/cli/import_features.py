"""``wsisurv import``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.from_settings import option, settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.cli.resolution import ResolutionOptions
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.paths import Workspace


@settings_as_options()
def import_features(
    *,
    folder: Annotated[
        Path,
        typer.Argument(
            help="Tiles or features of STAMP, TRIDENT, CLAM, Mussel, AtlasPatch, hs2p, slide2vec, LazySlide or QuPath, "
            "one a slide (or patient): folder, file, or the root of a job.",
            exists=True,
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Name of the encoder that made the features, of tiles (uni2-h) or slides (titan). Without it, tiles "
            "are imported."
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    slides: Annotated[
        list[Path] | None,
        typer.Option(help="Slides, or their folder, from which the resolution is read. Needed for tiles."),
    ] = None,
    tile_px: Annotated[int | None, option(TileSettings, "tile_px", unset="as the files say")] = None,
    tile_mpp: Annotated[float | None, option(TileSettings, "tile_mpp", unset="as the files say")] = None,
    overlap_px: Annotated[int | None, option(TileSettings, "overlap_px", unset="as the files say")] = None,
    resolution: ResolutionOptions,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the dataset, where AtlasPatch's files or LazySlide's stores hold several."),
    ] = None,
    unknown_resolution: Annotated[
        bool,
        typer.Option(
            "--unknown-resolution",
            help="Store features whose resolution nobody knows. Heatmaps and export of these slides then refuse.",
        ),
    ] = False,
    dtype: Annotated[
        Literal["float16", "float32"] | None,
        typer.Option(
            help="Number type of the stored features.", show_default="float32, or float16 where all files have that"
        ),
    ] = None,
    redo: RedoOption = False,
) -> None:
    """Import tiles or features that another tool made, instead of running tile and embed.

    Reads, told by what is in them: *.h5 of STAMP, TRIDENT, CLAM, Mussel (tiles) or AtlasPatch; features in *.pt
    (slide2vec, CLAM, any tensor; nothing in a file is run); tiles of hs2p (.coordinates.npz) and squares in QuPath's
    .geojson; stores of LazySlide (.zarr, SpatialData; pip install 'wsisurv[lazyslide]'). Embeddings of whole slides or
    patients (TITAN, PRISM, MOOZY …) are bags of one row. Writes features/ENCODER/SLIDE.h5, or tiles/SLIDE.h5, into the
    workspace. What a file doesn't say (CLAM's features have neither tile size nor resolution) is asked for, never
    guessed; tiles without coordinates are stored so, and what needs a place refuses them.
    """
    from wsisurv.pipeline.import_folder import import_folder

    with progress_bar("import") as progress:
        summary = import_folder(
            Workspace(workspace),
            folder,
            encoder,
            slides=slides or (),
            tile_px=tile_px,
            tile_mpp=tile_mpp,
            overlap_px=overlap_px,
            given=resolution.given(),
            dataset=dataset,
            unknown_resolution=unknown_resolution,
            dtype=dtype,
            redo=redo,
            progress=progress,
        )
    kind = "tiles" if encoder is None else "features"
    report(summary, f"{kind} in {workspace / kind}")
    finish(summary)
