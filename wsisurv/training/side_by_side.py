"""Members of an ensemble side by side: tiles are drawn and scaled once for all that are trained on their case."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsisurv.bags.packed import Bags, Moments, PackedBags, RowSums, in_parts, row_sums
from wsisurv.models.scaled_linear import SharedScaling
from wsisurv.models.student import Student, tiles_of

Numbered = Sequence[tuple[int, Student]]
"""Students, each with its number among the members."""


@dataclass(frozen=True)
class _TrainedAlike:
    """Cases that the same members are trained on."""

    cases: Tensor  # int64 (n,), their numbers
    members: tuple[int, ...]  # numbers of the members


@dataclass(frozen=True)
class SharedCases:
    """Which members are trained on which cases."""

    trains: tuple[Tensor, ...]  # int64 (n_train,), numbers of each member's training cases, none twice

    @cached_property
    def groups(self) -> list[_TrainedAlike]:
        """The cases by who is trained on them; cases of no member are left out."""
        n_cases = 1 + max(int(train.max()) for train in self.trains)
        seen = np.zeros((n_cases, len(self.trains)), dtype=np.bool_)
        for member, train in enumerate(self.trains):
            seen[train.numpy(), member] = True
        patterns, group_of = np.unique(seen, axis=0, return_inverse=True)
        return [
            _TrainedAlike(
                torch.from_numpy(np.flatnonzero(group_of.ravel() == group)), tuple(np.flatnonzero(pattern).tolist())
            )
            for group, pattern in enumerate(patterns)
            if pattern.any()
        ]

    def moments(self, bags: Bags) -> list[Moments]:
        """Mean and standard deviation of the rows of each member's own training cases."""
        sums: list[RowSums | None] = [None] * len(self.trains)
        for group in self.groups:
            found = row_sums(bags.select(group.cases))
            for member in group.members:
                so_far = sums[member]
                sums[member] = found if so_far is None else so_far + found
        return [one.moments for one in sums if one is not None]

    def outputs(
        self, students: Sequence[Student], states: Callable[[Numbered, PackedBags], list[Tensor]], bags: Bags
    ) -> list[Tensor]:
        """Each student's outputs (n_train, n_bins) of its training cases, in their order.

        Args:
            students: the members, on the device of the bags.
            states: gives the hidden state of tiles by each of some students, as ``states_of``.
            bags: of all cases.
        """
        groups = self.groups
        found: list[list[Tensor]] = [[] for _ in students]
        seen: list[list[Tensor]] = [[] for _ in students]
        share = bags.keep_bytes // len(groups)  # what one pass over all may keep
        for group in groups:
            numbered = [(member, students[member]) for member in group.members]
            widths = [student.hazard.out_features for _, student in numbered]

            def together(packed: PackedBags, numbered: Numbered = numbered) -> Tensor:
                found = zip(numbered, states(numbered, packed), strict=True)
                outputs = [one.output_of(state, packed) for (_, one), state in found]
                return torch.cat(outputs, 1)

            output = in_parts(together, replace(bags.select(group.cases), keep_bytes=share))
            for member, one in zip(group.members, torch.split(output, widths, 1), strict=True):
                found[member].append(one)
                seen[member].append(group.cases)
        return [
            torch.cat(one)[_places(torch.cat(cases), train).to(one[0].device)]
            for one, cases, train in zip(found, seen, self.trains, strict=True)
        ]


def states_of(students: Numbered, packed: PackedBags, scaling: SharedScaling) -> list[Tensor]:
    """Hidden state of tiles as each student's aggregator sees them, (n_tiles, hidden) each."""
    tiles = tiles_of(students, packed.rows, scaling)
    return [student.filtered(state, packed) for (_, student), state in zip(students, tiles, strict=True)]


def _places(cases: Tensor, wanted: Tensor) -> Tensor:
    """Where each of the wanted cases stands among the cases, each of which is there once."""
    place = torch.empty(1 + int(cases.max()), dtype=torch.int64)
    place[cases] = torch.arange(len(cases))
    return place[wanted]


def numbers(train: NDArray[np.int64]) -> Tensor:
    """Case numbers as a tensor."""
    return torch.from_numpy(np.asarray(train, dtype=np.int64))
