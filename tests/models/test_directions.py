import numpy as np
import pytest

from wsisurv.models.principal import principal_directions


@pytest.mark.parametrize("shape", [(200, 12), (12, 200), (30, 30)])
def test_they_are_those_of_the_singular_value_decomposition(shape):
    values = np.random.default_rng(0).normal(size=shape) @ np.diag(np.linspace(3, 0.5, shape[1]))
    values -= values.mean(0)
    _, sizes, rows = np.linalg.svd(values, full_matrices=False)
    found = principal_directions(values, 5)
    np.testing.assert_allclose(found.sizes, sizes[:5], rtol=1e-9)
    np.testing.assert_allclose(np.abs(found.rows @ rows[:5].T), np.eye(5), atol=1e-6)
    assert (found.rows.max(axis=1) >= -found.rows.min(axis=1)).all()


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_as_many_as_there_are_and_none_of_rounding(shape):
    one = np.outer(np.arange(shape[0]) - (shape[0] - 1) / 2, np.ones(shape[1]))
    assert principal_directions(one, 9).sizes.shape == (1,)
    assert principal_directions(np.zeros(shape), 9).rows.shape == (0, shape[1])
    assert principal_directions(np.zeros((5, 0)), 9).rows.shape == (0, 0)
