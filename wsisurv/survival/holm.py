"""Several tests at once."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """P values of k tests, by which the chance of any false finding among all k stays below the level.

    Args:
        p: (k,), NaN for a test that gave none, which does not count.

    Source: Holm S. Scandinavian Journal of Statistics 1979;6:65-70.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)  # NaN last
    factor = np.arange(np.isfinite(values).sum(), np.isfinite(values).sum() - len(values), -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factor), 1.0)
    return adjusted
