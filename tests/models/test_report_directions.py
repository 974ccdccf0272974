import numpy as np
import pytest

from wsisurv.models.report_subspace import fit_report_directions

N_TOLD = 3
"""Things that reports tell of, each with a direction of its own in the tiles."""


def world(n: int, n_features: int, noise: float = 0.3, seed: int = 0):
    """Mean tiles, reports, folds, and the directions that make both."""
    rng = np.random.default_rng(seed)
    looks = np.linalg.qr(rng.normal(size=(n_features, N_TOLD)))[0]
    hidden = rng.normal(size=(n, N_TOLD)) * [2.0, 1.5, 1.2]
    stain = rng.normal(size=(6, n_features))[rng.integers(0, 6, n)]  # larger than what is told, and told by nobody
    tiles = hidden @ looks.T + stain + rng.normal(0, noise, (n, n_features))
    reports = hidden @ rng.normal(size=(N_TOLD, 10)) + rng.normal(0, 0.5, (n, 10))
    return tiles, reports, np.arange(n) % 10, looks


@pytest.mark.parametrize("n_features", [20, 300])  # fewer and more features than cases
def test_directions_are_those_that_tiles_and_reports_share(n_features):
    tiles, reports, fold, looks = world(200, n_features)
    found = fit_report_directions(tiles, reports, fold)
    assert found.columns.shape == (n_features, N_TOLD)
    np.testing.assert_allclose(found.columns.T @ found.columns, np.eye(N_TOLD), atol=1e-9)
    # seen along them, hidden things are told apart, and by far better than along as many of the largest directions
    assert found.explained > 0.5
    angles = np.linalg.svd(found.columns.T @ looks, compute_uv=False)
    largest = np.linalg.svd(tiles - tiles.mean(0))[2][:N_TOLD].T
    assert angles.min() > 0.6 > np.linalg.svd(largest.T @ looks, compute_uv=False).min()


def test_reports_of_the_wrong_cases_are_told_by_nothing():
    tiles, reports, fold, _ = world(200, 20)
    found = fit_report_directions(tiles, np.random.default_rng(1).permutation(reports), fold)
    assert found.explained < 0.05
    assert found.columns.shape[1] <= 1


def test_what_is_told_is_judged_out_of_fold():
    tiles, reports, fold, _ = world(60, 300, noise=3.0)  # in sample, 300 features fit anything
    found = fit_report_directions(tiles, reports, fold)
    held = []
    for one in range(10):
        inner = fold[fold != one]
        few = fit_report_directions(tiles[fold != one], reports[fold != one], inner)
        held.append(few.explained)
    assert found.explained < 0.4
    assert max(held) < 0.5


@pytest.mark.parametrize("spoilt", ["tiles", "reports"])
def test_nothing_varies(spoilt):
    tiles, reports, fold, _ = world(40, 8)
    values = {"tiles": tiles, "reports": reports} | {spoilt: np.ones_like(tiles if spoilt == "tiles" else reports)}
    found = fit_report_directions(**values, fold=fold)
    assert found.columns.shape[1] == 0
    assert found.explained <= 0
