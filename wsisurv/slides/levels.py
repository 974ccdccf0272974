"""Which levels of a slide are used, and how much smaller than level 0 each of them is.

A reader divides sizes, which is right only for a level that is a reduction of level 0 and nothing else. Some writers
fill coarser levels up to whole tiles, cut them down to whole tiles, or keep an overview of the glass as a page like
the others: then a place that is found by division shows something else than what lies there on level 0.
"""

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsisurv.slides.readers.handle import Handle

_STATED = 0.01  # of a side that may be missing where the reader itself knows the factor: mosaics are not rectangles
_ROUNDING_PX = 1 + 1e-6  # by which writers that round up, down or to the next may miss, level by level
_SQUARE_PX = 48  # side of what is compared, pixels of the level; smaller where the level is
_SMALLEST_PX = 12
_REGION_PX = 2048  # longest side of what is read to compare with
_LEAST = 1.01  # of a factor
_CONTRAST = 6.0  # grey levels of standard deviation: JPEG noise on bare glass has about 2
_GLANCE, _SEARCH = (24, 4), (96, 16)  # how many places are looked at, and how many of them with contrast are enough
_FEWEST = 3  # places to compare, for a verdict
_OTHER = 0.3  # correlation below which a level shows something else than level 0
_SAME, _SURE = 0.75, 0.9  # above which a factor is the best of all, and above which no other need be tried
_ALIKE = 0.02  # of correlation: a factor that is likelier by the sizes goes before a better one


_Spot = tuple[int, int, int, NDArray[np.float32]]
"""Left, top and side of a square of a level, its pixels, and its grey values at half the scale."""


@dataclass(frozen=True)
class Level:
    """A level that is used."""

    number: int  # which it is for the reader
    # of what it shows of level 0, its pixels; what it was filled up with, in a last pixel too, is not counted
    width: int
    height: int  # the same
    downsample: float  # how many level-0 pixels a pixel spans
    placing: float  # what the reader takes for ``downsample`` when it looks for a place
    filled: bool = False  # whether there is filling beside what it shows


@dataclass(frozen=True)
class Levels:
    """Levels that are used, and what should be known of the others."""

    used: tuple[Level, ...]
    notes: tuple[str, ...] = ()


def find_levels(
    handle: Handle,
    spacings: Callable[[], Iterable[float]] = tuple,
    *,
    compare: bool = True,
    without: Container[int] = (),
) -> Levels:
    """Find which levels are reductions of level 0, and their true factors.

    A level whose two sides are those of level 0 divided by one whole number is what it seems to be, unless a few of
    its places show something else than level 0 does. Of any other level the factor is looked for among those that the
    sizes, the file's own spacing and whole numbers allow, by comparing many places; where none is found, or a part of
    level 0 is missing in it, it is left out.

    Args:
        handle: the open slide.
        spacings: tells how much coarser than level 0 the file says that its levels are; asked where sizes don't tell.
        compare: whether pixels may be read.
        without: levels that are not looked at.

    Raises:
        SlideError: the file is damaged; the handle is of no use any more.
    """
    used, notes = [Level(0, *handle.dimensions, 1.0, handle.level_downsamples[0])], list[str]()
    hints: list[tuple[float, float]] = []
    numbers = [number for number in range(len(handle.level_dimensions)) if number not in without]
    if numbers:
        _Candidate(handle, numbers[-1], used, hints, compare).look()  # few tiles to decode there
    for number in numbers:
        if number == 0:
            continue
        level = _Candidate(handle, number, used, hints, compare)
        found = level.settle(spacings)
        if isinstance(found, str):
            notes.append(found)
            continue
        used.append(found)
        if found.filled:
            spans = f"one of its pixels spans {found.downsample:g} of level 0, not {found.placing:.4g}"
            notes.append(f"{level} is filled up beyond what it shows: {spans}")
    return Levels(tuple(used), tuple(notes))


class _Candidate:
    """A level that is to be judged by those found so far."""

    def __init__(
        self, handle: Handle, number: int, finer: Sequence[Level], hints: list[tuple[float, float]], compare: bool
    ) -> None:
        self._handle, self._number, self._finer = handle, number, finer
        self._hints, self._compare = hints, compare
        self._size = handle.level_dimensions[number]
        self._ratios = [whole / part for whole, part in zip(handle.dimensions, self._size, strict=True)]
        self._given = handle.level_downsamples[number]

    def __str__(self) -> str:
        return f"level {self._number} ({self._size[0]} × {self._size[1]} pixels)"

    def look(self) -> None:
        """Find where there is contrast, as a hint for other levels."""
        self._spots(*_GLANCE)

    def settle(self, spacings: Callable[[], Iterable[float]]) -> Level | str:
        """Give the level, or say in words why it is left out."""
        likely = self._by_sizes()
        if likely is not None and not self._in_whole_tiles():
            spots = self._spots(*_GLANCE)
            if not spots:
                return self._blank(likely)
            seen = self._likeness([likely], spots)
            if min(seen.values(), default=1.0) >= _OTHER:
                return self._level(likely)
            return f"{self} is left out: it shows something else than level 0"
        first = [*([likely] if likely else []), *self._from_spacings(spacings())]
        first += [factor for factor in self._whole() if self._is_filled_up(factor)]
        first += [*map(float, {*map(round, self._ratios), *map(math.ceil, self._ratios)}), self._given]
        first = [factor for factor in first if factor > _LEAST]
        spots = self._spots(*_SEARCH)
        seen = self._likeness(dict.fromkeys(first), spots)
        if max(seen.values(), default=0.0) < _SURE:
            seen |= self._likeness(dict.fromkeys((*first, *self._whole())), spots)
        if not seen:
            return self._blank(likely, empty=not spots)
        best = max(seen.values())
        if best < _SAME:
            return f"{self} is left out: by no factor is it a reduction of level 0"
        return self._level(next(factor for factor, value in seen.items() if value >= best - _ALIKE))

    def _by_sizes(self) -> float | None:
        """The factor that both sides are divided by: whole, or one that the reader knows otherwise than by division."""
        whole = next((f for f in map(round, (self._given, *self._ratios)) if self._explains(f)), None)
        if whole is not None:
            return self._given if self._explains(self._given) else float(whole)
        return self._given if self._is_stated() else None

    def _is_stated(self) -> bool:
        """Whether the reader knows the factor otherwise than by division."""
        return not np.isclose(self._given, (*self._ratios, sum(self._ratios) / 2), rtol=1e-6, atol=0).any()

    def _explains(self, factor: float) -> bool:
        sides = zip(self._handle.dimensions, self._size, strict=True)
        return all(abs(whole / factor - part) <= _ROUNDING_PX for whole, part in sides)

    def _tile(self) -> tuple[int, int]:
        named = (f"openslide.level[{self._number}].tile-{side}" for side in ("width", "height"))
        across, down = (self._handle.properties.get(name, "0") for name in named)
        return (int(across), int(down)) if across.isdecimal() and down.isdecimal() else (0, 0)

    def _in_whole_tiles(self) -> bool:
        """Whether sizes may agree by chance: 9 tiles are filled up to 3 at a factor of 4, too."""
        return all(tile and part % tile == 0 for part, tile in zip(self._size, self._tile(), strict=True))

    def _from_spacings(self, spacings: Iterable[float]) -> Iterator[float]:
        """Stated factors that a filled or cut level may have."""
        for factor in spacings:
            whole = round(factor)
            yield float(whole) if abs(factor - whole) < whole * 1e-3 else factor

    def _whole(self) -> Iterator[float]:
        """Whole numbers: of a level filled up, the factor is above the ratio of sizes; of one cut down, below."""
        low, high = min(self._ratios), max(self._ratios)
        near = [float(factor) for factor in range(max(2, int(low / 2)), int(4 * high) + 2)]
        last = self._finer[-1].downsample
        steps = [last * step for step in (2, 4, 3, 8, 16)]
        yield from (factor for factor in steps if factor >= low / 2)
        yield from near if len(near) <= 160 else (f for f in near if f % 2 ** (int(high).bit_length() - 6) == 0)

    def _blank(self, likely: float | None, *, empty: bool = True) -> Level | str:
        """What sizes alone tell of a level that can't be compared; an ``empty`` one has no contrast anywhere."""
        if likely is not None:
            if empty and self._is_empty(likely):
                return f"{self} is left out: it shows nothing where level 0 shows something"
            return self._level(likely)
        fitting = list({factor for factor in self._whole() if self._is_filled_up(factor)})
        if len(fitting) == 1:
            return self._level(fitting[0])
        return f"{self} is left out: its sizes are not those of level 0 divided, and it is too plain to be compared"

    def _is_filled_up(self, factor: float) -> bool:
        sides = zip(self._handle.dimensions, self._size, self._tile(), strict=True)
        return all(tile and -(-whole // (factor * tile)) * tile == part for whole, part, tile in sides)

    def _level(self, factor: float) -> Level | str:
        shown = [whole / factor for whole in self._handle.dimensions]
        beyond = [part - whole for whole, part in zip(shown, self._size, strict=True)]
        missing = [-more / whole for more, whole in zip(beyond, shown, strict=True) if more < -_ROUNDING_PX]
        if missing and (not self._is_stated() or max(missing) > _STATED):
            return f"{self} is left out: reduced by {factor:g}, it shows only a part of level 0"
        if max(beyond) <= _ROUNDING_PX:
            return Level(self._number, *self._size, factor, self._given)
        width, height = (max(1, min(int(whole + 1e-6), part)) for whole, part in zip(shown, self._size, strict=True))
        return Level(self._number, width, height, factor, self._given, filled=True)

    def _is_empty(self, factor: float) -> bool:
        """Whether this level has no contrast at places where a finer one, reduced to it, has."""
        finer = max((one for one in self._finer if one.downsample < factor), key=lambda one: one.downsample)
        px, ratio = min(_SQUARE_PX, min(self._size) // 4), factor / finer.downsample
        side = math.floor(px * ratio)
        if px < _SMALLEST_PX or side > _REGION_PX or not self._compare:
            return False
        seen = 0
        for share in (*self._hints, *shares(_SEARCH[0])):
            x, y = (int(part * (whole - px)) for part, whole in zip(share, self._size, strict=True))
            image = _grey(self._handle, finer.number, int(x * ratio), int(y * ratio), side, side)
            if _reduced(image, (px // 2, px // 2)).std() < 1.5 * _CONTRAST:
                continue
            if _reduced(_grey(self._handle, self._number, x, y, px, px), (px // 2, px // 2)).std() >= _CONTRAST / 2:
                return False
            seen += 1
            if seen == _FEWEST:
                return True
        return False

    def _likeness(self, factors: Iterable[float], spots: Sequence[_Spot]) -> dict[float, float]:
        """How alike level and a finer one are by each factor: mean correlation; without what can't be compared."""
        seen = {factor: self._correlation(spots, factor) for factor in factors}
        return {factor: value for factor, value in seen.items() if value is not None}

    def _spots(self, places: int, enough: int) -> list[_Spot]:
        """Places of the level with contrast, spread evenly, and for a search nearer to the origin as well."""
        px = min(_SQUARE_PX, min(self._size) // 4)
        if px < _SMALLEST_PX or not self._compare:
            return []
        found: list[_Spot] = []
        for share in dict.fromkeys((*self._hints, *shares(places, search=places > _GLANCE[0]))):
            x, y = (int(part * (side - px)) for part, side in zip(share, self._size, strict=True))
            values = _reduced(_grey(self._handle, self._number, x, y, px, px), (px // 2, px // 2))
            if values.std() >= _CONTRAST:
                found.append((x, y, px, values))
                if share not in self._hints:
                    self._hints.append(share)
            if len(found) == enough:
                break
        return found

    def _correlation(self, spots: Sequence[_Spot], factor: float) -> float | None:
        finer = max((one for one in self._finer if one.downsample < factor), key=lambda one: one.downsample)
        ratio = factor / finer.downsample
        seen = []
        for x, y, px, values in spots:
            left, top = x * ratio, y * ratio
            # What lies beside the slide, by this factor, is filling
            across, down = (
                min(px // 2, int((side - start) / ratio / 2))
                for side, start in ((finer.width, left), (finer.height, top))
            )
            if px * ratio > _REGION_PX or min(across, down) < px // 4:
                continue
            x0, y0 = int(left), int(top)
            box = (left - x0, top - y0, left - x0 + 2 * across * ratio, top - y0 + 2 * down * ratio)
            image = _grey(self._handle, finer.number, x0, y0, math.ceil(box[2]), math.ceil(box[3]))
            here, there = values[:down, :across], _reduced(image, (across, down), box)
            spread = float(here.std() * there.std())
            product = float(((here - here.mean()) * (there - there.mean())).mean())
            seen.append(product / spread if spread > 0 else 0.0)
        return float(np.mean(seen)) if len(seen) >= _FEWEST else None


def shares(count: int, *, search: bool = False) -> Iterator[tuple[float, float]]:
    """Places as shares of width and height, in a sequence that leaves no gaps; for a search, some near the origin."""
    for index in range(count):
        part = 0.5 ** (index % 4) if search and index % 2 else 1.0
        yield index * 0.7548776662 % 1 * part, index * 0.5698402910 % 1 * part


def _reduced(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> NDArray[np.float32]:
    return np.asarray(image.resize(size, Image.Resampling.BOX, box=box))


def _grey(handle: Handle, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
    """A region as grey values, white where nothing was scanned."""
    found = np.empty(width * height, np.uint32)
    handle.read_into(found, level, x, y, width, height)
    blue, green, red, alpha = np.moveaxis(found.view(np.uint8).reshape(height, width, 4).astype(np.float32), 2, 0)
    return Image.fromarray((blue + green + red) / 3 + 255 - alpha)
