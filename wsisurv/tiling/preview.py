"""A picture of a slide for a person: tissue outlined, tiles kept in full colour, all else faded."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from wsisurv.formats.atomic import replacing
from wsisurv.formats.tiles import Tiles
from wsisurv.tiling.tissue import Tissue

MAX_PX = 1600
"""Longest side of a preview."""

_TILE_EDGE = (0, 114, 178)  # Okabe and Ito's blue: told from pink and purple by any eye
_OUTLINE = (0, 0, 0)
_INK_OUTLINE = (230, 159, 0)  # their orange
_CAPTION_PX = 76


def preview_mpp(width: int, height: int, mpp: float) -> float:
    """The finest resolution at which the picture of a slide of this size stays within ``MAX_PX``."""
    return mpp * max(1.0, max(width, height) / MAX_PX)


def draw_preview(
    view: NDArray[np.uint8], view_mpp: float, tissue: Tissue, tissue_mpp: float, tiles: Tiles
) -> Image.Image:
    """Draw the preview.

    Args:
        view: uint8 (height, width, 3), the slide at ``view_mpp``.
        view_mpp: µm per pixel of the view.
        tissue: tissue of the whole slide.
        tissue_mpp: µm per pixel of its masks.
        tiles: the tiles kept.
    """
    colour = Image.fromarray(view)
    if (factor := max(colour.size) / MAX_PX) > 1:
        size = (max(1, int(colour.width / factor)), max(1, int(colour.height / factor)))
        box = (0, 0, min(size[0] * factor, colour.width), min(size[1] * factor, colour.height))
        colour, view_mpp = colour.resize(size, Image.Resampling.BOX, box=box), view_mpp * factor
    scale = tiles.mpp / view_mpp
    kept = Image.new("1", colour.size)
    fill = ImageDraw.Draw(kept)
    boxes = [
        (x * scale, y * scale, (x + tiles.tile_level0_px) * scale - 1, (y + tiles.tile_level0_px) * scale - 1)
        for x, y in tiles.coords.tolist()
    ]
    for box in boxes:
        fill.rectangle(box, fill=1)
    faded = Image.blend(colour.convert("L").convert("RGB"), Image.new("RGB", colour.size, "white"), 0.55)
    picture = Image.composite(colour, faded, kept)
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        draw.rectangle(box, outline=_TILE_EDGE)
    for area, line in ((tissue.mask, _OUTLINE), (tissue.ink, _INK_OUTLINE)):
        if area.any():
            picture.paste(line, mask=_outline(area, view_mpp / tissue_mpp, colour.size))
    return _captioned(picture, view_mpp, tiles, tissue)


def _outline(area: NDArray[np.bool_], scale: float, size: tuple[int, int]) -> Image.Image:
    """Outline, two pixels wide, of a mask drawn at ``scale`` mask pixels a picture pixel."""
    matrix = (scale, 0, 0, 0, scale, 0)
    drawn = Image.fromarray(area).transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    large = drawn.convert("L")
    inner = large.filter(ImageFilter.MinFilter(5))
    return ImageChops.subtract(large, inner)


def _captioned(picture: Image.Image, view_mpp: float, tiles: Tiles, tissue: Tissue) -> Image.Image:
    width = max(picture.width, 640)
    sheet = Image.new("RGB", (width, picture.height + _CAPTION_PX), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    bar_um = _round_length(0.2 * picture.width * view_mpp)
    bar_px = bar_um / view_mpp
    top = picture.height
    draw.rectangle((10, top + 12, 10 + bar_px, top + 17), fill="black")
    draw.text((10, top + 24), f"{bar_um:g} um" if bar_um < 1000 else f"{bar_um / 1000:g} mm", fill="black", font=font)
    share = float(tissue.mask.mean())
    area_mm2 = share * tiles.level0_width * tiles.level0_height * tiles.mpp**2 / 1e6
    lines = (  # Pillow's own font has neither the Greek letter nor the superscript
        tiles.slide_id,
        f"{len(tiles.coords)} tiles of {tiles.tile_px} px at {tiles.tile_mpp:g} um/px, "
        f"scanned at {tiles.mpp:.4g} um/px",
        f"tissue {area_mm2:.3g} sq mm, {share:.0%} of the slide (black line)"
        + ("; pen marks left out (orange line)" if tissue.ink.any() else ""),
    )
    for number, line in enumerate(lines):
        draw.text((max(10 + bar_px, 80) + 24, top + 6 + 20 * number), line, fill="black", font=font)
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
