"""Colours of a slide brought to a reference: Macenko's and Reinhard's ways, estimated once a slide.

The libraries that do this estimate anew in every picture; a tile of fat or lumen then gets colours of its own. Here a
slide has one map, from colour to colour, and all its tiles go through it. The references built in are those that
the field's libraries carry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, UnidentifiedImageError

from wsisurv.embedding.stains import separate_stains
from wsisurv.errors import InputError, SettingsError
from wsisurv.settings.base import file_sha256
from wsisurv.settings.embedding import StainSettings

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

MACENKO_REFERENCE = (0.5626, 0.7201, 0.4062, 0.2159, 0.8012, 0.5581, 1.9705, 1.0308)
_MACENKO_SOURCE = "built in: that of the method's published MATLAB code (staining-normalization)"
REINHARD_REFERENCE = (8.74108109, -0.12440419, 0.0444982, 0.6135447, 0.10989545, 0.0286032)
_REINHARD_SOURCE = "built in: TCGA-A2-A3XS-DX1, Amgad et al. 2019"

_LIGHT = 240.0
"""Intensity of glass."""
_FAINT = 0.15
"""Optical density (natural logarithm) below which a pixel is too pale to see stains in."""
_MIN_PIXELS = 500
_MIN_ANGLE = np.radians(5)
_TABLE_SIDE = 65
_MAX_PICTURE_PX = 1 << 20
_CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_OPPONENTS = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
_GLASS_FROM, _GLASS_TO = 0.03, 0.06


@dataclass(frozen=True)
class Fit:
    """What was estimated in some pixels."""

    values: tuple[float, ...] | None  # as ``StainSettings.reference``; None where the pixels don't show it
    why_not: str = ""  # why not, in words


class ColourMap:
    """A map from colour to colour as a table, which the pixels of a tile are looked up in.

    A table of 65 steps a colour, interpolated: within 2 grey levels of the map itself, and many times quicker.

    Args:
        map: from colours float64 (n, 3), 0 to 255, to the same; may leave that range.
    """

    def __init__(self, map: Callable[[Floats], Floats]) -> None:
        steps = np.linspace(0, 255, _TABLE_SIDE)
        blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
        table = map(np.stack([red.ravel(), green.ravel(), blue.ravel()], axis=1)).clip(0, 255) / 255
        self._filter = ImageFilter.Color3DLUT(_TABLE_SIDE, table.astype(np.float32).ravel(), channels=3)

    def __call__(self, tiles: Pixels) -> Pixels:
        """Tiles uint8 (n, height, width, 3) in their new colours."""
        n_tiles, height, width, _ = tiles.shape
        if not n_tiles:
            return tiles
        column = np.ascontiguousarray(tiles).reshape(n_tiles * height, width, 3)
        return np.asarray(Image.fromarray(column).filter(self._filter)).reshape(tiles.shape)


def estimate(method: str, pixels: Pixels) -> Fit:
    """Estimate a slide's stains (``macenko``) or colours (``reinhard``) from some of its pixels, uint8 (…, 3)."""
    pixels = pixels.reshape(-1, 3)
    return _macenko(pixels) if method == "macenko" else _reinhard(pixels)


def make_map(method: str, seen: tuple[float, ...], reference: tuple[float, ...]) -> ColourMap:
    """The map that brings a slide in which ``seen`` was estimated to ``reference``."""
    if method == "macenko":
        return ColourMap(_macenko_map(seen, reference))
    return ColourMap(_reinhard_map(seen, reference))


def find_stain_settings(method: str, picture: Path | None = None) -> StainSettings | None:
    """The settings of ``--stain`` and ``--stain-reference``; None for ``none``.

    Raises:
        SettingsError: a reference without a method.
        InputError: the picture can't be read, or shows too little H&E.
    """
    if method == "none":
        if picture is not None:
            raise SettingsError("--stain-reference goes with --stain macenko or --stain reinhard.")
        return None
    if picture is None:
        if method == "macenko":
            return StainSettings(method="macenko", source=_MACENKO_SOURCE, reference=MACENKO_REFERENCE)
        return StainSettings(method="reinhard", source=_REINHARD_SOURCE, reference=REINHARD_REFERENCE)
    fit = estimate(method, _read_picture(picture))
    if fit.values is None:
        raise InputError(f"{picture}: no reference for --stain {method}: {fit.why_not}")
    values = tuple(round(value, 6) for value in fit.values)
    return StainSettings.model_validate(
        {"method": method, "source": f"sha256:{file_sha256(picture)}", "reference": values}
    )


def _read_picture(path: Path) -> Pixels:
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: no picture that can be read ({error}). --stain-reference wants PNG or JPEG."
        ) from error
    return pixels[:: max(1, len(pixels) // _MAX_PICTURE_PX)]


def _density(pixels: Floats | Pixels) -> Floats:
    return -np.log((np.asarray(pixels, np.float64) + 1) / _LIGHT)


def _macenko(pixels: Pixels) -> Fit:
    """Haematoxylin and eosin as the extreme directions of optical density in the plane of its two largest axes.

    Source: Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009.
    """
    density = _density(pixels)
    density = density[(density >= _FAINT).all(axis=1)]
    if len(density) < _MIN_PIXELS:
        return Fit(None, f"only {len(density)} pixels of stained tissue in the sample")
    plane = np.linalg.eigh(np.cov(density.T))[1][:, :0:-1]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)  # an axis has no direction of its own
    across = density @ plane
    low, high = np.percentile(np.arctan2(across[:, 1], across[:, 0]), [1, 99])
    if high - low < _MIN_ANGLE:
        return Fit(None, "one stain only: haematoxylin and eosin can't be told apart")
    stains = np.stack([plane @ [np.cos(angle), np.sin(angle)] for angle in (low, high)], axis=1)
    if stains[0, 0] < stains[0, 1]:  # haematoxylin is the one that holds back more red
        stains = stains[:, ::-1]
    amounts = np.percentile(density @ np.linalg.pinv(stains).T, 99, axis=0)
    if (amounts <= 0).any() or (stains.sum(axis=0) <= 0).any():
        return Fit(None, "its colours are not those of two stains")
    return Fit(tuple(float(value) for value in (*stains.T.ravel(), *amounts)))


def _macenko_map(seen: tuple[float, ...], reference: tuple[float, ...]) -> Callable[[Floats], Floats]:
    (stains, most), (wanted, wanted_most) = (
        (np.reshape(values[:6], (2, 3)).T, np.array(values[6:])) for values in (seen, reference)
    )
    mixing = wanted @ np.diag(wanted_most / most) @ np.linalg.pinv(stains)
    return lambda colours: _LIGHT * np.exp(-_density(colours) @ mixing.T) - 1


def _opponent(pixels: Floats | Pixels) -> Floats:
    opponent: Floats = np.log(np.maximum(pixels, 1) @ _CONES.T) @ _OPPONENTS.T
    return opponent


def _reinhard(pixels: Pixels) -> Fit:
    """Mean and standard deviation of the tissue in l, α, β.

    Source: Reinhard et al., Color transfer between images, 2001.
    """
    tissue = pixels[separate_stains(pixels[None, None]).tissue[0, 0]]
    if len(tissue) < _MIN_PIXELS:
        return Fit(None, f"only {len(tissue)} pixels of tissue in the sample")
    seen = _opponent(tissue)
    mean, spread = seen.mean(axis=0), seen.std(axis=0)
    if (spread < 1e-3).any():
        return Fit(None, "one colour only")
    return Fit(tuple(float(value) for value in (*mean, *spread)))


def _reinhard_map(seen: tuple[float, ...], reference: tuple[float, ...]) -> Callable[[Floats], Floats]:
    (mean, spread), (wanted, wanted_spread) = (
        (np.array(values[:3]), np.array(values[3:])) for values in (seen, reference)
    )

    def map(colours: Floats) -> Floats:
        moved = (_opponent(colours) - mean) * (wanted_spread / spread) + wanted
        mapped = (np.exp(moved @ np.linalg.inv(_OPPONENTS).T) @ np.linalg.inv(_CONES).T).clip(0, 255)
        # Means are of tissue; glass, which has none of their colour, stays glass.
        density = -np.log10(np.maximum(colours, 1) / 255).mean(axis=1, keepdims=True)
        weight = ((density - _GLASS_FROM) / (_GLASS_TO - _GLASS_FROM)).clip(0, 1)
        mixed: Floats = weight * mapped + (1 - weight) * colours
        return mixed

    return map
