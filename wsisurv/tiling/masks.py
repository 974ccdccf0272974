"""Tissue as a person drew it: GeoJSON as QuPath writes it, or a picture."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsisurv.errors import InputError, SlideError
from wsisurv.formats.atomic import parse_json

_ASPECT = 0.02  # a picture may be out of shape by this share: its pixels are whole, the slide's need not be
_FINER = 4  # polygons are drawn this much finer, so that their edges fall within a quarter of a mask pixel
_MAX_DRAWN_PX = 64_000_000


def find_mask(folder: Path, slide_id: str) -> Path:
    """The drawn tissue of a slide: ``<slide_id>.geojson`` or ``<slide_id>.png``.

    Raises:
        SlideError: neither is there.
    """
    for ending in (".geojson", ".png"):
        if (path := folder / f"{slide_id}{ending}").is_file():
            return path
    raise SlideError(
        f"{folder}: neither {slide_id}.geojson nor {slide_id}.png is there. Add one, or tile this slide in a run "
        "without --tissue-masks."
    )


def read_mask(path: Path, shape: tuple[int, int], scale: float) -> NDArray[np.bool_]:
    """Read the drawn tissue of a slide.

    GeoJSON: polygons in level-0 pixels, counted from the top left of what was scanned, as QuPath does; a class whose
    name begins with "Ignore" is taken out. PNG: a picture of what was scanned at any size; not black is tissue.

    Args:
        path: the file.
        shape: (height, width) of the result.
        scale: side of a pixel of the result, level-0 pixels.

    Returns:
        bool (height, width).

    Raises:
        InputError: the file is damaged, holds no area, or has another shape than the slide.
    """
    return _from_picture(path, shape) if path.suffix == ".png" else _from_geojson(path, shape, scale)


def _from_picture(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as picture:
            grey = picture.convert("L")
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: can't be read as a picture ({error}).") from error
    aspect, wanted = grey.width / grey.height, shape[1] / shape[0]
    if abs(aspect / wanted - 1) > _ASPECT + 1 / min(shape):
        raise InputError(
            f"{path}: {grey.width} × {grey.height} px is not the shape of the slide (width / height is {aspect:.3f}, "
            f"the slide's {wanted:.3f}). Is it the mask of another slide?"
        )
    drawn = grey.point(lambda level: 255 if level else 0).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(drawn) > 127


def _from_geojson(path: Path, shape: tuple[int, int], scale: float) -> NDArray[np.bool_]:
    try:
        areas = list(_areas(parse_json(path.read_bytes())))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not GeoJSON as QuPath writes it ({type(error).__name__}: {error}).") from error
    if not areas:
        raise InputError(f"{path}: no polygon in it. Draw the tissue as areas; lines and points have none.")
    finer = _FINER if shape[0] * shape[1] * _FINER**2 <= _MAX_DRAWN_PX else 1
    size = (shape[1] * finer, shape[0] * finer)
    kept, ignored = Image.new("1", size), Image.new("1", size)
    for rings, ignore in areas:
        _draw(ignored if ignore else kept, rings, finer / scale)
    mask = np.asarray(kept) & ~np.asarray(ignored)
    share = np.asarray(Image.fromarray(mask).convert("L").reduce(finer))
    return share > 127


def _draw(picture: Image.Image, rings: list[list[tuple[float, float]]], factor: float) -> None:
    """Draw a polygon, its holes left as they were."""
    points = [[(x * factor - 0.5, y * factor - 0.5) for x, y in ring] for ring in rings]
    if len(points) == 1:
        ImageDraw.Draw(picture).polygon(points[0], fill=1)
        return
    own = Image.new("1", picture.size)
    draw = ImageDraw.Draw(own)
    draw.polygon(points[0], fill=1)
    for hole in points[1:]:
        draw.polygon(hole, fill=0)
    picture.paste(1, mask=own)


def _areas(value: Any) -> Iterator[tuple[list[list[tuple[float, float]]], bool]]:
    """Each polygon as its rings, the outer one first, and whether it is to be ignored."""
    features = value if isinstance(value, list) else value.get("features", [value])
    for feature in features:
        geometry = feature.get("geometry", feature) or {}
        kind, found = geometry["type"], geometry.get("coordinates", [])
        polygons: list[Any] = [found] if kind == "Polygon" else found if kind == "MultiPolygon" else []
        name = ((feature.get("properties") or {}).get("classification") or {}).get("name", "")
        for polygon in polygons:
            rings = [[(float(point[0]), float(point[1])) for point in ring] for ring in polygon]
            if not rings or any(len(ring) < 3 for ring in rings):
                raise ValueError("a polygon of fewer than three points")
            yield rings, str(name).startswith("Ignore")
