"""Shares of the work for job arrays."""

import pytest

from wsisurv.engine.shards import Shard, parse_shard
from wsisurv.errors import SettingsError


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "a/b", "3/8/1", "-1/8", "1/0", "slurm"])
def test_a_shard_that_cannot_be_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(SettingsError, match="3/8"):
        parse_shard(text)
    assert parse_shard("3/8") == Shard(3, 8)


@pytest.mark.parametrize(
    ("own", "first", "last", "count", "number"),
    [(0, 0, 7, 8, 1), (7, 0, 7, 8, 8), (1, 1, 8, 8, 1), (4, 0, 14, 8, 3), (5, 5, 5, 1, 1)],
)
def test_an_array_task_is_its_place(
    own: int, first: int, last: int, count: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ID": own, "MIN": first, "MAX": last, "COUNT": count}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert parse_shard("slurm") == Shard(number, count)


@pytest.mark.parametrize(("own", "count"), [(5, 3), (12, 10)])  # --array 0,5,9, and none of its tasks
def test_an_array_with_gaps_is_refused(own: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ID": own, "MIN": 0, "MAX": 9, "COUNT": count}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    with pytest.raises(SettingsError, match="not evenly spaced"):
        parse_shard("slurm")


def test_shards_are_all_and_none_twice() -> None:
    items = list(range(10))
    assert sorted(item for n in range(1, 5) for item in Shard(n, 4).of(items)) == items
    assert Shard(20, 20).of(items) == []
