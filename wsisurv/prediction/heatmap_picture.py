"""Pictures of what each tile did: maps over the slide with scale bar, legend and the numbers of the extreme tiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsisurv.slides.lettering import draw_scale_bar, lettering

MAX_PX = 900
"""Longest side of one map."""
Colours = tuple[tuple[int, int, int], ...]

# Blue and red through white, distinct for every kind of colour vision (ColorBrewer's RdBu)
DIVERGING: Colours = ((5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31))
SEQUENTIAL: Colours = ((247, 247, 247), (116, 196, 118), (0, 68, 27))
BANNER = (176, 0, 32)
_FADE = 0.6
_FONT_PX = 15
"""The smallest."""
_ACROSS = 75
"""Heights of a letter in the width of a picture: 15 pixels where a page shows it 1,100 pixels wide."""
_IN_A_CELL = 22
"""The same of the width of one map, which a line of its legend must fit into."""
_GAP = 14
_CAPTION_ROWS = 5.6
_NARROWEST = 420
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Layer:
    """One figure a tile, as colours."""

    title: str  # what it is
    values: NDArray[np.float64]  # float64 (n_tiles,), painted from the first colour at ``low`` to the last at ``high``
    low: float  # and all below it
    high: float  # and all above it
    colours: Colours  # evenly spaced
    ends: tuple[str, str]  # what the legend says at both ends
    note: str = ""  # below them


@dataclass(frozen=True)
class Ground:
    """What the maps are painted over."""

    # uint8 (height, width, 3), the scanned part of the slide; white where its file is not there
    pixels: NDArray[np.uint8]
    mpp: float  # µm per pixel of it
    boxes: NDArray[np.float64]  # float64 (n_tiles, 4), left, top, right and bottom of each tile in it


def colours_of(values: NDArray[np.float64], low: float, high: float, colours: Colours) -> NDArray[np.float64]:
    """Red, green and blue, 0 to 255, of each value: float64 (…, 3)."""
    place = (values - low) / (high - low) if high > low else np.full(np.shape(values), 0.5)
    stops = np.linspace(0, 1, len(colours))
    channels = np.array(colours, dtype=np.float64).T
    return np.stack([np.interp(place, stops, channel) for channel in channels], axis=-1)


def paint(ground: Ground, layer: Layer) -> Image.Image:
    """The slide in grey, its tiles in colour; where tiles overlap, the mean of their values."""
    height, width = ground.pixels.shape[:2]
    total, count = np.zeros((height, width)), np.zeros((height, width), np.int32)
    tile = np.zeros((height, width), np.int32)
    boxes = np.rint(ground.boxes).astype(int)
    for number, ((left, top, right, bottom), value) in enumerate(zip(boxes, layer.values, strict=True)):
        area = np.s_[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)]
        total[area] += value
        count[area] += 1
        tile[area] = number
    there = count > 0
    greys = np.arange(256)
    grey = np.asarray(Image.fromarray(ground.pixels).convert("L"))
    picture = (255 - (255 - greys) * (1 - _FADE)).round().astype(np.uint8)[grey][..., None].repeat(3, axis=-1)
    tint = colours_of(layer.values, layer.low, layer.high, layer.colours)[tile[there]]
    several = count[there] > 1
    means = total[there][several] / count[there][several]
    tint[several] = colours_of(means, layer.low, layer.high, layer.colours)
    tint *= (0.3 + 0.7 * greys / 255)[grey[there], None]  # the tissue shows through
    picture[there] = tint.round().astype(np.uint8)
    return Image.fromarray(picture)


def draw_maps(
    ground: Ground, title: str, lines: Sequence[str], layers: Sequence[Layer], marks: Sequence[tuple[int, int]] = ()
) -> Image.Image:
    """The slide and its maps side by side, each with its legend, the slide with a scale bar.

    Args:
        ground: the slide and where its tiles are.
        title: of the picture.
        lines: below the title.
        layers: a map each.
        marks: number that is written, and row in ``ground.boxes``, of the tiles that are marked in the first map.
    """
    height, width = ground.pixels.shape[:2]
    cell_width = max(width, _NARROWEST)
    columns = _columns(len(layers) + 1, cell_width, height + round(_CAPTION_ROWS * _FONT_PX))
    rows = math.ceil((len(layers) + 1) / columns)
    across = columns * (cell_width + _GAP) + _GAP
    font_px = round(min(max(_FONT_PX, across / _ACROSS), cell_width / _IN_A_CELL))
    letters, large = lettering(font_px), lettering(round(1.2 * font_px))
    row_px = round(1.4 * font_px)
    words = [line for one in lines for line in wrap(one, letters.font, across - 2 * _GAP)]
    heads = wrap(title, large.font, across - 2 * _GAP)
    head = _GAP + round(1.2 * row_px) * len(heads) + row_px * len(words) + _GAP // 2
    cell_height = height + round(_CAPTION_ROWS * font_px)
    sheet = Image.new("RGB", (across, head + rows * (cell_height + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(heads):
        draw.text((_GAP, 8 + number * round(1.2 * row_px)), line, fill="black", font=large.font)
    for number, line in enumerate(words):
        top = 8 + round(1.2 * row_px) * len(heads) + row_px * number
        draw.text((_GAP, top), line, fill="black", font=letters.font)
    for number in range(len(layers) + 1):
        x = _GAP + number % columns * (cell_width + _GAP)
        y = head + number // columns * (cell_height + _GAP)
        layer = layers[number - 1] if number else None
        picture = paint(ground, layer) if layer else Image.fromarray(ground.pixels)
        if number == 1:
            write_numbers(picture, ground.boxes, marks, round(0.8 * font_px))
        sheet.paste(picture, (x, y))
        draw.rectangle((x - 1, y - 1, x + width, y + height), outline=(190, 190, 190))
        if layer is None:
            draw_scale_bar(draw, x, y + height + 12, 0.3 * width, ground.mpp, letters)
        else:
            _legend(sheet, draw, (x, y + height + 8), cell_width, layer, font_px)
    return sheet


def write_numbers(
    picture: Image.Image, boxes: NDArray[np.float64], marks: Sequence[tuple[int, int]], font_px: int
) -> list[tuple[float, float, float, float]]:
    """Outline tiles in a map and write their numbers on them, or beside those too small for it, none over another.

    Where a crowd leaves no room, a number is over another rather than left out.

    Args:
        picture: the map.
        boxes: (n_tiles, 4), as ``Ground.boxes``.
        marks: number and row of each tile.
        font_px: size of the numbers.

    Returns:
        Left, top, right and bottom of each number.
    """
    draw, font, placed = ImageDraw.Draw(picture), lettering(font_px).font, list[tuple[float, float, float, float]]()
    for _, row in marks:
        draw.rectangle(tuple(boxes[row].tolist()), outline="white", width=3)
        draw.rectangle(tuple(boxes[row].tolist()), outline="black", width=1)
    for number, row in marks:
        left, top, right, bottom = boxes[row].tolist()
        wide, high = draw.textlength(str(number), font=font) / 2 + 2, 0.6 * font_px + 1
        middle = ((left + right) / 2, (top + bottom) / 2)
        fits = right - left > 2 * wide and bottom - top > 2 * high
        places = [middle] if fits else []
        for away in (1.0, 1.8, 2.6, 3.4):
            reach_x, reach_y = (right - left) / 2 + away * wide, (bottom - top) / 2 + away * high
            places += [
                (middle[0] + dx * reach_x, middle[1] + dy * reach_y)
                for dx, dy in ((1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1), (0, 1), (1, 0), (-1, 0))
            ]
        areas = [(x - wide, y - high, x + wide, y + high) for x, y in places]
        inside = [one for one in areas if min(one) >= 0 and one[2] <= picture.width and one[3] <= picture.height]
        placed.append(next((one for one in inside if not any(_meet(one, other) for other in placed)), areas[0]))
        draw.line((*middle, *_centre(placed[-1])), fill="black")  # to a number that is beside its tile
    for (number, _), area in zip(marks, placed, strict=True):
        draw.text(_centre(area), str(number), fill="black", font=font, anchor="mm", stroke_width=2, stroke_fill="white")
    return placed


def _centre(area: tuple[float, float, float, float]) -> tuple[float, float]:
    return (area[0] + area[2]) / 2, (area[1] + area[3]) / 2


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def with_banner(picture: Image.Image, words: str) -> Image.Image:
    """The picture below a red strip that says something nobody may miss; the picture itself without words."""
    if not words:
        return picture
    font_px = max(_FONT_PX + 3, picture.width // _ACROSS)
    font, row_px = lettering(font_px).font, round(1.35 * font_px)
    lines = wrap(words, font, picture.width - 2 * _GAP)
    strip = _GAP + row_px * len(lines)
    sheet = Image.new("RGB", (picture.width, picture.height + strip), BANNER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((_GAP, _GAP // 2 + row_px * number), line, fill="white", font=font)
    sheet.paste(picture, (0, strip))
    return sheet


def wrap(words: str, font: Font, width: float) -> list[str]:
    """Words in lines no wider than this; a word that is wider has a line of its own."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _columns(count: int, width: int, height: int) -> int:
    """How many side by side leave no cell empty and give a sheet closest to three by two."""
    whole = [n for n in range(1, count + 1) if count % n == 0]
    return min(whole, key=lambda n: abs(math.log(n * width / (count // n * height) / 1.5)))


def _legend(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], room_px: int, layer: Layer, font_px: int
) -> None:
    (x, y), font, row_px = at, lettering(font_px).font, round(1.3 * font_px)
    bar = (min(20 * font_px, room_px - 4), round(0.8 * font_px))
    draw.text((x, y), layer.title, fill="black", font=font)
    ramp = colours_of(np.linspace(0, 1, bar[0]), 0, 1, layer.colours).round().astype(np.uint8)
    below = y + row_px + 4
    sheet.paste(Image.fromarray(np.repeat(ramp[None], bar[1], axis=0)), (x, below))
    draw.rectangle((x - 1, below - 1, x + bar[0], below + bar[1]), outline="black")
    low, high = layer.ends
    draw.text((x, below + bar[1] + 4), low, fill="black", font=font)
    draw.text((x + bar[0], below + bar[1] + 4), high, fill="black", font=font, anchor="ra")
    draw.text((x, below + bar[1] + 4 + row_px), layer.note, fill="black", font=font)
