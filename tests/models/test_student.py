import numpy as np
import pytest
import torch

from wsisurv.bags.packed import bags_of, pack
from wsisurv.errors import EncoderMismatchError, FormatError
from wsisurv.formats.models import ModelFile
from wsisurv.models.ensemble import ensemble_of, load_student
from wsisurv.models.student import Student


@pytest.fixture
def ensemble():
    torch.manual_seed(0)
    mean, sd = torch.randn(5), torch.rand(5) + 0.5
    return ensemble_of([(Student(5, 8, 0.3, mean, sd), 0.1), (Student(5, 8, 0.3, mean, sd), -0.4)])


def bag(n, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (n, 5)).astype(np.float16)


def test_a_case_scores_in_a_pack_as_alone_in_any_order_of_tiles(ensemble, alone):
    bags = [bag(n, n) for n in (1, 7, 40)]
    packed = [state.log_hazard.mean() for state in ensemble.states_of(bags_of(pack(bags)))]
    for number, one in enumerate(bags):
        assert alone(ensemble, one).mean() == pytest.approx(packed[number], abs=1e-6)
        assert ensemble.log_hazard(one[::-1]) == pytest.approx(packed[number], abs=1e-6)
    assert ensemble.members_log_hazard(bags[1]).mean() == pytest.approx(ensemble.log_hazard(bags[1]))


def test_attention_sums_to_one_and_contributions_to_the_log_hazard(ensemble, alone):
    tiles = bag(30)
    scores = ensemble.tile_scores(tiles)
    assert scores.attention.sum() == pytest.approx(1)
    assert scores.attention.min() >= 0
    assert scores.contribution.sum() == pytest.approx(alone(ensemble, tiles).mean(), abs=1e-6)


def test_units_of_the_features_do_not_matter():
    torch.manual_seed(0)
    mean, sd = torch.randn(5), torch.rand(5) + 0.5
    one = Student(5, 8, 0.0, mean, sd).eval()
    other = Student(5, 8, 0.0, mean * 64, sd * 64).eval()
    other.load_state_dict(one.state_dict() | {"mean": mean * 64, "sd": sd * 64})
    tiles = bag(9).astype(np.float32)
    torch.testing.assert_close(one(pack([tiles])), other(pack([tiles * 64])))


def test_a_model_file_gives_the_same_risks(ensemble):
    again = load_student(ModelFile(ensemble.arrays(), {}))
    np.testing.assert_array_equal(again.members_log_hazard(bag(12)), ensemble.members_log_hazard(bag(12)))


def test_features_of_another_width_are_refused(ensemble):
    with pytest.raises(EncoderMismatchError, match="trained on 5 columns"):
        ensemble.log_hazard(np.ones((4, 6), np.float16))


@pytest.mark.parametrize("name", ["centres", "members/1/hazard.weight", "members/0/mean"])
def test_a_file_without_an_array_is_refused(ensemble, name):
    arrays = ensemble.arrays()
    del arrays[name]
    with pytest.raises(FormatError, match="Train it again"):
        load_student(ModelFile(arrays, {}))
