import numpy as np
import pytest
import torch

from wsisurv.bags.packed import PackedBags, bags_of, pack
from wsisurv.errors import FormatError, SettingsError
from wsisurv.formats.models import ModelFile
from wsisurv.models.aggregators.registry import KINDS as KINDS_BY_NAME
from wsisurv.models.aggregators.registry import make_aggregator
from wsisurv.models.ensemble import ensemble_of, load_student
from wsisurv.models.student import Student
from wsisurv.settings.base import parse_settings
from wsisurv.settings.training import AGGREGATORS, DistillSettings
from wsisurv.survival.losses import discrete_log_hazard

KINDS = ["mean", "abmil", "selfattention"]
BINS = [1, 4]


def ensemble(kind, n_bins):
    torch.manual_seed(0)
    mean, sd = torch.randn(5), torch.rand(5) + 0.5
    return ensemble_of([(Student(5, 8, 0.3, mean, sd, kind, n_bins), centre) for centre in (0.1, -0.4)])


def bag(n, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (n, 5)).astype(np.float16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bins", BINS)
def test_a_case_scores_in_a_pack_as_alone_in_any_order_of_tiles(kind, n_bins, alone):
    model = ensemble(kind, n_bins)
    bags = [bag(n, n) for n in (7, 1, 40, 7)]
    packed = np.array([state.log_hazard.mean() for state in model.states_of(bags_of(pack(bags)))])
    assert len(set(packed.round(6))) == 3
    for number, one in enumerate(bags):
        assert alone(model, one).mean() == pytest.approx(packed[number], abs=2e-6)
        assert model.log_hazard(one[::-1]) == pytest.approx(packed[number], abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bins", BINS)
def test_all_members_at_once_say_what_each_says(kind, n_bins, alone):
    model = ensemble(kind, n_bins)
    np.testing.assert_allclose(model.states(bag(40)).log_hazard, alone(model, bag(40)), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bins", BINS)
def test_attention_sums_to_one_and_contributions_to_the_log_hazard(kind, n_bins, alone):
    model, tiles = ensemble(kind, n_bins), bag(30)
    scores = model.tile_scores(tiles)
    assert scores.attention.sum() == pytest.approx(1)
    assert scores.attention.min() >= 0
    assert scores.contribution.sum() == pytest.approx(alone(model, tiles).mean(), abs=1e-5)
    assert scores.exact is (kind != "selfattention" and n_bins == 1)
    assert scores.contribution.std() > 1e-4
    turned = model.tile_scores(tiles[::-1])
    np.testing.assert_allclose(turned.contribution[::-1], scores.contribution, atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "abmil"])
def test_an_exact_contribution_is_what_the_tile_would_be_alone(kind):
    model, tiles = ensemble(kind, 1), bag(6)
    member, centre = model.members[0], model.centres[0]
    with torch.inference_mode():
        parts = member.parts(pack([tiles]))
        alone = [float(member(pack([tiles[i : i + 1]]))) for i in range(6)]
    np.testing.assert_allclose(parts.log_hazard, alone, atol=1e-6)
    assert centre == 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bins", BINS)
def test_a_row_of_weight_three_counts_like_three_rows(kind, n_bins):
    model, tiles = ensemble(kind, n_bins), bag(4)
    repeated = pack([tiles[[0, 1, 1, 1, 2, 3, 3]], bag(3)])
    once = pack([tiles, bag(3)])
    weighted = PackedBags(once.rows, once.offsets, torch.tensor([1.0, 3, 1, 2, 1, 1, 1]))
    with torch.inference_mode():
        for member in model.members:
            np.testing.assert_allclose(member(weighted), member(repeated), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight_and_are_finite(kind):
    torch.manual_seed(1)
    student = Student(5, 8, 0.3, torch.zeros(5), torch.ones(5), kind)
    student(pack([bag(9), bag(20, 1)])).diff().sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bins", BINS)
def test_a_model_file_says_which_aggregator_and_gives_the_same_risks(kind, n_bins):
    model = ensemble(kind, n_bins)
    again = load_student(ModelFile(model.arrays(), {}))
    assert again.members[0].aggregator == kind
    np.testing.assert_array_equal(again.members_log_hazard(bag(12)), model.members_log_hazard(bag(12)))


def test_a_file_of_before_aggregators_had_names_is_abmil():
    arrays = ensemble("abmil", 1).arrays()
    del arrays["aggregator"]
    assert load_student(ModelFile(arrays, {})).members[0].aggregator == "abmil"


def test_an_unknown_aggregator_is_refused():
    with pytest.raises(FormatError, match="known are mean, abmil, selfattention"):
        make_aggregator("median", 8)
    arrays = ensemble("abmil", 1).arrays() | {"aggregator": np.frombuffer(b"median", np.uint8)}
    with pytest.raises(FormatError, match="median"):
        load_student(ModelFile(arrays, {}))


def test_the_mean_is_the_mean():
    model = ensemble("mean", 1)
    member, tiles = model.members[0], bag(9)
    state = member.tiles(torch.from_numpy(tiles)).detach().numpy()
    weight = member.hazard.weight.detach().numpy()[0]
    assert model.members_log_hazard(tiles)[0] == pytest.approx(state.mean(0) @ weight - 0.1, abs=1e-6)


def test_the_tangent_of_discrete_hazards_is_their_gradient():
    model = ensemble("abmil", 4)
    member, bags = model.members[0], pack([bag(9)])
    output = member.hazard(member.pooled(bags)).double().detach().requires_grad_()
    discrete_log_hazard(output).sum().backward()
    each = member.hazard(member.attention.parts(member.tiles(bags.rows), bags).value).double()
    told = member.parts(bags).log_hazard
    expected = discrete_log_hazard(output) + ((each - output) * output.grad).sum(1)
    torch.testing.assert_close(told, expected)


def test_the_settings_name_the_aggregators_of_the_registry_and_no_others():
    assert {*AGGREGATORS, "transmil"} == set(KINDS_BY_NAME)
    for name in AGGREGATORS:
        assert DistillSettings(aggregator=name).aggregator == name
    assert DistillSettings(aggregator="transmil").aggregator == "selfattention"  # as it was called before
    with pytest.raises(SettingsError, match="aggregator: .*known are mean, abmil, selfattention;.*'avg'"):
        parse_settings(DistillSettings, {"aggregator": "avg"})
