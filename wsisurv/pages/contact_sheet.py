"""``preview/index.html``: a contact sheet of the slides, to be looked over before hours are spent on them."""

import math
from dataclasses import dataclass

import numpy as np

from wsisurv.errors import ArtifactError
from wsisurv.formats.tiles import Tiles, read_tiles
from wsisurv.pages.rendering import write_page
from wsisurv.workspace.ledger import exclusive
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class SlideEntry:
    """A slide on the sheet."""

    slide_id: str  # the slide
    n_tiles: int  # tiles kept
    share: float | None  # tissue in these tiles as a share of the slide, 0 to 1; None where the tiles don't say
    mpp: float | None  # µm per pixel at level 0
    flags: tuple[str, ...]  # what deserves a look
    picture: str  # name of the preview beside the sheet; empty where there is none


def update_contact_sheet(workspace: Workspace) -> None:
    """Write the sheet of all tiled slides where tiles or previews came since it was written.

    That is after each run of ``tile`` that made something, and after one that was killed before its sheet.

    Raises:
        StorageError: no room or no permission.
    """
    if _is_behind(workspace):
        write_contact_sheet(workspace)


def write_contact_sheet(workspace: Workspace) -> None:
    """Write the sheet of all tiled slides, whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with exclusive(workspace, "sheet"):  # shards may end at the same moment
        slides = [_entry(workspace, slide_id) for slide_id in workspace.tiled_slides()]
        write_page(workspace.contact_sheet, "contact_sheet.html", slides=slides)


def _is_behind(workspace: Workspace) -> bool:
    sheet, tiles = workspace.contact_sheet, workspace.root / "tiles"
    if not sheet.exists() or not tiles.exists():
        return tiles.exists()
    written = sheet.stat().st_mtime_ns
    return any(path.stat().st_mtime_ns > written for path in (tiles, *sheet.parent.glob("*.jpg")))


def _entry(workspace: Workspace, slide_id: str) -> SlideEntry:
    preview = workspace.preview(slide_id)
    picture = preview.name if preview.exists() else ""
    try:
        tiles, _ = read_tiles(workspace.tiles(slide_id))
    except ArtifactError as error:
        return SlideEntry(slide_id, 0, None, None, (str(error),), picture)
    flags = tiles.flags or (() if len(tiles.coords) else ("zero tiles",))
    return SlideEntry(slide_id, len(tiles.coords), _share(tiles), tiles.mpp, flags, picture)


def _share(tiles: Tiles) -> float | None:
    """Tissue in the tiles as a share of the slide; what neighbours share is counted once."""
    step = tiles.tile_level0_px * (1 - tiles.overlap_px / tiles.tile_px)
    tissue = float(np.sum(tiles.tissue, dtype=np.float64)) * step**2 / (tiles.level0_width * tiles.level0_height)
    return None if math.isnan(tissue) else min(1.0, tissue)
