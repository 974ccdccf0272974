"""Sums over risk sets of cases that come under observation late."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RiskSets:
    """Which cases are in the risk set of each time, so that sums over sets and over cases only ever add.

    What is at risk could be had as all who are followed so long less those who come too late. But hazards may differ by
    a factor of 10^20 and more, as they do between hospitals while a fit is under way, and such a difference is all
    rounding. Here a case, which is in the sets between its entry and its end, is added to the few nodes of a binary
    tree that cover these.

    Attributes:
        begins: (n,), the first set of each case, latest time first.
        ends: (n,), the one past its last.
        n_sets: number of sets.
    """

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    n_sets: int

    @staticmethod
    def of(time: NDArray[np.float64], entry: NDArray[np.float64], at: NDArray[np.float64]) -> "RiskSets":
        """Sets of the cases with entry < t ≤ time, for each t of ``at``, latest first."""
        return RiskSets(np.searchsorted(-at, -time, side="left"), np.searchsorted(-at, -entry, side="left"), len(at))

    @cached_property
    def _size(self) -> int:
        """Leaves of the tree; node k has the children 2k and 2k + 1, leaf s is node size + s."""
        return 1 << max(self.n_sets - 1, 0).bit_length()

    @cached_property
    def _nodes(self) -> Any:
        """Sparse (2 size, n): 1 where a node is one of those that cover the sets of a case."""
        from scipy.sparse import csr_array

        low, high = self.begins + self._size, self.ends + self._size
        nodes, cases = [], []
        while (wanted := low < high).any():
            left = wanted & (low % 2 == 1)
            nodes.append(low[left])
            low = low + left
            right = wanted & (high % 2 == 1)
            high = high - right
            nodes.append(high[right])
            cases += [np.flatnonzero(left), np.flatnonzero(right)]
            low, high = low // 2, high // 2
        node, case = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (nodes, cases))
        return csr_array((np.ones(len(node)), (node, case)), shape=(2 * self._size, len(self.begins)))

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the cases of each set, (n,) or (n, p) → (n_sets,) or (n_sets, p)."""
        nodes = np.asarray(self._nodes @ values)
        first = 2
        while first <= self._size:  # each node hands down to its children
            nodes[first : 2 * first] += np.repeat(nodes[first // 2 : first], 2, axis=0)
            first *= 2
        return nodes[self._size : self._size + self.n_sets]

    def over(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the sets of each case, (n_sets,) → (n,)."""
        nodes = np.zeros(2 * self._size)
        nodes[self._size : self._size + self.n_sets] = values
        first = self._size
        while first > 1:
            nodes[first // 2 : first] = nodes[first : 2 * first].reshape(-1, 2).sum(1)
            first //= 2
        return np.asarray(self._nodes.T @ nodes)
