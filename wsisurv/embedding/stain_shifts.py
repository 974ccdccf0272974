"""How far a slide's features move when its stains are stronger or weaker than they are."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.colours import ColourMap, Pixels
from wsisurv.embedding.stains import UNMIXING

STRENGTHS = (0.85, 1.0, 1.15)
"""Of haematoxylin and of eosin, in all nine combinations; (1, 1) is the slide as it is."""


@dataclass(frozen=True)
class StainSpread:
    """What stain shifts do to the features of a slide.

    Attributes:
        by_stain: float32 (n_features,), standard deviation over the shifts, root mean square over the tiles.
        by_tile: float32 (n_features,), standard deviation over the tiles as they are, to hold it against.
        n_tiles: how many tiles were shifted.
    """

    by_stain: NDArray[np.float32]
    by_tile: NDArray[np.float32]
    n_tiles: int


def stain_shifts() -> list[ColourMap]:
    """The maps of all combinations of strengths.

    Source: Tellez et al., Quantifying the effects of data augmentation and stain color normalization, 2019:
    shifts of haematoxylin and eosin after colour deconvolution; theirs are random, these are the same for all.
    """
    return [ColourMap(_shift(*strengths)) for strengths in product(STRENGTHS, STRENGTHS)]


def _shift(haematoxylin: float, eosin: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    mixing = UNMIXING @ np.diag([haematoxylin, eosin, 1.0]) @ np.linalg.inv(UNMIXING)

    def map(colours: NDArray[Any]) -> NDArray[Any]:
        density = -np.log10(np.maximum(colours, 1) / 255)
        shifted: NDArray[Any] = 255 * 10 ** -(density @ mixing)
        return shifted

    return map


def measure_spread(
    tiles: Pixels, shifts: list[ColourMap], features: Callable[[Pixels], NDArray[np.floating[Any]]]
) -> StainSpread:
    """Shift tiles and see what becomes of their features.

    Args:
        tiles: uint8 (n_tiles, side, side, 3), one or more.
        shifts: as ``stain_shifts``.
        features: of tiles, (n, n_features); called once a shift.
    """
    shifted = np.stack([features(shift(tiles)) for shift in shifts]).astype(np.float64)
    middle = shifted[len(shifts) // 2]
    return StainSpread(
        np.sqrt(shifted.var(axis=0).mean(axis=0)).astype(np.float32),
        middle.std(axis=0).astype(np.float32),
        len(tiles),
    )
