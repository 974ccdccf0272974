"""``preview/index.html``: a contact sheet of the slides, to be looked over before hours are spent on them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsisurv.errors import ArtifactError, FormatError
from wsisurv.formats.pictures import read_comment, read_whole_picture, write_picture
from wsisurv.formats.tiles import Tiles, read_tiles
from wsisurv.pages.rendering import write_page
from wsisurv.tiling.preview import make_thumbnail
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
    small: str = ""  # its thumbnail, by its path from the sheet; the preview itself where it can't be made smaller
    said: tuple[str, ...] = ()  # what the preview's caption says that the tiles don't


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
    written, previews = sheet.stat().st_mtime_ns, list(sheet.parent.glob("*.jpg"))
    if previews and not workspace.thumbnail("any").parent.exists():  # a sheet of before there were thumbnails
        return True
    return any(path.stat().st_mtime_ns > written for path in (tiles, *previews))


def _entry(workspace: Workspace, slide_id: str) -> SlideEntry:
    preview, thumbnail = workspace.preview(slide_id), workspace.thumbnail(slide_id)
    picture = preview.name if preview.exists() else ""
    small = f"{thumbnail.parent.name}/{thumbnail.name}" if picture and _is_made(thumbnail, preview) else picture
    said = tuple(read_comment(thumbnail).splitlines()) if small != picture else ()
    try:
        tiles, _ = read_tiles(workspace.tiles(slide_id))
    except ArtifactError as error:
        return SlideEntry(slide_id, 0, None, None, (str(error),), picture, small)
    flags = tiles.flags or (() if len(tiles.coords) else ("zero tiles",))
    return SlideEntry(slide_id, len(tiles.coords), _share(tiles), tiles.mpp, flags, picture, small, said)


def _is_made(thumbnail: Path, preview: Path) -> bool:
    """Whether there is a thumbnail of this very preview; made where `tile` of before left none."""
    if thumbnail.exists() and thumbnail.stat().st_mtime_ns >= preview.stat().st_mtime_ns:
        return True
    try:
        write_picture(thumbnail, make_thumbnail(read_whole_picture(preview)), "JPEG", quality=70)
    except FormatError:
        return False
    return True


def _share(tiles: Tiles) -> float | None:
    """Tissue in the tiles as a share of the slide; what neighbours share is counted once."""
    step = tiles.tile_level0_px * (1 - tiles.overlap_px / tiles.tile_px)
    tissue = float(np.sum(tiles.tissue, dtype=np.float64)) * step**2 / (tiles.level0_width * tiles.level0_height)
    return None if math.isnan(tissue) else min(1.0, tissue)
