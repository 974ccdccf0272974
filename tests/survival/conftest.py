"""Follow-up of made-up cases."""

import json
from collections.abc import Callable
from pathlib import Path
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


@pytest.fixture(scope="session", params=range(3))
def torchsurv_says(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Cases and torchsurv's figures of them, see tests/reference/torchsurv_figures.py; it computes in float32."""
    path = Path(__file__).parents[1] / "reference" / "torchsurv_figures.json"
    said: dict[str, Any] = json.loads(path.read_text())[request.param]
    names = ("log_hazard", "time", "event")
    return said | {"cases": {name: np.array(said[name]) for name in names}}
