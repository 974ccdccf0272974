"""Macenko's stains by torchstain 1.4.1 (its numpy backend), on the pixels of tests/embedding/test_colours.py.

Run with torchstain installed: ``python tests/reference/macenko.py``.
"""

import runpy
from pathlib import Path

import numpy as np
from torchstain.base.normalizers import MacenkoNormalizer

HERE = Path(__file__).parent
pixels = runpy.run_path(str(HERE.parent / "embedding" / "test_colours.py"))["tissue"](n=10_000)
normalizer = MacenkoNormalizer(backend="numpy")
normalizer.fit(pixels)
np.savetxt(
    HERE / "macenko.csv", [*normalizer.HERef.T.ravel(), *normalizer.maxCRef], header="H rgb, E rgb, most of H, E"
)
