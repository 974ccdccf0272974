"""Pictures of what each tile did: maps over the slide with scale bar and legend, and a sheet of the extreme tiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsisurv.slides.lettering import Lettering, draw_scale_bar, lettering

MAX_PX = 900
"""Longest side of one map."""
Colours = tuple[tuple[int, int, int], ...]

# Blue and red through white, distinct for every kind of colour vision (ColorBrewer's RdBu)
DIVERGING: Colours = ((5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31))
SEQUENTIAL: Colours = ((247, 247, 247), (116, 196, 118), (0, 68, 27))
BANNER = (176, 0, 32)
_FADE = 0.6
_FONT_PX = 15
_GAP = 14
_CAPTION_PX = 84
_BAR = (300, 12)
_NARROWEST = 420


@dataclass(frozen=True)
class Layer:
    """One figure a tile, as colours."""

    title: str  # what it is
    values: NDArray[np.float64]  # float64 (n_tiles,), painted from the first colour at ``low`` to the last at ``high``
    low: float  # and all below it
    high: float  # and all above it
    colours: Colours  # evenly spaced
    ends: tuple[str, str]  # what the legend says at both ends


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


def draw_maps(ground: Ground, title: str, lines: Sequence[str], layers: Sequence[Layer]) -> Image.Image:
    """The slide and its maps side by side, each with its legend, the slide with a scale bar.

    Args:
        ground: the slide and where its tiles are.
        title: of the picture.
        lines: below the title.
        layers: a map each.
    """
    letters = lettering(_FONT_PX)
    height, width = ground.pixels.shape[:2]
    cell_width, cell_height = max(width, _NARROWEST), height + _CAPTION_PX
    columns = _columns(len(layers) + 1, cell_width, cell_height)
    rows = math.ceil((len(layers) + 1) / columns)
    head = 34 + 21 * len(lines)
    size = (columns * (cell_width + _GAP) + _GAP, head + rows * (cell_height + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 8), title, fill="black", font=lettering(_FONT_PX + 3).font)
    for number, line in enumerate(lines):
        draw.text((_GAP, 34 + 21 * number), line, fill="black", font=letters.font)
    for number in range(len(layers) + 1):
        x = _GAP + number % columns * (cell_width + _GAP)
        y = head + number // columns * (cell_height + _GAP)
        layer = layers[number - 1] if number else None
        sheet.paste(paint(ground, layer) if layer else Image.fromarray(ground.pixels), (x, y))
        draw.rectangle((x - 1, y - 1, x + width, y + height), outline=(190, 190, 190))
        if layer is None:
            draw_scale_bar(draw, x, y + height + 12, 0.3 * width, ground.mpp, letters)
        else:
            _legend(sheet, draw, x, y + height + 8, layer, letters)
    return sheet


def with_banner(picture: Image.Image, words: str) -> Image.Image:
    """The picture below a red strip that says something nobody may miss; the picture itself without words."""
    if not words:
        return picture
    font = lettering(_FONT_PX + 3).font
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= picture.width - 2 * _GAP:
            lines[-1] = longer
        else:
            lines.append(word)
    strip = _GAP + 24 * len(lines)
    sheet = Image.new("RGB", (picture.width, picture.height + strip), BANNER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((_GAP, _GAP // 2 + 24 * number), line, fill="white", font=font)
    sheet.paste(picture, (0, strip))
    return sheet


def _columns(count: int, width: int, height: int) -> int:
    """How many side by side leave no cell empty and give a sheet closest to three by two."""
    whole = [n for n in range(1, count + 1) if count % n == 0]
    return min(whole, key=lambda n: abs(math.log(n * width / (count // n * height) / 1.5)))


def _legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, layer: Layer, letters: Lettering) -> None:
    draw.text((x, y), layer.title, fill="black", font=letters.font)
    ramp = colours_of(np.linspace(0, 1, _BAR[0]), 0, 1, layer.colours).round().astype(np.uint8)
    sheet.paste(Image.fromarray(np.repeat(ramp[None], _BAR[1], axis=0)), (x, y + 24))
    draw.rectangle((x - 1, y + 23, x + _BAR[0], y + 24 + _BAR[1]), outline="black")
    low, high = layer.ends
    draw.text((x, y + 40), low, fill="black", font=letters.font)
    draw.text((x + _BAR[0], y + 40), high, fill="black", font=letters.font, anchor="ra")


@dataclass(frozen=True)
class Cut:
    """A tile to be shown."""

    pixels: NDArray[np.uint8]  # uint8 (side, side, 3), at ``mpp``
    mpp: float  # µm per pixel
    label: str  # below it
    value: float  # its contribution, for the colour of its frame


def draw_sheet(title: str, groups: Sequence[tuple[str, Sequence[Cut]]], limit: float) -> Image.Image:
    """The extreme tiles, group after group, each framed in the colour that it has in the map.

    Args:
        title: of the sheet.
        groups: a heading and its tiles.
        limit: contribution of the darkest colour.
    """
    letters = lettering(_FONT_PX)
    cuts = [cut for _, group in groups for cut in group]
    side = max((cut.pixels.shape[0] for cut in cuts), default=1)
    cell, frame, label_px = max(side, 150) + 2 * 6 + _GAP, 6, 26
    columns = max(1, min(6, max((len(group) for _, group in groups), default=1)))
    rows = [math.ceil(len(group) / columns) for _, group in groups]
    height = 44 + sum(30 + row * (cell + label_px) for row in rows) + 56
    sheet = Image.new("RGB", (max(columns * cell + _GAP, 760), height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 10), title, fill="black", font=lettering(_FONT_PX + 3).font)
    top = 44
    for (heading, group), n_rows in zip(groups, rows, strict=True):
        draw.text((_GAP, top), heading, fill="black", font=letters.font)
        top += 30
        for number, cut in enumerate(group):
            x, y = _GAP + number % columns * cell, top + number // columns * (cell + label_px)
            shown = cut.pixels.shape[0]
            red, green, blue = colours_of(np.array(cut.value), -limit, limit, DIVERGING).round().astype(int).tolist()
            draw.rectangle((x, y, x + shown + 2 * frame - 1, y + shown + 2 * frame - 1), fill=(red, green, blue))
            sheet.paste(Image.fromarray(cut.pixels), (x + frame, y + frame))
            draw.text((x, y + shown + 2 * frame + 3), cut.label, fill="black", font=letters.font)
        top += n_rows * (cell + label_px)
    if cuts:
        draw_scale_bar(draw, _GAP, top + 4, 0.6 * cuts[0].pixels.shape[0], cuts[0].mpp, letters)
    return sheet
