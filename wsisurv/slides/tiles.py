"""The pixels of tiles, many at a time."""

from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.tiles import Tiles
from wsisurv.slides.reader import Slide, read_tiles

Decoder = Literal["auto", "openslide", "jpeg", "jpeg-half"]


class TileReader:
    """Reads the tiles of one slide; use it as a context manager, one thread at a time.

    Quickest when each ``read`` is of a few hundred tiles and the next goes on where the last ended.

    Args:
        path: the slide's file.
        tiles: where its tiles are.
        decoder: ``auto`` decodes JPEG tiles directly where the pixels are proved equal to OpenSlide's, and has
            OpenSlide read all else.

    Attributes:
        decoder: what reads the pixels: ``openslide``, ``jpeg`` or ``jpeg-half``.
        why: why that one, in words.

    Raises:
        SlideError: the slide can't be opened.
    """

    def __init__(self, path: Path, tiles: Tiles, *, decoder: Decoder = "auto") -> None:
        self._tiles, self._asked = tiles, decoder
        self._slide = Slide(path, tiles.mpp)
        self.decoder: Literal["openslide", "jpeg", "jpeg-half"] = "openslide"
        self.why = "the only one so far"

    def read(self, rows: slice) -> NDArray[np.uint8]:
        """Read tiles.

        Args:
            rows: which, as a slice of ``tiles.coords``.

        Returns:
            uint8 (n, tile_px, tile_px, 3), RGB, white where nothing was scanned.

        Raises:
            SlideError: the file is damaged.
        """
        return read_tiles(self._slide, self._tiles, rows)

    def twin(self) -> "TileReader":
        """Open the same slide again, for another thread; what was found out about it is not found out again.

        Raises:
            SlideError: the slide can't be opened.
        """
        return TileReader(self._slide.path, self._tiles, decoder=self._asked)

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
