import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.bags.packed import PackedBags, attention_pool, bags_of, pack, sample_rows, segment_softmax, segment_sum


def some_bags(lengths, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (n, d)) for n in lengths]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(0, 100))
def test_a_bag_is_pooled_in_a_pack_as_alone_and_in_any_order(lengths, seed):
    arrays = some_bags(lengths, seed=seed)
    score = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)

    def pooled(arrays):
        bags = pack(arrays)
        return attention_pool(bags.rows, bags.rows @ score, bags)

    alone = torch.cat([pooled([array]) for array in arrays])
    torch.testing.assert_close(pooled(arrays), alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(pooled(arrays[::-1]).flip(0), alone, rtol=0, atol=1e-12)
    shuffled = [np.random.default_rng(seed).permutation(array) for array in arrays]
    torch.testing.assert_close(pooled(shuffled), alone, rtol=0, atol=1e-12)


def test_pooling_is_the_textbook_softmax():
    arrays = some_bags([4, 1, 6])
    bags = pack(arrays)
    scores = torch.randn(11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = torch.split(scores, [4, 1, 6])
    expected = [torch.softmax(s, 0) @ torch.tensor(a) for s, a in zip(parts, arrays, strict=True)]
    torch.testing.assert_close(attention_pool(bags.rows, scores, bags), torch.stack(expected))
    torch.testing.assert_close(segment_softmax(scores, bags), torch.cat([torch.softmax(s, 0) for s in parts]))


def test_pooling_has_the_gradient_of_finite_differences():
    bags = pack(some_bags([3, 2]))
    values = bags.rows.clone().requires_grad_()
    scores = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, s: attention_pool(v, s, bags), (values, scores))


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_huge_scores_do_not_overflow(shift):
    bags = pack(some_bags([3, 3]))
    share = segment_softmax(torch.tensor([shift, 0, 1, 2, 3, 4]), bags)
    torch.testing.assert_close(segment_sum(share, bags), torch.ones(2))


def test_select_takes_bags_in_the_order_asked_and_more_than_once():
    arrays = some_bags([2, 5, 1])
    chosen = bags_of(pack(arrays)).select(torch.tensor([2, 0, 2])).load()
    expected = pack([arrays[2], arrays[0], arrays[2]])
    assert torch.equal(chosen.rows, expected.rows)
    assert torch.equal(chosen.offsets, expected.offsets)


def test_an_empty_bag_is_refused():
    with pytest.raises(ValueError, match="without rows"):
        pack([np.ones((2, 3)), np.ones((0, 3))])


def test_sampling_leaves_short_bags_whole_and_draws_every_row_alike():
    lengths = torch.tensor([4, 23])
    rows = torch.arange(27, dtype=torch.float64)[:, None]
    bags = bags_of(PackedBags(rows, torch.tensor([0, 4, 27])))
    generator = torch.Generator().manual_seed(0)
    seen = torch.zeros(27)
    for _ in range(2000):
        drawn = sample_rows(bags, 7, generator)
        assert drawn.lengths.tolist() == [4, 7]
        assert drawn.index[:4].tolist() == [0, 1, 2, 3]
        assert bool((drawn.index[4:] >= 4).all())
        seen += torch.bincount(drawn.index, minlength=27)
    torch.testing.assert_close(seen[4:] / 2000, torch.full((23,), 7 / 23), rtol=0.15, atol=0)
    assert sample_rows(bags, 0, generator) is bags
    assert sample_rows(bags, int(lengths.max()), generator) is bags
