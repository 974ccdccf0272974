"""Aggregators that a package of the user's own adds."""

import sys

import numpy as np
import pytest
import torch

from wsisurv.bags.packed import pack
from wsisurv.errors import FormatError, SettingsError
from wsisurv.models.aggregators.registry import make_aggregator
from wsisurv.models.student import Student
from wsisurv.settings.base import parse_settings
from wsisurv.settings.training import DistillSettings

POOLING = '''
import torch
from wsisurv.bags.segments import segment_softmax, segment_sum
from wsisurv.models.aggregators.pooling import Aggregator, Parts


class Bright(Aggregator):
    """Tiles count by their first unit."""

    exact = True

    def __init__(self, width):
        super().__init__()

    def pool(self, state, bags):
        parts = self.parts(state, bags)
        return segment_sum(parts.share.unsqueeze(1) * parts.value, bags)

    def parts(self, state, bags):
        return Parts(segment_softmax(state[:, 0], bags), state)


class Leaking(Bright):
    def pool(self, state, bags):
        return super().pool(state - state.mean(0), bags)


class Ordered(Bright):
    def parts(self, state, bags):
        return Parts(segment_softmax(torch.arange(len(state)).float(), bags), state)


class Lying(Bright):
    def parts(self, state, bags):
        return Parts(segment_softmax(state[:, 1], bags), state)

    def pool(self, state, bags):
        return Bright.parts(self, state, bags).value.new_ones(bags.n_bags, state.shape[1])


def broken(width):
    raise RuntimeError("out of ideas")


not_one = torch.nn.Linear
'''


def aggregators(**names):
    return {"wsisurv.aggregators": {name.replace("_", "-"): f"their_pooling:{thing}" for name, thing in names.items()}}


def test_an_aggregator_of_a_package_is_a_setting_and_trains(install):
    install("their_pooling", POOLING, aggregators(bright="Bright"))
    assert "their_pooling" not in sys.modules
    assert parse_settings(DistillSettings, {"aggregator": "bright"}).aggregator == "bright"
    assert "their_pooling" not in sys.modules  # a setting imports nothing
    student = Student(5, 8, 0.0, torch.zeros(5), torch.ones(5), "bright").eval()
    bags = [np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32) for n in (3, 1, 7)]
    with torch.inference_mode():
        state = student.tiles(torch.from_numpy(bags[2]))
        pooled = student.pooled(pack(bags))
    share = torch.softmax(state[:, 0], 0)
    torch.testing.assert_close(pooled[2], share @ state)


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        ("Leaking", "another state beside others"),
        ("Ordered", "another order of its tiles"),
        ("Lying", "don't add up"),
        ("broken", "fails on a few tiles .RuntimeError: out of ideas"),
        ("not_one", "fails on a few tiles"),
        ("missing", "can't be loaded .AttributeError"),
    ],
)
def test_an_aggregator_that_would_be_wrong_is_refused_by_package_and_entry_point(install, thing, says):
    install("their_pooling", POOLING, aggregators(theirs=thing))
    with pytest.raises(SettingsError, match=f"their_pooling 1.2: its entry point 'theirs' of wsisurv.aggr.*{says}"):
        make_aggregator("theirs", 8)


def test_the_name_of_one_of_ours_is_refused(install):
    install("their_pooling", POOLING, aggregators(abmil="Bright"))
    with pytest.raises(SettingsError, match="their_pooling 1.2: its entry point 'abmil'.*takes a name of wsisurv's"):
        parse_settings(DistillSettings, {"aggregator": "mean"})


def test_one_name_of_two_packages_is_refused(install):
    install("their_pooling", POOLING, aggregators(bright="Bright"))
    install("their_other", "", {"wsisurv.aggregators": {"bright": "their_other:x"}}, version="3")
    with pytest.raises(SettingsError, match="takes a name that their_(pooling 1.2|other 3) has"):
        parse_settings(DistillSettings, {"aggregator": "bright"})


def test_a_model_whose_package_is_gone_says_so():
    with pytest.raises(FormatError, match="aggregator 'bright'.*a package that is not installed"):
        make_aggregator("bright", 8)
