import pytest
import torch

from wsisurv.bags.packed import PackedBags, bags_of, offsets_of
from wsisurv.training.mixup import mix, similar_partners


def test_partners_are_others_of_similar_rank():
    generator = torch.Generator().manual_seed(0)
    risk = torch.randn(50, generator=generator)
    rank = torch.argsort(torch.argsort(risk))
    for _ in range(30):
        partner = similar_partners(risk, 4, generator)
        distance = (rank[partner] - rank).abs()
        assert int(distance.min()) >= 1
        assert int(distance.max()) <= 4


def test_two_cases_are_each_others_partner():
    assert similar_partners(torch.tensor([1.0, 2.0]), 10, torch.Generator().manual_seed(0)).tolist() == [1, 0]


def test_a_mixed_bag_holds_rows_of_both_in_the_drawn_shares():
    bag_of_row = torch.arange(6).repeat_interleave(20)
    rows = torch.stack([bag_of_row.double(), torch.arange(120).double()], 1)
    bags = bags_of(PackedBags(rows, torch.arange(0, 121, 20)))
    first, second = torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4])
    mixed = mix(bags, first, second, torch.Generator().manual_seed(3))
    for i in range(3):
        part = mixed.bags.select(torch.tensor([i])).load().rows
        share = float((part[:, 0] == first[i]).sum()) / len(part)
        assert set(part[:, 0].tolist()) == {float(first[i]), float(second[i])}
        assert abs(share - float(mixed.share[i])) < 0.06
        assert len(set(part[:, 1].tolist())) == len(part)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_shares_are_those_drawn_whatever_the_lengths_and_weights_of_the_bags(weighted):
    lengths = torch.tensor([5, 40, 300, 17])
    bag_of_row = torch.arange(4).repeat_interleave(lengths)
    weight = torch.rand(362, generator=torch.Generator().manual_seed(0)) + 0.1 if weighted else None
    bags = bags_of(PackedBags(bag_of_row.double().unsqueeze(1), offsets_of(lengths), weight))
    mixed = mix(bags, torch.tensor([0, 1, 2]), torch.tensor([2, 3, 0]), torch.Generator().manual_seed(3))
    loaded = mixed.bags.load()
    for i in range(3):
        rows = slice(int(loaded.offsets[i]), int(loaded.offsets[i + 1]))
        of_first = loaded.rows[rows, 0] == int(mixed.first[i])
        own = loaded.weight[rows]
        assert float(own[of_first].sum()) == pytest.approx(float(mixed.share[i]), abs=1e-5)
        assert float(own.sum()) == pytest.approx(1, abs=1e-5)


def test_bags_of_one_length_need_no_weights():
    bags = bags_of(PackedBags(torch.zeros(40, 1), torch.arange(0, 41, 20)))
    assert mix(bags, torch.tensor([0]), torch.tensor([1]), torch.Generator().manual_seed(0)).bags.weight is None
