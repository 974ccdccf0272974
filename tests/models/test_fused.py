"""All members at once give what each gives by itself."""

import numpy as np
import pytest
import torch

from wsisurv.errors import EncoderMismatchError, FormatError
from wsisurv.models.filter import TileFilter
from wsisurv.models.fused import FusedEnsemble
from wsisurv.models.student import Ensemble, Student, ensemble_of
from wsisurv.survival.bags import pack

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


@pytest.mark.parametrize("aggregator", ["abmil", "mean", "transmil"])
@pytest.mark.parametrize("n_bins", [1, 4])
@pytest.mark.parametrize("hard", [None, True, False])
def test_fused_members_say_what_each_says_alone(aggregator, n_bins, hard):
    ensemble = make(aggregator, n_bins, hard=hard)
    got = FusedEnsemble(ensemble)(tiles())
    np.testing.assert_allclose(got.log_hazard, ensemble.members_log_hazard(tiles()), atol=1e-5)
    assert got.pooled.shape == (3, 8)
    bag = pack([tiles()])
    with torch.inference_mode():
        alone = [member.pooled(member.kept(bag))[0].numpy() for member in ensemble.members]
    np.testing.assert_allclose(got.pooled, alone, atol=1e-5)


@pytest.mark.parametrize("far", [60.0, -5000.0, 60000.0])
def test_tiles_that_members_clamp_are_clamped_by_each_as_it_would(far):
    ensemble = make()
    values = tiles()
    values[[3, 7], [1, 4]] = far
    values[9] = far
    got = FusedEnsemble(ensemble)(values).log_hazard
    np.testing.assert_allclose(got, ensemble.members_log_hazard(values), atol=1e-5)


def test_members_that_disagree_on_a_feature_entirely():
    ensemble = make()
    ensemble.members[0].mean[2] = 1000.0
    np.testing.assert_allclose(
        FusedEnsemble(ensemble)(tiles()).log_hazard, ensemble.members_log_hazard(tiles()), atol=1e-5
    )


def test_more_tiles_than_one_block(monkeypatch):
    monkeypatch.setattr("wsisurv.models.fused._BLOCK_TILES", 16)
    ensemble = make()
    values = tiles(50)
    values[40, 0] = 5000
    got = FusedEnsemble(ensemble)(values).log_hazard
    np.testing.assert_allclose(got, ensemble.members_log_hazard(values), atol=1e-5)


def test_tiles_in_another_order_and_features_of_double_width_are_the_same():
    fused, values = FusedEnsemble(make()), tiles()
    np.testing.assert_allclose(fused(values[::-1].copy()).log_hazard, fused(values).log_hazard, atol=1e-5)
    np.testing.assert_allclose(fused(values.astype(np.float32)).log_hazard, fused(values).log_hazard, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(EncoderMismatchError, match="10 columns"):
        FusedEnsemble(make())(np.zeros((3, 9), np.float16))
    ensemble = make()
    ensemble.members[1].mean = torch.zeros(9)
    with pytest.raises(FormatError, match="don't fit each other"):
        FusedEnsemble(ensemble)
