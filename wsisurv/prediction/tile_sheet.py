"""The sheet of a case's extreme tiles, numbered as on its map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsisurv.prediction.heatmap_picture import DIVERGING, colours_of, wrap
from wsisurv.slides.lettering import draw_scale_bar, lettering

_COLUMNS = 4
_NARROWEST = 190
_GAP = 14
_FRAME = 6


@dataclass(frozen=True)
class Cut:
    """A tile to be shown."""

    pixels: NDArray[np.uint8]  # uint8 (side, side, 3), at ``mpp``
    mpp: float  # µm per pixel
    value: float  # its contribution, for the colour of its frame
    lines: tuple[str, ...] = ()  # below it


def heading(values: Sequence[float], *, highest: bool, usual: str, none: str) -> str:
    """What an end of the sheet is called, by the signs that its tiles have.

    Args:
        values: of the tiles.
        highest: which end.
        usual: where all are above 0 at the highest end, below 0 at the lowest; how many are not is added.
        none: where none is.
    """
    odd = sum(not (value > 0 if highest else value < 0) for value in values)
    if not odd:
        return usual
    if odd == len(values):
        return none
    return f"{usual} ({odd} of {len(values)} {'not above' if highest else 'not below'} 0)"


def draw_sheet(
    title: str, lines: Sequence[str], groups: Sequence[tuple[str, Sequence[Cut]]], limit: float
) -> Image.Image:
    """The extreme tiles, group after group, each framed in the colour that it has in the map.

    Args:
        title: of the sheet.
        lines: below it.
        groups: a heading and its tiles.
        limit: contribution of the darkest colour.
    """
    cuts = [cut for _, group in groups for cut in group]
    side = max((cut.pixels.shape[0] for cut in cuts), default=1)
    cell = max(side, _NARROWEST) + 2 * _FRAME + _GAP
    columns = max(1, min(_COLUMNS, max((len(group) for _, group in groups), default=1)))
    width = max(columns * cell + _GAP, 760)
    letters = lettering(max(15, cell // 25))
    row_px = round(1.35 * max(15, cell // 25))
    written = {
        id(cut): [line for words in cut.lines for line in wrap(words, letters.font, cell - _GAP)] for cut in cuts
    }
    label_px = row_px * max(map(len, written.values()), default=0) + _GAP
    large = lettering(max(18, cell // 20))
    top_lines = [line for words in lines for line in wrap(words, letters.font, width - 2 * _GAP)]
    head = 2 * _GAP + 2 * row_px + row_px * len(top_lines)
    rows = [math.ceil(len(group) / columns) for _, group in groups]
    height = head + sum(2 * row_px + row * (cell + label_px) for row in rows) + 3 * row_px + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, fill="black", font=large.font)
    for number, line in enumerate(top_lines):
        draw.text((_GAP, _GAP + 2 * row_px + number * row_px), line, fill="black", font=letters.font)
    top = head
    for (words, group), n_rows in zip(groups, rows, strict=True):
        draw.text((_GAP, top), words, fill="black", font=large.font)
        top += 2 * row_px
        for number, cut in enumerate(group):
            x, y = _GAP + number % columns * cell, top + number // columns * (cell + label_px)
            _draw_cut(sheet, draw, x, y, cut, limit)
            for row, line in enumerate(written[id(cut)]):
                below = y + cut.pixels.shape[0] + 2 * _FRAME + 3 + row * row_px
                draw.text((x, below), line, fill="black", font=letters.font)
        top += n_rows * (cell + label_px)
    if cuts:
        draw_scale_bar(draw, _GAP, top + 4, 0.6 * cuts[0].pixels.shape[0], cuts[0].mpp, letters)
    return sheet


def _draw_cut(sheet: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, cut: Cut, limit: float) -> None:
    shown = cut.pixels.shape[0]
    red, green, blue = colours_of(np.array(cut.value), -limit, limit, DIVERGING).round().astype(int).tolist()
    draw.rectangle((x, y, x + shown + 2 * _FRAME - 1, y + shown + 2 * _FRAME - 1), fill=(red, green, blue))
    sheet.paste(Image.fromarray(cut.pixels), (x + _FRAME, y + _FRAME))
