"""``wsisurv tile``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.cli.plan import DryRunOption, PlanOption, show_plan
from wsisurv.cli.resolution import MppFromObjectiveOption, MppTableOption, SlideMppOption, read_mpp_table
from wsisurv.errors import SettingsError
from wsisurv.settings.base import parse_settings
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.paths import Workspace

_DEFAULTS = TileSettings()


def tile(
    slides: Annotated[
        list[Path], typer.Argument(help="Slide files, or folders searched for every format that OpenSlide reads.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    tile_px: Annotated[
        int | None,
        typer.Option(help="Side of a tile, pixels at --tile-mpp.", show_default=str(_DEFAULTS.tile_px)),
    ] = None,
    tile_mpp: Annotated[
        float | None,
        typer.Option(
            help="Resolution of a tile, µm per pixel; exact, never rounded to a magnification.",
            show_default=str(_DEFAULTS.tile_mpp),
        ),
    ] = None,
    for_encoder: Annotated[
        str | None,
        typer.Option("--for", help="Tiles as this encoder wants them (uni2-h, virchow2 …), instead of the two above."),
    ] = None,
    overlap_px: Annotated[
        int, typer.Option("--overlap", "--overlap-px", help="Pixels that neighbours share.")
    ] = _DEFAULTS.overlap_px,
    allow_upsampling: Annotated[
        bool,
        typer.Option("--allow-upsampling", help="Enlarge slides scanned coarser than --tile-mpp, and flag them."),
    ] = False,
    tissue: Annotated[
        str,
        typer.Option(help="Tissue is found by otsu (optical density), hsv (fixed thresholds) or entropy (texture)."),
    ] = _DEFAULTS.tissue,
    tissue_masks: Annotated[
        Path | None,
        typer.Option(help="Folder of tissue drawn by hand: SLIDE.geojson (QuPath) or SLIDE.png.", file_okay=False),
    ] = None,
    tissue_mpp: Annotated[
        float, typer.Option(help="Resolution of the view on which tissue is found, µm per pixel.")
    ] = _DEFAULTS.tissue_mpp,
    min_tissue: Annotated[
        float, typer.Option(help="Keep a tile when at least this share of it is tissue, 0 to 1.")
    ] = _DEFAULTS.min_tissue,
    min_piece_um2: Annotated[
        float, typer.Option(help="Leave out smaller specks of tissue, µm².")
    ] = _DEFAULTS.min_piece_um2,
    max_hole_um2: Annotated[float, typer.Option(help="Fill smaller holes, µm².")] = _DEFAULTS.max_hole_um2,
    keep_artefacts: Annotated[
        bool, typer.Option("--keep-artefacts", help="Keep pen marks, black edges, lines, bubble rims and folds.")
    ] = False,
    measures: Annotated[
        bool, typer.Option("--measures", help="Store focus and stain of each tile as well; reads every tile.")
    ] = False,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview/--no-preview",
            help="Draw preview/SLIDE.jpg, of slides too that were tiled without; or don't, and make no contact sheet.",
        ),
    ] = True,
    slide_mpp: SlideMppOption = None,
    mpp_table: MppTableOption = None,
    mpp_from_objective: MppFromObjectiveOption = False,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Slides at a time, in threads. Takes at most 100 MB, and a worker 60 MB where slides have 30,000 px a "
            "side at 0.25 µm/px, 130 MB at 60,000, 300 MB at 120,000.",
        ),
    ] = 1,
    shard: Annotated[
        str | None, typer.Option(metavar="N/COUNT", help="Do every COUNT-th slide only, from the N-th: for job arrays.")
    ] = None,
    redo: RedoOption = False,
    dry_run: DryRunOption = False,
    plan_file: PlanOption = None,
) -> None:
    """Step 1: find the tissue of each slide and lay a grid of tiles over it.

    Reads the slides. Writes tiles/SLIDE.h5 (coordinates in level-0 pixels) and preview/SLIDE.jpg into the workspace.
    A slide that fails is listed and the others go on; the same command again does only what is missing.
    """
    from wsisurv.pages.contact_sheet import update_contact_sheet
    from wsisurv.slides.resolution import GivenMpp
    from wsisurv.tiling.step import parse_shard
    from wsisurv.tiling.step import tile as run

    settings = parse_settings(
        TileSettings,
        {
            **_size(tile_px, tile_mpp, for_encoder),
            "overlap_px": overlap_px,
            "min_tissue": min_tissue,
            "tissue": tissue,
            "tissue_mpp": tissue_mpp,
            "min_piece_um2": min_piece_um2,
            "max_hole_um2": max_hole_um2,
            "keep_artefacts": keep_artefacts,
            "measures": measures,
            "slide_mpp": slide_mpp,
        },
    )
    given = GivenMpp(slide_mpp, read_mpp_table(mpp_table), mpp_from_objective)
    part = parse_shard(shard) if shard else None
    if dry_run or plan_file:
        from wsisurv.tiling.plan import plan_tile

        plan = plan_tile(
            Workspace(workspace),
            slides,
            settings,
            given=given,
            masks=tissue_masks,
            allow_upsampling=allow_upsampling,
            shard=part,
        )
        show_plan("tile", plan, redo=redo, bound=True, jsonl=plan_file)
        return
    with progress_bar("tile") as progress:
        summary = run(
            Workspace(workspace),
            slides,
            settings,
            given=given,
            masks=tissue_masks,
            allow_upsampling=allow_upsampling,
            preview=preview,
            shard=part,
            workers=workers,
            redo=redo,
            progress=progress,
        )
    if preview:
        update_contact_sheet(Workspace(workspace))
    report(summary, f"tiles in {workspace / 'tiles'}" + (f", previews in {workspace / 'preview'}" if preview else ""))
    finish(summary)


def _size(tile_px: int | None, tile_mpp: float | None, encoder: str | None) -> dict[str, float]:
    """Size and resolution of a tile: those given, or an encoder's.

    Raises:
        SettingsError: both are given, or the encoder is not known or has no tile of its own.
    """
    if encoder is None:
        given = {"tile_px": tile_px, "tile_mpp": tile_mpp}
        return {name: value for name, value in given.items() if value is not None}
    from wsisurv.embedding.packaged import tile_size

    if tile_px is not None or tile_mpp is not None:
        raise SettingsError(f"--for {encoder} says the size of a tile; leave out --tile-px and --tile-mpp, or --for.")
    size = tile_size(encoder)
    if size is None:
        raise SettingsError(f"--for {encoder}: it takes tiles of any size; give --tile-px and --tile-mpp instead.")
    return {"tile_px": size[0], "tile_mpp": size[1]}
