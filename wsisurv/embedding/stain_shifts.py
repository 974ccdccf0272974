"""How far a slide's features move when its stains are stronger or weaker than they are."""

import threading
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.colours import ColourMap, Pixels
from wsisurv.embedding.stains import UNMIXING
from wsisurv.formats.tiles import Tiles

STRENGTHS = (0.85, 1.0, 1.15)
"""Factors of haematoxylin and of eosin, in all nine combinations; (1, 1) is the slide as it is."""


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


class ShiftedTiles:
    """Some tiles of a slide under every shift, encoded behind its own: one shift at a time.

    Args:
        n_sampled: how many tiles are shifted.
        sample: reads them, uint8 (n_sampled, side, side, 3), of the slide's tiles; called once.
        shifts: as ``stain_shifts``.
        restain: done to the shifted sample, as if it were a slide of its own; or None.

    Attributes:
        n_tiles: how many there are in all.
        piece: how many of them are made at once.
    """

    def __init__(
        self,
        n_sampled: int,
        sample: Callable[[Tiles], Pixels],
        shifts: list[ColourMap],
        restain: Callable[[Pixels], Pixels] | None,
    ) -> None:
        self.n_tiles, self.piece = n_sampled * len(shifts), n_sampled
        self._sample, self._shifts, self._restain = sample, shifts, restain
        self._lock = threading.Lock()
        self._sampled: Pixels | None = None

    def read(self, rows: slice, tiles: Tiles) -> Pixels:
        """The sample under one shift, uint8 (n, side, side, 3); called in a reading thread.

        Raises:
            SlideError: the slide can't be read.
        """
        with self._lock:
            if self._sampled is None:
                self._sampled = self._sample(tiles)
        shifted = self._shifts[rows.start // self.piece](self._sampled)
        return shifted if self._restain is None else self._restain(shifted)


def measure_spread(
    features: NDArray[np.floating[Any]], n_shifts: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What shifts make of the features of tiles.

    Args:
        features: (n_shifts · n_tiles, n_features), shift by shift, in the order of ``stain_shifts``.
        n_shifts: how many there are.

    Returns:
        float32 (n_features,) each: standard deviation over the shifts, root mean square over the tiles; and, to hold it
        against, standard deviation over the tiles as they are.
    """
    shifted = features.reshape(n_shifts, -1, features.shape[1]).astype(np.float64)
    by_stain, by_tile = np.sqrt(shifted.var(axis=0).mean(axis=0)), shifted[n_shifts // 2].std(axis=0)
    return by_stain.astype(np.float32), by_tile.astype(np.float32)
