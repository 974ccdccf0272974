import pytest
import torch

from wsisurv.bags.packed import Bags, HeldRows, offsets_of
from wsisurv.training.loop import seeded, threads_for


def bags(n_bags, tiles, features):
    """Bags of which only the size is asked."""
    lengths = torch.full((n_bags,), tiles)
    return Bags(HeldRows(torch.empty(1, features)), torch.arange(0), offsets_of(lengths))


@pytest.mark.parametrize(
    ("cohort", "tiles_per_bag", "threads"),
    [((200, 5000, 256), 64, 1), ((1000, 5000, 1024), 64, 3), ((200, 5000, 256), 0, 3), ((500, 5000, 1024), 64, 1)],
)
def test_threads_follow_the_work_and_are_given_back(cohort, tiles_per_bag, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with threads_for(bags(*cohort), tiles_per_bag):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_seeded_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1, torch.device("cpu")):
        torch.rand(100)
    assert torch.equal(torch.rand(3), expected)
