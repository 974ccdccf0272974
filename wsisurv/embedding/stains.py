"""Haematoxylin and eosin from RGB: colour deconvolution on whole batches of tiles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float32]
"""One number a pixel: (n_tiles, height, width)."""

_HAEMATOXYLIN = (0.65, 0.704, 0.286)
_EOSIN = (0.216, 0.801, 0.558)
_GLASS = 0.06
_DENSITY_OF_BYTE = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


def _unmixing() -> NDArray[np.float32]:
    """Matrix (3, 3) from optical density in R, G, B to haematoxylin, eosin and what is left."""
    haematoxylin = np.array(_HAEMATOXYLIN) / np.linalg.norm(_HAEMATOXYLIN)
    eosin = np.array(_EOSIN) / np.linalg.norm(_EOSIN)
    rest = np.cross(haematoxylin, eosin)
    return np.linalg.inv(np.stack([haematoxylin, eosin, rest / np.linalg.norm(rest)])).astype(np.float32)


UNMIXING = _unmixing()


@dataclass(frozen=True)
class StainPlanes:
    """What colour deconvolution gives."""

    haematoxylin: Planes  # optical density of haematoxylin
    eosin: Planes  # optical density of eosin
    rest: Planes  # optical density that neither stain explains (ink, pigment); may be negative
    density: Planes  # mean optical density of the three colours
    tissue: NDArray[np.bool_]  # bool, density of 0.06 or more: not glass, lumen or fat
    weight: Planes  # the same as 1 and 0 in float32, quicker in sums


def separate_stains(tiles: NDArray[np.uint8]) -> StainPlanes:
    """Separate the stains of tiles, uint8 (n_tiles, height, width, 3).

    Each pixel by itself, in a fixed order of sums, so that a tile's result doesn't depend on its batch.

    Source: Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001. Haematoxylin
    is theirs; eosin is the pink of scanned H&E, which has more blue than theirs; the third is across both.
    """
    red, green, blue = (np.take(_DENSITY_OF_BYTE, tiles[..., channel]) for channel in range(3))
    haematoxylin, eosin, rest = (_mix(red, green, blue, row) for row in UNMIXING.T)
    density = red + green
    density += blue
    density /= np.float32(3)
    tissue = density >= _GLASS
    return StainPlanes(haematoxylin, eosin, rest, density, tissue, tissue.astype(np.float32))


def _mix(red: Planes, green: Planes, blue: Planes, row: NDArray[np.float32]) -> Planes:
    """Sum of three planes, weighted; few temporary arrays, whose making takes as long as the sums."""
    total: Planes = red * row[0]
    part = green * row[1]
    total += part
    np.multiply(blue, row[2], out=part)
    total += part
    return total
