import numpy as np
import pytest
import torch

from wsisurv.bags.packed import PackedBags, bags_of, pack
from wsisurv.training import duplicates
from wsisurv.training.duplicates import merge_duplicates, representatives


def tiles(n, seed=0, width=6):
    return np.random.default_rng(seed).normal(0, 1, (n, width)).astype(np.float32)


def test_exact_duplicates_become_one_tile_of_their_number():
    base = tiles(5)
    repeated = base[[0, 1, 1, 2, 3, 3, 3, 4]]
    merged = merge_duplicates(bags_of(pack([repeated, tiles(4, 1), np.ones((3, 6), np.float32)])), 0.999).load()
    assert merged.weight is not None
    assert merged.lengths.tolist() == [5, 4, 1]
    assert merged.weight.tolist() == [1, 2, 1, 3, 1, 1, 1, 1, 1, 3]
    np.testing.assert_array_equal(merged.rows[:5], base)


def test_weights_are_those_of_all_tiles_that_are_represented():
    bags = bags_of(pack([tiles(60), tiles(25, 1)]))
    merged = merge_duplicates(bags, 0.5)
    assert merged.weight is not None
    assert 2 < len(merged.index) < 60
    first = int(merged.offsets[1])
    assert float(merged.weight[:first].sum()) == 60
    assert float(merged.weight[first:].sum()) == 25
    again = PackedBags(torch.from_numpy(tiles(60)), torch.tensor([0, 60]), torch.full((60,), 2.0))
    twice = merge_duplicates(bags_of(again), 0.5)
    assert twice.weight is not None
    torch.testing.assert_close(twice.weight, 2 * merged.weight[:first])


@pytest.mark.parametrize("block", [1, 7, 256])
def test_neither_the_order_of_the_tiles_nor_the_blocks_of_the_work_matter(monkeypatch, block):
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    rows = torch.from_numpy(tiles(80))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    plain, turned = representatives(rows, 0.5), representatives(rows[order], 0.5)
    torch.testing.assert_close(order[turned], plain[order])


def test_each_tile_is_like_the_one_that_stands_for_it_and_those_are_unlike_each_other():
    rows = torch.from_numpy(tiles(80))
    stands_for = representatives(rows, 0.5)
    scaled = (rows - rows.mean(0)) / rows.std(0, correction=0)
    cosine = torch.nn.functional.cosine_similarity(scaled.unsqueeze(1), scaled.unsqueeze(0), dim=2)
    assert float(cosine[torch.arange(80), stands_for].min()) >= 0.5
    heads = torch.unique(stands_for)
    assert (stands_for[heads] == heads).all()
    among = cosine[heads][:, heads] - 2 * torch.eye(len(heads))
    assert float(among.max()) < 0.5
