"""Slides of a case: where their pixels are, and what the maps are painted over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.cases import read_slide
from wsisurv.bags.checks import Expected
from wsisurv.errors import FormatError, SlideError
from wsisurv.formats.features import Features, Place
from wsisurv.formats.tiles import read_tiles
from wsisurv.prediction.contributions import CaseTiles
from wsisurv.prediction.heatmap_picture import MAX_PX
from wsisurv.prediction.stain import look_at
from wsisurv.prediction.tile_sheet import Cut
from wsisurv.slides.find import require_tiled
from wsisurv.slides.reader import Slide
from wsisurv.slides.stage import staged
from wsisurv.workspace.paths import Workspace

_SHARPEST_PX = 512


@dataclass(frozen=True)
class LocatedSlide:
    """One slide of a case: its features, and where its pixels are."""

    features: Features  # of the slide
    place: Place  # where its tiles lie
    path: Path | None  # its file; None where it is not known
    side: float  # of a tile, level-0 pixels
    tile_px: int  # of a tile, pixels as the encoder saw it
    bounds: tuple[int, int, int, int]  # left, top, width and height of what was scanned, level-0 pixels
    fingerprint: str | None = None  # of the file that was tiled; None where that is not known

    def view_mpp(self, bounds: tuple[int, int, int, int]) -> float:
        """The finest resolution at which the map of what was scanned stays within ``MAX_PX``, µm per pixel."""
        return self.place.mpp * max(1.0, max(bounds[2:]) / MAX_PX)


def tile_side(features: Features, source: Path) -> float:
    """Side of a slide's tiles, level-0 pixels.

    Args:
        features: of the slide.
        source: their file, for the message.

    Raises:
        FormatError: nobody knows where its tiles lie, or its settings don't say how large they are.
    """
    settings = features.tile_settings
    try:
        return int(str(settings["tile_px"])) * float(str(settings["tile_mpp"])) / features.place.mpp
    except (KeyError, ValueError) as error:
        raise FormatError(f"{source}: says neither size nor resolution of its tiles ({error})") from error


def locate_slide(workspace: Workspace, slide_id: str, expected: Expected, path: Path | None) -> LocatedSlide:
    """Read a slide's features, and find its file.

    Args:
        workspace: holds its features and, where it was tiled here, its tiles.
        slide_id: the slide.
        expected: what the student can read.
        path: its file, before where it was when it was tiled.

    Raises:
        MissingArtifactError, FormatError: a file is missing or damaged, or nobody knows where its tiles lie.
        EncoderMismatchError: features of another encoder, tiles or width than the student's.
    """
    source = workspace.features(expected.card.encoder, slide_id)
    read = read_slide(source, expected)
    features, fingerprint = read.features, read.header.inputs.get("slide")
    place = features.place
    side, tile_px = tile_side(features, source), int(str(features.tile_settings["tile_px"]))
    known = workspace.tiles(slide_id)
    corner = place.coords.max(axis=0) + side if len(place.coords) else np.array([side, side])
    bounds = (0, 0, int(np.ceil(corner[0])), int(np.ceil(corner[1])))
    if known.exists():
        tiles, header = read_tiles(known)
        fingerprint = header.inputs.get("slide")
        path = path or (tiles.slide_path if tiles.slide_path.exists() else None)
        left, top = tiles.bounds_x, tiles.bounds_y
        bounds = (left, top, tiles.level0_width - left, tiles.level0_height - top)
    return LocatedSlide(features, place, path, side, tile_px, bounds, fingerprint)


@dataclass(frozen=True)
class SlideView:
    """What the maps of a slide are painted over."""

    pixels: NDArray[np.uint8]  # uint8 (height, width, 3), of what was scanned
    mpp: float  # µm per pixel of them
    bounds: tuple[int, int, int, int]  # left, top, width and height of what was scanned, level-0 pixels
    problem: str = ""  # why they are white, or empty
    stain: tuple[str, ...] = ()  # what its colours say against H&E
    cuts: Mapping[int, Cut] = field(default_factory=dict)  # number of a tile among the case's → the tile


def view_slide(place: LocatedSlide, tiles: CaseTiles, chosen: Sequence[int], *, stage: Path | None = None) -> SlideView:
    """The slide's pixels, stain and some of its tiles; or white of its size and why, and no tile.

    Args:
        place: the slide.
        tiles: all tiles of the case.
        chosen: numbers of those to be cut out.
        stage: folder on a disk of the machine, to which the slide is copied before it is read.

    Raises:
        StorageError: ``stage`` has no room.
    """
    slide_id, mpp = place.features.slide_id, place.place.mpp
    problem = f"{slide_id}: its file is not where it was when it was tiled; say where with --slides FOLDER"
    if place.path is not None:
        try:
            require_tiled(place.path, str(slide_id), place.fingerprint)
            with staged(place.path, stage) as file, Slide(file, mpp) as slide:
                bounds = (slide.bounds.x, slide.bounds.y, slide.bounds.width, slide.bounds.height)
                return SlideView(
                    slide.view(place.view_mpp(bounds)),
                    place.view_mpp(bounds),
                    bounds,
                    stain=look_at(slide, place.place.coords, level0_px=place.side, tile_px=place.tile_px).warnings,
                    cuts={tile: _cut(slide, tiles, tile, place.side) for tile in chosen},
                )
        except SlideError as error:
            problem = str(error)
    view_mpp = place.view_mpp(place.bounds)
    width, height = (max(1, round(length * mpp / view_mpp)) for length in place.bounds[2:])
    return SlideView(np.full((height, width, 3), 255, np.uint8), view_mpp, place.bounds, problem)


def _cut(slide: Slide, tiles: CaseTiles, tile: int, side: float) -> Cut:
    """A tile's own pixels, at the scanner's resolution where that is not too much for a sheet."""
    out_px = max(1, min(round(side), _SHARPEST_PX))
    x, y = tiles.coords[tile].tolist()
    return Cut(slide.region(x, y, side, out_px), slide.mpp * side / out_px, float(tiles.contribution[tile]))
