"""What an encoder is, and the embedded one as such; nothing heavy is imported here."""

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.histomics import COLUMNS, histomics
from wsisurv.embedding.table import HISTOMICS


class Encoder(Protocol):
    """What turns tiles into features.

    Attributes:
        name: as in ``EmbedSettings.encoder``.
        n_features: columns of the result.
        names: a name for each column, or none.
    """

    name: str
    n_features: int
    names: tuple[str, ...]

    def encode(self, tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        """Features float32 (n_tiles, n_features) of tiles uint8 (n_tiles, side, side, 3) at ``tile_mpp`` µm/px."""
        ...

    def close(self) -> None:
        """Let go of threads."""
        ...


class HistomicsEncoder:
    """The embedded encoder on some threads: NumPy and SciPy leave the interpreter free while they compute."""

    name = HISTOMICS
    n_features = len(COLUMNS)
    names = tuple(column.name for column in COLUMNS)

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="histomics") if workers > 1 else None

    def encode(self, tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        """Features float32 (n_tiles, n_features), in the order of ``COLUMNS``."""
        if self._threads is None:
            return histomics(tiles, tile_mpp)
        parts = np.array_split(tiles, min(self._workers, max(1, len(tiles))))
        return np.concatenate(list(self._threads.map(lambda part: histomics(part, tile_mpp), parts)))

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
