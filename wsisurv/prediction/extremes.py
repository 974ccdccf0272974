"""The extreme tiles of a case: which are shown, their numbers on map and sheet, and what drove each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from wsisurv.formats.heatmaps import Extreme, ShownTile
from wsisurv.models.ensemble import Ensemble
from wsisurv.prediction.contributions import CaseTiles, extreme_tiles, feature_shifts, spread_out
from wsisurv.prediction.slide_views import LocatedSlide
from wsisurv.prediction.tile_drivers import log_hazard_alone, tile_drivers
from wsisurv.prediction.tile_sheet import Cut, draw_sheet, heading

_SHOWN_SHARE = 0.25
"""No more of the tiles are on one half of the contact sheet."""


@dataclass(frozen=True)
class ShownEnds:
    """Numbers of a case's tiles that are shown, most extreme first."""

    highest: tuple[int, ...]
    lowest: tuple[int, ...]

    @cached_property
    def marks(self) -> dict[int, int]:
        """Tile → the number that it has on map and sheet, from 1; a tile of both ends has one."""
        return {tile: n for n, tile in enumerate(dict.fromkeys([*self.highest, *self.lowest]), start=1)}


def choose_ends(tiles: CaseTiles, places: Sequence[LocatedSlide], count: int) -> ShownEnds:
    """The tiles of highest and of lowest contribution that are shown, ``count`` each at most, none over another."""
    sides = np.array([places[number].side for number in tiles.slide.tolist()])
    order = (extreme_tiles(tiles.contribution, highest=highest, share=_SHOWN_SHARE) for highest in (True, False))
    return ShownEnds(*(tuple(spread_out(one, tiles.slide, tiles.coords, sides, count)) for one in order))


def describe_end(
    ensemble: Ensemble,
    tiles: CaseTiles,
    ends: ShownEnds,
    slide_ids: Sequence[str],
    *,
    highest: bool,
    names: Sequence[str],
    meanings: Mapping[str, tuple[str, str]],
) -> Extreme | None:
    """One end of a case in numbers; None without a tile.

    Args:
        ensemble: the members that did not see the case.
        tiles: of the case.
        ends: those that are shown.
        slide_ids: of the case.
        highest: which end.
        names: of the features; none where they have none.
        meanings: unit and definition of features, by name.
    """
    if not len(tiles.values):
        return None
    rows = extreme_tiles(tiles.contribution, highest=highest)
    return Extreme(
        n_tiles=len(rows),
        contribution=float(tiles.contribution[rows].sum()),
        shown=tuple(
            ShownTile(
                slide_id=slide_ids[int(tiles.slide[tile])],
                x=int(tiles.coords[tile, 0]),
                y=int(tiles.coords[tile, 1]),
                contribution=float(tiles.contribution[tile]),
                attention=float(tiles.attention[tile]),
                number=ends.marks[tile],
                alone=log_hazard_alone(ensemble, tiles.values[tile]),
                drivers=tile_drivers(ensemble, tiles.values, tile, names, raises=bool(tiles.contribution[tile] > 0)),
            )
            for tile in (ends.highest if highest else ends.lowest)
        ),
        features=feature_shifts(ensemble, tiles.values, rows, names, meanings),
    )


def draw_ends(
    title: str,
    line: str,
    tiles: CaseTiles,
    ends: ShownEnds,
    cuts: Mapping[int, Cut],
    limit: float,
    words: Mapping[bool, tuple[str, str]],
    why: Mapping[int, Sequence[str]] | None = None,
) -> Image.Image:
    """The contact sheet.

    Args:
        title: of the sheet.
        line: below it.
        tiles: of the case.
        ends: those that are shown.
        cuts: tile → its pixels; those of slides that are not there are missing.
        limit: contribution of the darkest colour.
        words: for the highest end (True) and the lowest: what it is called, and where none of its tiles has its sign.
        why: tile → what drove it, a line each.
    """
    groups = []
    for highest, chosen in ((True, ends.highest), (False, ends.lowest)):
        found = [
            replace(cuts[tile], lines=(_line(tiles, tile, ends.marks[tile]), *(why or {}).get(tile, ())))
            for tile in chosen
            if tile in cuts
        ]
        usual, none = words[highest]
        groups.append((heading([one.value for one in found], highest=highest, usual=usual, none=none), found))
    return draw_sheet(title, [line], groups, limit)


def _line(tiles: CaseTiles, tile: int, number: int) -> str:
    """A tile's number, what it did, how much attention it had, and which slide's it is."""
    line = (
        f"{number}:  {signed(tiles.contribution[tile], 4)}, attention × {tiles.attention[tile] * len(tiles.values):.1f}"
    )
    return line + (f", slide {tiles.slide[tile] + 1}" if tiles.slide.max() else "")


def why(tile: ShownTile) -> list[str]:
    """What drove a tile, a line each: what it says alone, and the features behind it."""
    features = [f"{one.name} {one.value:.3g} (case {one.mean:.3g})" for one in tile.drivers]
    return [f"a case of such tiles: {signed(tile.alone)}", *features]


def signed(value: float | None, decimals: int = 3) -> str:
    """A number with its sign, − for minus; a dash where there is none."""
    return "–" if value is None else f"{value:+.{decimals}f}".replace("-", "−")
