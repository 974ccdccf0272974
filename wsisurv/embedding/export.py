"""Tiles and features of a workspace, written for other tools."""

from pathlib import Path

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import FormatError, InputError, WsisurvError
from wsisurv.formats.anndata import write_anndata
from wsisurv.formats.atomic import write_text
from wsisurv.formats.export import ExportLayout, export_features, export_tiles
from wsisurv.formats.features import read_features
from wsisurv.formats.spatialdata import write_spatialdata
from wsisurv.formats.tiles import read_tiles
from wsisurv.workspace.ledger import Summary, make_failure
from wsisurv.workspace.paths import Workspace

STEP = "export"
_TOOLS = {"stamp": "STAMP", "anndata": "AnnData", "spatialdata": "SpatialData"}
_ENDINGS = {"stamp": "h5", "qupath": "geojson", "anndata": "h5ad", "spatialdata": "zarr"}


def export(
    workspace: Workspace,
    folder: Path,
    layout: ExportLayout,
    encoder: str | None,
    *,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Write tiles, or the features of an encoder, for another tool, in the folders where it looks for them.

    Args:
        workspace: reads tiles/ and features/ENCODER/.
        folder: where to; STAMP: SLIDE.h5; CLAM: patches/SLIDE.h5 and h5_files/SLIDE.h5; TRIDENT:
            patches/SLIDE_patches.h5 and features_ENCODER/SLIDE.h5; QuPath: SLIDE.geojson; AnnData: SLIDE.h5ad;
            SpatialData: SLIDE.zarr.
        layout: for whom.
        encoder: folder name of the features; None for tiles.
        redo: write over what is there.
        progress: called after each slide.

    Raises:
        InputError: nothing to export, a tool that has no such file (STAMP tiles, QuPath features), or a file is there
            already, and not by an export of the same that was stopped or lacks slides.
        StorageError: no room or no permission.
    """
    if encoder is None and layout in _TOOLS:
        raise InputError(f"{_TOOLS[layout]} has no files of tiles alone. Name the features with --encoder.")
    if encoder is not None and layout == "qupath":
        raise InputError("QuPath is given tiles, not features. Leave out --encoder.")
    slide_ids = workspace.tiled_slides() if encoder is None else workspace.embedded_slides(encoder)
    if not slide_ids:
        workspace.require()
        what = "tiles" if encoder is None else f"features of {encoder} (there are {_known(workspace)})"
        raise InputError(f"{workspace.root}: no {what} to export.")
    targets = {slide_id: folder / _place(layout, encoder, slide_id) for slide_id in slide_ids}
    going_on = folder / f".{layout}-{encoder or 'tiles'}.unfinished"
    if not going_on.exists() and (there := [path for path in targets.values() if path.exists() and not redo]):
        raise InputError(f"{there[0]}: is there already. Name another folder, or write over it with --redo.")
    write_text(going_on, "Of `wsisurv export`, which was stopped or lacks slides; the same command goes on.\n")
    summary = Summary(STEP)
    for number, (slide_id, target) in enumerate(targets.items()):
        progress(number, len(targets), slide_id)
        try:
            _export_slide(workspace, slide_id, target, layout, encoder)
        except WsisurvError as error:
            summary.failed.append(make_failure(slide_id, target, error, ""))
        else:
            summary.done.append(slide_id)
    progress(len(targets), len(targets), "")
    if not summary.failed:
        going_on.unlink(missing_ok=True)
    return summary


def _known(workspace: Workspace) -> str:
    return ", ".join(workspace.encoders()) or "none yet"


def _place(layout: ExportLayout, encoder: str | None, slide_id: str) -> Path:
    if layout in _ENDINGS:
        return Path(f"{slide_id}.{_ENDINGS[layout]}")
    if layout == "clam":
        return Path("patches" if encoder is None else "h5_files") / f"{slide_id}.h5"
    if encoder is None:
        return Path("patches") / f"{slide_id}_patches.h5"
    return Path(f"features_{encoder}") / f"{slide_id}.h5"


def _export_slide(workspace: Workspace, slide_id: str, target: Path, layout: ExportLayout, encoder: str | None) -> None:
    if layout == "qupath" or (encoder is None and layout in ("clam", "trident")):
        tiles, _ = read_tiles(workspace.tiles(slide_id))
        export_tiles(target, tiles, layout)
        return
    source = workspace.features(str(encoder), slide_id)
    features, _ = read_features(source)
    path = workspace.tiles(slide_id)
    tiles_there = read_tiles(path)[0] if path.exists() else None  # imported ones have none
    if layout == "anndata":
        write_anndata(target, features, tiles_there)
        return
    features.place  # noqa: B018  refuses, by name, what lies nowhere
    if not {"tile_px", "tile_mpp"} <= features.tile_settings.keys():
        raise FormatError(f"{source}: says neither size nor resolution of its tiles. Make the features anew.")
    if layout == "spatialdata":
        write_spatialdata(target, features, tiles_there)
        return
    export_features(target, features, tiles_there, layout)
