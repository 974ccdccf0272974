"""Step 1: slides to tiles."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from wsisurv.errors import SlideError
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import FORMAT, Tiles, read_tiles, write_tiles
from wsisurv.settings import TileSettings
from wsisurv.slides.find import find_slides, slide_fingerprint
from wsisurv.slides.reader import Slide
from wsisurv.tiling.grid import check_overlap, make_grid, tissue_shares
from wsisurv.tiling.preview import draw_preview, preview_mpp, write_preview
from wsisurv.tiling.tissue import Tissue, find_tissue
from wsisurv.units import SlideId
from wsisurv.workspace import (
    Failure,
    Job,
    Progress,
    Summary,
    Workspace,
    make_failure,
    no_progress,
    record_failure,
    run_jobs,
)

STEP = "tile"
_ROUNDING = 1e-6  # a tile full of tissue is full though its float32 share may say 0.9999999


def tile(
    workspace: Workspace,
    sources: Sequence[Path],
    settings: TileSettings,
    *,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Find slides and cut each into tiles; writes a preview and a tiles file a slide.

    A slide without tissue has a tiles file of zero tiles and a note. A slide that fails is in the summary and in the
    ledger; the others are done.

    Raises:
        SettingsError: the overlap is not smaller than the tile.
        NoSlidesError, DuplicateSlideError: as ``find_slides``.
        StaleError: tiles were made with other settings or from another file, and ``redo`` is not given.
        StorageError: no room or no permission.
    """
    check_overlap(settings)
    slides = find_slides(sources)
    jobs, unread = _plan(workspace, slides, settings)
    summary = run_jobs(
        workspace, STEP, jobs, lambda job: _tile_slide(workspace, job, settings), redo=redo, progress=progress
    )
    for failure in unread:
        record_failure(workspace, STEP, failure)
    summary.failed.extend(unread)
    for slide_id in summary.kept:
        _follow_moved(workspace.tiles(slide_id), slides[SlideId(slide_id)])
    return summary


def _plan(workspace: Workspace, slides: dict[SlideId, Path], settings: TileSettings) -> tuple[list[Job], list[Failure]]:
    jobs, unread = [], []
    for slide_id, path in slides.items():
        try:
            header = make_header(FORMAT, settings, {"slide": slide_fingerprint(path)})
        except SlideError as error:
            unread.append(make_failure(slide_id, path, error, fingerprint=""))
            continue
        jobs.append(Job(slide_id, path, workspace.tiles(slide_id), header))
    return jobs, unread


def _tile_slide(workspace: Workspace, job: Job, settings: TileSettings) -> str | None:
    """Tile one slide; the preview is written first, so that finished tiles imply a preview."""
    with Slide(job.source, settings.slide_mpp) as slide:
        try:
            grid = make_grid(slide.width, slide.height, slide.mpp, settings)
        except SlideError as error:
            raise SlideError(f"{job.source}: {error}") from error
        tissue_mpp = max(settings.tissue_mpp, slide.mpp)
        shown_mpp = preview_mpp(slide.width, slide.height, slide.mpp)
        finer = max(1, int(tissue_mpp / shown_mpp))  # a whole number, so that one reading serves both
        view = slide.view(tissue_mpp / finer)
        tissue = find_tissue(np.asarray(Image.fromarray(view).reduce(finer)), tissue_mpp)
        shares = tissue_shares(tissue.mask, tissue_mpp / slide.mpp, grid)
        keep = shares >= settings.min_tissue - _ROUNDING
        tiles = Tiles(
            slide_id=SlideId(job.id),
            slide_path=job.source.absolute(),
            coords=grid.coords(keep),
            tissue=shares[keep],
            mpp=slide.mpp,
            tile_mpp=settings.tile_mpp,
            tile_px=settings.tile_px,
            tile_level0_px=grid.side,
            overlap_px=settings.overlap_px,
            level0_width=slide.width,
            level0_height=slide.height,
        )
    write_preview(workspace.preview(job.id), draw_preview(view, tissue_mpp / finer, tissue, tissue_mpp, tiles))
    write_tiles(job.output, tiles, job.header)
    return _note(tiles, tissue)


def _note(tiles: Tiles, tissue: Tissue) -> str | None:
    notes = list(tissue.flags)
    if not len(tiles.coords):
        found = "tissue, but no tile with enough of it" if tissue.mask.any() else "no tissue found"
        notes.append(f"zero tiles ({found})")
    return f"{tiles.slide_id}: {'; '.join(notes)}" if notes else None


def _follow_moved(path: Path, slide_path: Path) -> None:
    """Write tiles again, all else the same, when their slide lies elsewhere now."""
    tiles, header = read_tiles(path)
    if tiles.slide_path != slide_path.absolute():
        write_tiles(path, replace(tiles, slide_path=slide_path.absolute()), header)
