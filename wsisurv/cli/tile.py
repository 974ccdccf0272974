"""``wsisurv tile``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.engine_options import EngineOptions, StageOption
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    RedoOption,
    ShardOption,
    SlidesArgument,
    WorkspaceOption,
)
from wsisurv.cli.plan import DryRunOption, PlanOption, show_plan
from wsisurv.cli.resolution import ResolutionOptions
from wsisurv.engine.shards import parse_shard
from wsisurv.errors import SettingsError
from wsisurv.settings.base import parse_settings
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class CuttingOptions:
    """How slides are cut, beside what is in the settings of the tiles."""

    for_encoder: Annotated[
        str | None,
        typer.Option(
            "--for", help="Encoder (uni2-h, virchow2 …) that tiles are cut for, instead of --tile-px and --tile-mpp."
        ),
    ] = None
    allow_upsampling: Annotated[
        bool,
        typer.Option(
            "--allow-upsampling",
            help="Enlarge slides scanned coarser than --tile-mpp, and flag them, instead of failing.",
        ),
    ] = False
    tissue_masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tissue outlines drawn by hand, used instead of detection: SLIDE.geojson of QuPath, or "
            "SLIDE.png.",
            file_okay=False,
        ),
    ] = None
    tissue_model: Annotated[
        Path | None,
        typer.Option(
            help="Network that finds tissue, instead of --tissue: NAME.onnx, or weights as .safetensors, and beside it "
            "NAME.toml, which says what it takes.",
            dir_okay=False,
        ),
    ] = None
    shard: ShardOption = None

    def sized(self, settings: TileSettings) -> TileSettings:
        """Settings with size and resolution of a tile as an encoder wants them, where one is named.

        Raises:
            SettingsError: both are given, or the encoder is not known or has no tile of its own.
        """
        if self.for_encoder is None:
            return settings
        from wsisurv.embedding.packaged import tile_size

        if settings.model_fields_set & {"tile_px", "tile_mpp"}:
            raise SettingsError(
                f"--for {self.for_encoder} says the size of a tile; leave out --tile-px and --tile-mpp, or --for."
            )
        size = tile_size(self.for_encoder)
        if size is None:
            raise SettingsError(
                f"--for {self.for_encoder}: it takes tiles of any size; give --tile-px and --tile-mpp instead."
            )
        return parse_settings(TileSettings, {**settings.model_dump(), "tile_px": size[0], "tile_mpp": size[1]})

    def arguments(self) -> dict[str, Any]:
        """Arguments of the step and of its plan."""
        return {
            "masks": self.tissue_masks,
            "tissue_model": self.tissue_model,
            "allow_upsampling": self.allow_upsampling,
            "shard": parse_shard(self.shard),
        }


@settings_as_options(
    first=("workspace", "tile_px", "tile_mpp", "for_encoder", "tissue", "tissue_masks", "min_tissue", "workers", "redo")
)
def tile(
    *,
    slides: SlidesArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    settings: TileSettings,
    cutting: CuttingOptions,
    no_preview: Annotated[
        bool,
        typer.Option("--no-preview", help="Write no preview pictures and no contact sheet; a later run can add them."),
    ] = False,
    _preview: Annotated[bool, typer.Option("--preview", hidden=True)] = False,
    resolution: ResolutionOptions,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="one a processor",
            help="Slides tiled at the same time, in threads. Memory: 100 MB, and for each worker 60 MB with slides of "
            "30,000 px a side at 0.25 µm/px, 130 MB with 60,000, 300 MB with 120,000.",
        ),
    ] = None,
    stage: StageOption = None,
    where: EngineOptions,
    redo: RedoOption = False,
    dry_run: DryRunOption = False,
    plan_file: PlanOption = None,
) -> None:
    """Step 1: find the tissue of each slide and lay a grid of tiles over it.

    Reads the slides. Writes tiles/SLIDE.h5 (coordinates in level-0 pixels) and preview/SLIDE.jpg into the workspace.
    A slide that fails is listed and the others go on. Run again, the command does only what is missing.
    """
    from wsisurv.pipeline.tile import tile as run

    settings = cutting.sized(settings)
    how = {"given": resolution.given(), **cutting.arguments()}
    if dry_run or plan_file:
        from wsisurv.tiling.plan import plan_tile

        plan = plan_tile(Workspace(workspace), slides, settings, **how)
        show_plan("tile", plan, redo=redo, bound=True, jsonl=plan_file)
        return
    with where.pool(workspace) as pool, progress_bar("tile") as progress:
        summary = run(
            Workspace(workspace),
            slides,
            settings,
            preview=not no_preview,
            workers=workers,
            pool=pool,
            stage=stage,
            redo=redo,
            progress=progress,
            **how,
        )
    previews = "" if no_preview else f", previews in {workspace / 'preview'}"
    report(summary, f"tiles in {workspace / 'tiles'}{previews}")
    finish(summary)
