"""Why a single tile speaks as it does: the log hazard of a case of such tiles alone, and the features behind it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.heatmaps import TileDriver
from wsisurv.models.ensemble import Ensemble

_ASKED = 8
"""Features of a tile that are tried: those furthest from the case's mean."""


def log_hazard_alone(ensemble: Ensemble, tile: NDArray[np.floating]) -> float:
    """Log hazard of a case that were such tiles throughout: (n_features,).

    Where contributions are exact, a member gives a tile its share of the attention times this.
    """
    return ensemble.log_hazard(tile[None].astype(np.float32))


def tile_drivers(
    ensemble: Ensemble, values: NDArray[np.floating], tile: int, names: Sequence[str], *, raises: bool, count: int = 2
) -> tuple[TileDriver, ...]:
    """Features that drove one tile up, or down: those by which it would do less with the case's mean in their place.

    Args:
        ensemble: the members that did not see the case.
        values: (n_tiles, n_features), of the case.
        tile: number of the tile.
        names: of the features; none gives no answer.
        raises: whether the tile raised the log hazard.
        count: how many features, at most.
    """
    if not names or len(values) < 2:
        return ()
    numbers = values.astype(np.float64)
    mean, sd = numbers.mean(axis=0), numbers.std(axis=0)
    away = np.divide(numbers[tile] - mean, sd, out=np.zeros_like(sd), where=sd > 1e-9)
    asked = [column for column in np.argsort(-np.abs(away), kind="stable")[:_ASKED].tolist() if away[column] != 0]
    before, found = log_hazard_alone(ensemble, numbers[tile]), []
    for column in asked:
        other = numbers[tile].copy()
        other[column] = mean[column]
        adds = before - log_hazard_alone(ensemble, other)
        if (adds > 0) == raises and adds != 0:
            found.append(TileDriver(names[column], float(numbers[tile, column]), float(mean[column]), adds))
    return tuple(sorted(found, key=lambda one: -abs(one.adds))[:count])
