import pytest
import torch

from wsisurv.bags.packed import Bags, HeldRows, offsets_of
from wsisurv.errors import DeviceError
from wsisurv.settings.training import DistillSettings
from wsisurv.training.loop import Log, minimise, seeded, threads_for


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


def test_a_device_that_is_full_is_named_with_ways_out(tmp_path):
    net = torch.nn.Linear(2, 1)

    def loss():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(DeviceError, match="plain student 1: no room on cpu .*20.00 GiB.*--memory.*--device cpu"):
        minimise(
            net,
            loss,
            DistillSettings(epochs=1),
            part="plain student 1",
            log=Log(tmp_path / "history.jsonl", "distill", lambda *_: None),
        )
