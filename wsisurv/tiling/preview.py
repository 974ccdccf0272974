"""A picture of a slide for a person: tissue outlined, tiles kept in full colour, all else faded."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsisurv.formats.tiles import Tiles
from wsisurv.slides.lettering import draw_scale_bar, lettering
from wsisurv.tiling.tissue import Tissue

MAX_PX = 1600
"""Longest side of a preview."""

_SMALL_PX = 400
"""Longest side of a thumbnail."""
_TILE_EDGE = (0, 114, 178)  # Okabe and Ito's blue: distinct from pink and purple for any eye
_OUTLINE = (0, 0, 0)
_INK_OUTLINE = (230, 159, 0)  # their orange
_ARTEFACT_OUTLINE = (204, 121, 167)  # their reddish purple
_LEFT_OUT = (213, 94, 0)  # their vermilion
_FADED = 0.45  # of the contrast is left where there is no tile
_CAPTION_PX = 96
_LINE_PX = 2
_FONT_PX = 15
_MIN_WIDTH = 760  # of the picture with its caption


def preview_mpp(width: int, height: int, mpp: float) -> float:
    """The finest resolution at which the picture of a slide of this size stays within ``MAX_PX``."""
    return mpp * max(1.0, max(width, height) / MAX_PX)


def draw_preview(
    view: NDArray[np.uint8],
    view_mpp: float,
    tissue: Tissue,
    tissue_mpp: float,
    tiles: Tiles,
    left_out: NDArray[np.int64] | None = None,
) -> Image.Image:
    """Draw the preview.

    Args:
        view: uint8 (height, width, 3), the slide at ``view_mpp``.
        view_mpp: µm per pixel of the view.
        tissue: tissue of the whole slide.
        tissue_mpp: µm per pixel of its masks.
        tiles: the tiles kept.
        left_out: (n, 2), top left of places on tissue that are no tiles since too little of them is, level-0 pixels.
    """
    colour = Image.fromarray(view)
    if (factor := max(colour.size) / MAX_PX) > 1:
        size = (max(1, int(colour.width / factor)), max(1, int(colour.height / factor)))
        box = (0, 0, min(size[0] * factor, colour.width), min(size[1] * factor, colour.height))
        colour, view_mpp = colour.resize(size, Image.Resampling.BOX, box=box), view_mpp * factor
    scale = tiles.mpp / view_mpp
    boxes = _boxes(tiles.coords, tiles.tile_level0_px, scale)
    kept = Image.new("1", colour.size)
    fill = ImageDraw.Draw(kept)
    for tile in boxes:
        fill.rectangle(tile, fill=1)
    picture = Image.new("RGB", (max(colour.width, _MIN_WIDTH), colour.height + _CAPTION_PX), "white")
    picture.paste(colour.convert("L").point(lambda grey: _FADED * grey + (1 - _FADED) * 255).convert("RGB"))
    picture.paste(colour, mask=kept)
    draw = ImageDraw.Draw(picture)
    places = np.zeros((0, 2), np.int64) if left_out is None else left_out
    for place in _boxes(places, tiles.tile_level0_px, scale):
        draw.rectangle(place, outline=_LEFT_OUT)
    for tile in boxes:
        draw.rectangle(tile, outline=_TILE_EDGE)
    others = ((area, _ARTEFACT_OUTLINE) for area in tissue.artefacts.values())
    for area, line in ((tissue.mask, _OUTLINE), *others, (tissue.ink, _INK_OUTLINE)):
        if area.any():
            picture.paste(line, (0, 0), mask=_outline(area, view_mpp / tissue_mpp, colour.size))
    _write_caption(draw, colour.size, view_mpp, tiles, tissue, len(places))
    return picture


def make_thumbnail(preview: Image.Image) -> Image.Image:
    """A preview as small as a contact sheet shows it, without its caption, which nobody could read."""
    small = preview.crop((0, 0, preview.width, max(1, preview.height - _CAPTION_PX)))
    small.thumbnail((_SMALL_PX, _SMALL_PX), Image.Resampling.BOX)
    return small


def captions(tiles: Tiles, tissue: Tissue, left_out: int) -> list[str]:
    """What a preview says that the tiles' file does not: area of the tissue, what was left out and why."""
    words = [text for text, _ in _reasons(tissue, left_out)]
    return [_area(tiles, tissue, "mm²"), *([f"{words[0]} {', '.join(words[1:])}"] if words else [])]


def _area(tiles: Tiles, tissue: Tissue, mm2: str) -> str:
    share = float(tissue.mask.mean())
    area = share * tiles.level0_width * tiles.level0_height * tiles.mpp**2 / 1e6
    return f"tissue {area:.3g} {mm2}, {share:.0%} of the slide"


def _boxes(coords: NDArray[np.int64], side: float, scale: float) -> list[list[float]]:
    """Left, top, right and bottom of each tile in the picture."""
    top_left = coords * scale
    boxes: list[list[float]] = np.concatenate([top_left, top_left + side * scale - 1], axis=1).tolist()
    return boxes


def _outline(area: NDArray[np.bool_], scale: float, size: tuple[int, int]) -> Image.Image:
    """Outline, two pixels wide, of a mask drawn at ``scale`` mask pixels a picture pixel."""
    matrix = (scale, 0, 0, 0, scale, 0)
    drawn = Image.fromarray(area).transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    shown = np.pad(np.asarray(drawn), _LINE_PX, mode="edge")
    inner = shown.copy()
    for axis in (0, 1):  # a pixel is inner where all are tissue that are no further than the line is wide
        row = inner.copy()
        for step in range(1, _LINE_PX + 1):
            inner &= np.roll(row, step, axis) & np.roll(row, -step, axis)
    line = (shown & ~inner)[_LINE_PX:-_LINE_PX, _LINE_PX:-_LINE_PX]
    return Image.fromarray(line)


def _write_caption(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], mpp: float, tiles: Tiles, tissue: Tissue, left_out: int
) -> None:
    letters = lettering(_FONT_PX)
    width, top = size
    bar_px = draw_scale_bar(draw, 10, top + 12, 0.2 * width, mpp, letters)
    lines: list[list[tuple[str, tuple[int, int, int]]]] = [
        [(tiles.slide_id, _OUTLINE)],
        [
            (
                f"{len(tiles.coords)} tiles of {tiles.tile_px} px at {tiles.tile_mpp:g} {letters.um}/px, "
                f"scanned at {tiles.mpp:.4g} {letters.um}/px",
                _TILE_EDGE,
            )
        ],
        [(_area(tiles, tissue, f"mm{letters.square}"), _OUTLINE)],
        _reasons(tissue, left_out),
    ]
    for number, parts in enumerate(lines):
        x = max(10 + bar_px, 80) + 24
        for text, colour in parts:
            draw.text((x, top + 6 + 20 * number), text, fill=colour, font=letters.font)
            x += draw.textlength(text + "   ", font=letters.font)


def _reasons(tissue: Tissue, left_out: int) -> list[tuple[str, tuple[int, int, int]]]:
    """What was left out and why, each in the colour of its lines."""
    reasons = [(f"{left_out} places of too little tissue", _LEFT_OUT)] if left_out else []
    reasons += [("pen marks", _INK_OUTLINE)] if tissue.ink.any() else []
    names = [name for name, area in tissue.artefacts.items() if area.any()]
    reasons += [(", ".join(names), _ARTEFACT_OUTLINE)] if names else []
    return [("left out:", _OUTLINE), *reasons] if reasons else []
