"""What an encoder is, and the embedded one as such; nothing heavy is imported here."""

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.columns import COLUMNS
from wsisurv.embedding.histomics import histomics
from wsisurv.embedding.table import HISTOMICS
from wsisurv.formats.features import Making

Pending = Callable[[], NDArray[np.float32]]
"""A batch that was begun: called, it waits for the features, float32 (n_tiles, n_features)."""
_TILES_A_THREAD = 16


class Encoder(Protocol):
    """What turns tiles into features.

    Attributes:
        name: as in ``EmbedSettings.encoder``.
        n_features: columns of the result.
        names: a name for each column, or none.
        units: a unit for each column, or none.
        definitions: what each column measures, or none.
        in_flight: batches that should be begun before the first is waited for.
        making: what goes into the files of how features were made.
    """

    name: str
    n_features: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    definitions: tuple[str, ...]
    in_flight: int
    making: Making

    def buffer(self, n_tiles: int, side: int) -> NDArray[np.uint8]:
        """Room for the pixels of a batch, (n_tiles, side, side, 3), of the kind that is quickest to take."""

    def find_batch_size(self, side: int) -> int:
        """How many tiles of a side, pixels, to encode at once."""

    def submit(self, tiles: NDArray[np.uint8], tile_mpp: float) -> Pending:
        """Begin a batch of tiles uint8 (n_tiles, side, side, 3) at ``tile_mpp`` µm/px, which must stay as they are.

        Raises:
            DeviceError: no room on the device, which fewer tiles may have; also when the result is asked for.
        """

    def close(self) -> None:
        """Let go of threads."""


class HistomicsEncoder:
    """The embedded encoder on some threads: NumPy and SciPy leave the interpreter free while they compute."""

    name = HISTOMICS
    n_features = len(COLUMNS)
    names = tuple(column.name for column in COLUMNS)
    units = tuple(column.unit for column in COLUMNS)
    definitions = tuple(column.definition for column in COLUMNS)
    in_flight = 2

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="histomics")
        self.making = Making(precision="fp32", device=f"cpu ({platform.machine()})")

    def buffer(self, n_tiles: int, side: int) -> NDArray[np.uint8]:
        """Room for the pixels of a batch."""
        return np.empty((n_tiles, side, side, 3), np.uint8)

    def find_batch_size(self, side: int) -> int:
        """So many that every thread has some."""
        del side
        return _TILES_A_THREAD * self._workers

    def submit(self, tiles: NDArray[np.uint8], tile_mpp: float) -> Pending:
        """Begin a batch, divided among the threads."""
        parts = np.array_split(tiles, min(self._workers, max(1, len(tiles))))
        futures = [self._threads.submit(histomics, part, tile_mpp) for part in parts]
        return lambda: np.concatenate([future.result() for future in futures])

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)
