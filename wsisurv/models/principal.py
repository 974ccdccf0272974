"""Principal directions of many rows, by the smaller of the two matrices of products.

A singular value decomposition of all rows gives the same, but takes ten times as long, and many times more where other
processes hold the cores: it is made of small products, between which threads wait for each other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 1e-6
"""Share of the largest size below which a direction is rounding."""


@dataclass(frozen=True)
class Directions:
    """Principal directions."""

    sizes: NDArray[np.float64]  # float64 (k,), singular values, descending, those of no size left out
    # float64 (k, n_columns), of length 1; the largest entry of each is positive, since the sign is arbitrary and may
    # differ between machines
    rows: NDArray[np.float64]


def principal_directions(centred: NDArray[np.floating], most: int) -> Directions:
    """The first ``most`` principal directions of (n, n_columns) rows, or as many as there are.

    Args:
        centred: rows of mean 0.
        most: how many.
    """
    values = np.asarray(centred, dtype=np.float64)
    wide = values.shape[0] < values.shape[1]
    if not values.size:
        return Directions(np.zeros(0), np.zeros((0, values.shape[1])))
    squares, vectors = np.linalg.eigh(values @ values.T if wide else values.T @ values)
    sizes = np.sqrt(np.maximum(squares[::-1][:most], 0.0))
    kept = sizes > _SMALLEST * max(float(sizes[0]), 1e-12)
    sizes, first = sizes[kept], vectors[:, ::-1][:, :most][:, kept]
    rows = (values.T @ first / sizes).T if wide else first.T
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return Directions(sizes, np.asarray(rows * np.sign(largest), dtype=np.float64))
