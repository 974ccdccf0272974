"""What a reader is, and what an opened slide must be able to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Pyramid(Protocol):
    """What an open slide says of itself."""

    @property
    def properties(self) -> Mapping[str, str]:
        """Metadata by OpenSlide's names; ``openslide.mpp-x`` and ``-y`` are the resolution, µm per pixel."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each level, its pixels."""

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """How many level-0 pixels a pixel of each level spans."""

    def close(self) -> None:
        """Close the file."""


class Handle(Pyramid, Protocol):
    """An open slide, as ``Slide`` uses it; after an error it is not used again."""

    def read_into(self, found: NDArray[np.uint32], level: int, x: int, y: int, width: int, height: int) -> None:
        """Fill ``found`` (width · height) with pixels of a level: alpha, red, green, blue, alpha multiplied.

        Raises:
            SlideError: the file is damaged.
        """

    def keep_at_most(self, n_bytes: int) -> None:
        """Keep so much of decoded pixels, if any."""


class PackagedSlide(Pyramid, Protocol):
    """An open slide of a reader that a package adds."""

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of a level, uint8 (height, width, 3), RGB, white where nothing was scanned; never beyond the level."""


@dataclass(frozen=True)
class PackagedReader:
    """What an entry point of ``wsisurv.readers`` names."""

    endings: tuple[str, ...]  # of the files that it opens, in small letters: ``(".xyz",)``
    open: Callable[[Path], PackagedSlide]  # the file → the open slide; any error says that it can't be opened


def in_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours of 16 bits as OpenSlide shows them, 65,535 as 255; those of 8 bits as they are."""
    if pixels.dtype.itemsize == 1:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
