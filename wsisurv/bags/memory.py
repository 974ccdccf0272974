"""How much memory training may take, and features that stay on the disk when they don't fit."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsisurv.bags.feature_rows import FeatureFile, read_rows
from wsisurv.bags.packed import HeldRows, RowSource

_GIB = 1 << 30
_READERS = 8
_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Memory:
    """What training may hold; decides how it goes about, never what comes out."""

    features_bytes: int  # features are held when they take no more; otherwise rows are read from disk when needed
    keep_bytes: int  # what a pass over the cohort may keep for its gradient, see ``Bags``


def memory_of(gib: float | None) -> Memory:
    """Share out ``gib`` GiB: half for features, an eighth for each pass of a step, the rest for the work itself.

    Args:
        gib: None takes half of what this machine, or the container, has.
    """
    total = _machine_bytes() // 2 if gib is None else int(gib * _GIB)
    return Memory(features_bytes=total // 2, keep_bytes=total // 8)


def memory_share(gib: float | None, workers: int) -> float | None:
    """What each of several processes may have of ``gib`` GiB, or of half of the machine's."""
    if workers == 1:
        return gib
    return (_machine_bytes() / 2 / _GIB if gib is None else gib) / workers


def _machine_bytes() -> int:
    """Memory of the machine, or the limit of the control group where that is lower."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system
        machine = 8 * _GIB
    try:
        limit = _LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdigit() else machine


@dataclass(frozen=True)
class FileRows:
    """Rows of several features files, one file after the other, read from disk when they are asked for."""

    files: tuple[FeatureFile, ...]  # all with the same number of columns and the same dtype
    starts: np.ndarray[tuple[int], np.dtype[np.int64]]  # int64 (n_files + 1,), number of each file's first row

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.starts[-1]), self.files[0].n_features

    def take(self, rows: Tensor) -> Tensor:
        """Rows of these numbers, int64 (n,): (n, d), as in the files.

        Raises:
            ArtifactError, FormatError: as ``read_rows``.
        """
        numbers = rows.numpy()
        out = np.empty((len(numbers), self.shape[1]), dtype=self.files[0].dtype)
        which = np.searchsorted(self.starts, numbers, side="right") - 1
        runs = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(numbers)]

        def read(start: int, end: int) -> None:
            file = which[start]
            read_rows(self.files[file], numbers[start:end] - self.starts[file], out[start:end])

        if len(runs) == 2:  # one file
            read(*runs)
        else:
            with ThreadPoolExecutor(_READERS) as pool:  # a disk answers many questions in the time of one
                list(pool.map(read, runs[:-1], runs[1:]))
        return torch.from_numpy(out)


def rows_of(files: Sequence[FeatureFile], memory: Memory) -> RowSource:
    """The rows of all files, one file after the other: held in memory once, or left on the disk.

    Args:
        files: at least one, all with rows, of the same number of columns and the same dtype.
        memory: what may be held.
    """
    starts = np.cumsum([0, *(file.n_tiles for file in files)])
    source = FileRows(tuple(files), starts)
    dtype = files[0].dtype
    if source.shape[0] * source.shape[1] * dtype.itemsize > memory.features_bytes:
        return source
    held = np.empty(source.shape, dtype=dtype)
    for file, start, end in zip(files, starts[:-1], starts[1:], strict=True):
        read_rows(file, np.arange(file.n_tiles), held[start:end])
    return HeldRows(torch.from_numpy(held))
