"""Follow-up of made-up cases."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Cases = dict[str, NDArray[Any]]


def follow_up(n: int, seed: int, *, distinct: int = 1000) -> Cases:
    """Cases with a true signal; few ``distinct`` values make ties in time and in risk."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    time = rng.exponential(np.exp(-risk))
    return {
        "log_hazard": np.round(risk * distinct / 10) / (distinct / 10),
        "time": np.ceil(time * distinct / 10),
        "event": rng.random(n) < 0.4,
    }


@pytest.fixture(scope="session")
def make_cases() -> Callable[..., Cases]:
    """``make_cases(n, seed, distinct=1000)``: log_hazard, time and event of n cases."""
    return follow_up
