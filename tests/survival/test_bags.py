from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.bags.packed import HeldRows, PackedBags, bags_of, pack, sample_rows
from wsisurv.bags.segments import _sums_of_sums, attention_pool, segment_softmax, segment_sum

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


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


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_the_sums_of_a_gpu_are_those_of_numpy_with_their_gradient(shape, device):
    """In two rounds: bags of less than a run of rows, of a whole number of runs, and one row more."""
    lengths = [1, 127, 128, 129, 256, 700, 5]
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (sum(lengths), *shape))
    wanted = np.stack([part.sum(0) for part in np.split(values, np.cumsum(lengths)[:-1])])
    there = torch.tensor(values, device=device, requires_grad=True)
    sums = _sums_of_sums(there, torch.tensor(lengths, device=device))
    np.testing.assert_allclose(sums.detach().cpu(), wanted, atol=1e-12)
    factors = torch.from_numpy(rng.normal(0, 1, wanted.shape)).to(device)
    (sums * factors).sum().backward()
    np.testing.assert_array_equal(there.grad.cpu(), np.repeat(factors.cpu().numpy(), lengths, axis=0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_gpu_pools_as_the_cpu_with_its_gradient(shape):
    """With and without heads; one bag is longer than a run of rows that a thread adds up."""
    lengths, found = [1, 127, 700], []
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(0)
        sizes = ((sum(lengths), *shape, 4), (sum(lengths), *shape), (len(lengths), *shape, 4))
        values, scores, factors = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
        rows = pack([np.zeros((n, 1)) for n in lengths]).to(torch.device(device))
        weighted = replace(rows, weight=torch.rand(sum(lengths), generator=generator).to(device))
        values, scores = (one.to(device).requires_grad_() for one in (values, scores))
        pooled = attention_pool(values, scores, weighted)
        (pooled * factors.to(device)).sum().backward()
        found.append([one.detach().cpu() for one in (pooled, values.grad, scores.grad)])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_takes_a_table_for_which_only_torch_holds_room():
    """Memory that torch keeps from tensors that are gone is free for this process, though the driver counts it."""
    device, gib = torch.device("cuda"), 1 << 30
    torch.cuda.empty_cache()  # what earlier tests left
    free, _ = torch.cuda.mem_get_info(device)
    others = torch.empty(free - 2 * gib, dtype=torch.uint8, device=device)
    gone = torch.empty(gib, dtype=torch.uint8, device=device)
    del gone
    table = HeldRows(torch.zeros(gib // 6, 1))
    assert table.on(device).rows.is_cuda
    assert table.on(device).rows is table.on(device).rows, "it goes there once"
    del table
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    assert kept >= gib // 2
    seen = bags_of(pack([np.zeros((5, 2))])).on(device).keep_bytes
    assert abs(seen - (free + kept) // 4) <= 4 << 20  # the five rows went there too
    del others
    torch.cuda.empty_cache()
