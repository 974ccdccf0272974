"""All members at once give what each gives by itself."""

import numpy as np
import pytest
import torch

from wsisurv.bags.packed import pack
from wsisurv.errors import EncoderMismatchError, FormatError
from wsisurv.models.ensemble import Ensemble, ensemble_of
from wsisurv.models.filter import TileFilter
from wsisurv.models.student import Student

N_FEATURES = 10


def make(aggregator="abmil", n_bins=1, members=3, hard=None) -> Ensemble:
    rng = np.random.default_rng(0)
    made = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number in range(members):
            mean = torch.from_numpy(rng.normal(3, 1, N_FEATURES))
            sd = torch.from_numpy(rng.uniform(0.5, 2, N_FEATURES))
            student = Student(N_FEATURES, 8, 0.0, mean, sd, aggregator, n_bins)
            if hard is not None:
                student.filter = TileFilter(N_FEATURES, hard=hard, keep_share=0.4)
            made.append((student, 0.1 * number))
    return ensemble_of(made)


def tiles(n=50, seed=1):
    return np.random.default_rng(seed).normal(3, 2, (n, N_FEATURES)).astype(np.float16)


@pytest.mark.parametrize("aggregator", ["abmil", "mean", "selfattention"])
@pytest.mark.parametrize("n_bins", [1, 4])
@pytest.mark.parametrize("hard", [None, True, False])
def test_fused_members_say_what_each_says_alone(aggregator, n_bins, hard, alone):
    ensemble = make(aggregator, n_bins, hard=hard)
    got = ensemble.states(tiles())
    np.testing.assert_allclose(got.log_hazard, alone(ensemble, tiles()), atol=1e-5)
    assert got.pooled.shape == (3, 8)
    bag = pack([tiles()])
    with torch.inference_mode():
        pooled = [member.pooled(member.kept(bag))[0].numpy() for member in ensemble.members]
    np.testing.assert_allclose(got.pooled, pooled, atol=1e-5)


@pytest.mark.parametrize("far", [60.0, -5000.0, 60000.0])
def test_tiles_that_members_clamp_are_clamped_by_each_as_it_would(far, alone):
    ensemble = make()
    values = tiles()
    values[[3, 7], [1, 4]] = far
    values[9] = far
    got = ensemble.states(values).log_hazard
    np.testing.assert_allclose(got, alone(ensemble, values), atol=1e-5)


def test_members_that_disagree_on_a_feature_entirely(alone):
    ensemble = make()
    ensemble.members[0].mean[2] = 1000.0
    np.testing.assert_allclose(ensemble.states(tiles()).log_hazard, alone(ensemble, tiles()), atol=1e-5)


def test_more_tiles_than_one_block(monkeypatch, alone):
    monkeypatch.setattr("wsisurv.models.fast_ensemble._BLOCK_TILES", 16)
    ensemble = make()
    values = tiles(50)
    values[40, 0] = 5000
    got = ensemble.states(values).log_hazard
    np.testing.assert_allclose(got, alone(ensemble, values), atol=1e-5)


def test_tiles_in_another_order_and_features_of_double_width_are_the_same():
    ensemble, values = make(), tiles()
    found = ensemble.states(values).log_hazard
    np.testing.assert_allclose(ensemble.states(values[::-1].copy()).log_hazard, found, atol=1e-5)
    np.testing.assert_allclose(ensemble.states(values.astype(np.float32)).log_hazard, found, atol=1e-6)


def low_rank(ranks, n_features=64, hidden=16, hard=None) -> Ensemble:
    """Members whose first layer is of these ranks, folded in single precision, its directions 100 times apart."""
    g = torch.Generator().manual_seed(0)
    made = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number, rank in enumerate(ranks):
            mean, sd = torch.randn(n_features, generator=g) + 3, torch.rand(n_features, generator=g) + 0.5
            student = Student(n_features, hidden, 0.0, mean, sd)
            along = torch.randn(rank, n_features, generator=g) * torch.logspace(0, -2, rank).unsqueeze(1)
            student.embed.weight.data = torch.randn(hidden, rank, generator=g) @ along / n_features**0.5
            if hard is not None:
                student.filter = TileFilter(n_features, hard=hard, keep_share=0.4)
            made.append((student, 0.1 * number))
    return ensemble_of(made)


@pytest.mark.parametrize(
    ("ranks", "n_features", "hidden", "columns"),
    [
        ((3, 3, 3), 64, 16, 16),  # 9, and zeros up to a full 16
        ((2, 3, 1, 5, 5), 101, 16, 16),  # 16 as they are
        ((2, 16, 1), 300, 16, 32),  # one full, and yet 19 of 48
        ((1,), 40, 16, 16),
        ((0, 2), 64, 16, 16),
        ((7, 7, 7), 64, 16, 48),  # 21 of 48 directions, but the second product takes back what the first saves
        ((16, 16, 2), 64, 16, 48),
        ((3, 3), 3, 64, 128),  # of low rank, but there are no more features
    ],
)
@pytest.mark.parametrize("hard", [None, True, False])
def test_members_of_low_rank_say_what_each_says_alone_by_fewer_columns(ranks, n_features, hidden, columns, hard, alone):
    ensemble = low_rank(ranks, n_features, hidden, hard)
    assert ensemble.fast._weight.shape[1] == columns
    rng = np.random.default_rng(2)
    for n in (1, 60, 1100):
        values = rng.normal(3, 1, (n, n_features)).astype(np.float16)
        for first in (values[0], 5000):  # which each clamps as it would
            values[0] = first
            got, bag = ensemble.states(values), pack([values])
            np.testing.assert_allclose(got.log_hazard, alone(ensemble, values), atol=1e-5)
            with torch.inference_mode():
                pooled = [member.pooled(member.kept(bag))[0].numpy() for member in ensemble.members]
            np.testing.assert_allclose(got.pooled, pooled, atol=1e-5)


def test_weights_that_are_no_numbers_give_no_number_and_no_traceback():
    ensemble = low_rank((2, 2))
    ensemble.members[1].embed.weight.data[3, 4] = np.nan
    assert np.isfinite(ensemble.states(np.ones((2, 64), np.float16)).log_hazard).tolist() == [True, False]


def test_what_does_not_fit_is_refused():
    with pytest.raises(EncoderMismatchError, match="10 columns"):
        make().states(np.zeros((3, 9), np.float16))
    ensemble = make()
    ensemble.members[1].mean = torch.zeros(9)
    with pytest.raises(FormatError, match="don't fit each other"):
        ensemble.states(np.zeros((3, 10), np.float16))
