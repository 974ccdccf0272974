"""A picture of a slide for a person: tissue outlined, tiles kept in full colour, all else faded."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from wsisurv.formats.atomic import replacing
from wsisurv.formats.tiles import Tiles

MAX_PX = 1600
"""Longest side of a preview."""

_TILE_EDGE = (0, 114, 178)  # Okabe and Ito's blue: told from pink and purple by any eye
_OUTLINE = (0, 0, 0)
_INK_OUTLINE = (230, 159, 0)  # their orange
_CAPTION_PX = 56


def preview_mpp(width: int, height: int, mpp: float) -> float:
    """Resolution of the preview of a slide of this size: never finer than the scan."""
    return mpp * max(1.0, max(width, height) / MAX_PX)


def draw_preview(
    view: NDArray[np.uint8], view_mpp: float, mask: NDArray[np.bool_], ink: NDArray[np.bool_], tiles: Tiles
) -> Image.Image:
    """Draw the preview.

    Args:
        view: uint8 (height, width, 3), the slide at ``view_mpp``.
        view_mpp: µm per pixel of the view.
        mask: tissue on the whole slide, at any resolution.
        ink: what was left out as pen marks, as ``mask``.
        tiles: the tiles kept.
    """
    scale = tiles.mpp / view_mpp
    height, width = view.shape[:2]
    kept = Image.new("1", (width, height))
    fill = ImageDraw.Draw(kept)
    boxes = [
        (x * scale, y * scale, (x + tiles.tile_level0_px) * scale - 1, (y + tiles.tile_level0_px) * scale - 1)
        for x, y in tiles.coords.tolist()
    ]
    for box in boxes:
        fill.rectangle(box, fill=1)
    colour = Image.fromarray(view)
    faded = Image.blend(colour.convert("L").convert("RGB"), Image.new("RGB", colour.size, "white"), 0.55)
    picture = Image.composite(colour, faded, kept)
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        draw.rectangle(box, outline=_TILE_EDGE)
    for area, line in ((mask, _OUTLINE), (ink, _INK_OUTLINE)):
        edge = Image.fromarray(_edge(np.asarray(Image.fromarray(area).resize(colour.size))))
        picture.paste(line, mask=edge)
    return _captioned(picture, view_mpp, tiles, mask, bool(ink.any()))


def _edge(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(area & ~ndimage.binary_erosion(area, iterations=2, border_value=1))


def _captioned(
    picture: Image.Image, view_mpp: float, tiles: Tiles, mask: NDArray[np.bool_], has_ink: bool
) -> Image.Image:
    width = max(picture.width, 640)
    sheet = Image.new("RGB", (width, picture.height + _CAPTION_PX), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    bar_um = _round_length(0.2 * picture.width * view_mpp)
    bar_px = bar_um / view_mpp
    top = picture.height
    draw.rectangle((10, top + 12, 10 + bar_px, top + 17), fill="black")
    label = f"{bar_um:g} µm" if bar_um < 1000 else f"{bar_um / 1000:g} mm"
    draw.text((10, top + 24), label, fill="black", font=font)
    left = max(10 + bar_px, 80) + 24
    area_mm2 = mask.mean() * tiles.level0_width * tiles.level0_height * tiles.mpp**2 / 1e6
    lines = (
        f"{tiles.slide_id}: {len(tiles.coords)} tiles of {tiles.tile_px} px at {tiles.tile_mpp:g} µm/px, "
        f"scanned at {tiles.mpp:.4g} µm/px",
        f"tissue {area_mm2:.3g} mm² (black line), {mask.mean():.0%} of the slide"
        + ("; pen marks left out (orange line)" if has_ink else ""),
    )
    for number, line in enumerate(lines):
        draw.text((left, top + 8 + 20 * number), line, fill="black", font=font)
    return sheet


def _round_length(um: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(um))
    return float(max(step * power for step in (1, 2, 5) if step * power <= um * (1 + 1e-9)))


def write_preview(path: Path, picture: Image.Image) -> None:
    """Write a JPEG, whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with replacing(path) as partial:
        picture.save(partial, format="JPEG", quality=85)
