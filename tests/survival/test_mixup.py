import torch

from wsisurv.survival.bags import PackedBags, bags_of
from wsisurv.survival.mixup import mix, similar_partners


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
