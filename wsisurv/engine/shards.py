"""Shares of the work, for job arrays on a cluster."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from wsisurv.errors import SettingsError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One part of the slides, so that a job array shares them: number 1 to ``count``."""

    number: int
    count: int

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Its items: every ``count``-th, so that neighbours, often alike in size, are spread."""
        return list(items[self.number - 1 :: self.count])


def parse_shard(text: str | None) -> Shard | None:
    """Read ``3/8``, or take ``slurm``: this task's place in its SLURM job array; None is all of the work.

    Raises:
        SettingsError: it is no such pair, or this is no task of an array.
    """
    if text is None:
        return None
    if text == "slurm":
        return _of_array()
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise SettingsError(f"shard {text!r}: not NUMBER/COUNT with 1 ≤ NUMBER ≤ COUNT, such as 3/8, nor slurm")
    return Shard(int(number), int(count))


def _of_array() -> Shard:
    words = [os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("ID", "MIN", "MAX", "COUNT")]
    if not all(word.isdecimal() for word in words):
        raise SettingsError("shard slurm: this is no task of a SLURM job array (`sbatch --array 1-8`); say 3/8")
    own, first, last, count = map(int, words)
    # of --array 0-14:2 the tasks are 0, 2, …; where they are not evenly spaced, which place is ours can't be told
    step, rest = divmod(last - first, max(count - 1, 1))
    if count < 1 or rest or (own - first) % max(step, 1) or not first <= own <= last:
        raise SettingsError(
            f"shard slurm: the array's tasks from {first} to {last} are not evenly spaced; use --array 1-{count}"
        )
    return Shard((own - first) // max(step, 1) + 1, count)
