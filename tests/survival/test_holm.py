"""Holm's correction against R."""

import numpy as np
import pytest

from wsisurv.survival.holm import holm


def test_as_p_adjust_of_r() -> None:
    found = holm([0.01, 0.02, 0.03, 0.04, 0.001, 0.5])
    assert found == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.006, 0.5])
    assert holm([0.04, 0.03, np.nan, 0.045]) == pytest.approx([0.09, 0.09, np.nan, 0.09], nan_ok=True)
    assert len(holm([])) == 0
