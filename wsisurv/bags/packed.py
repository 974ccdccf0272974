"""Bags of any length packed in one flat tensor: no padding, and each bag counts as if it were alone.

``Bags`` names rows that may lie on disk; ``PackedBags`` holds rows in memory. ``in_parts`` runs a model over ``Bags``
of any size, part by part, with the gradient of one pass over all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

PART_ROWS = 1 << 12
"""Rows of a part on a CPU, unless one bag alone has more: what stays in the cache is computed faster."""
GPU_PART_ROWS = 1 << 18
"""The same on an accelerator, which takes as long to begin a part's steps as to do them: 0.8 GB of 1,536 features in
half precision, of which the first layer scales a quarter at a time."""
_MOMENT_ROWS = 1 << 10


class _Offsets:
    """What bags say of their lengths, packed or not."""

    offsets: Tensor

    @property
    def n_bags(self) -> int:
        """Number of bags."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Rows in each bag, int64 (n_bags,), where the offsets are."""
        return self.offsets.diff()


@dataclass(frozen=True)
class PackedBags(_Offsets):
    """Rows of all bags, one bag after the other."""

    rows: Tensor  # (n_rows_total, d), any floating type
    offsets: Tensor  # int64 (n_bags + 1,); bag ``i`` is ``rows[offsets[i]:offsets[i + 1]]`` and holds one row at least
    # float32 (n_rows_total,), how many rows each stands for, where rows were merged; None for one each
    weight: Tensor | None = None

    @property
    def bag_of_row(self) -> Tensor:
        """Which bag each row is of, int64 (n_rows_total,)."""
        return torch.repeat_interleave(self.lengths, output_size=len(self.rows))

    def to(self, device: torch.device) -> "PackedBags":
        """Copy on ``device``."""
        weight = None if self.weight is None else self.weight.to(device)
        return PackedBags(self.rows.to(device), self.offsets.to(device), weight)

    def run(self, first: int, end: int) -> "PackedBags":
        """Bags ``first`` to ``end - 1``, views of these."""
        offsets = self.offsets[first : end + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        return PackedBags(self.rows[rows], offsets - offsets[0], None if self.weight is None else self.weight[rows])


class RowSource(Protocol):
    """A table of rows that need not be in memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def take(self, rows: Tensor) -> Tensor:
        """Rows of these numbers, int64 (n,) on the CPU: (n, d) of any floating type."""


@dataclass(frozen=True)
class HeldRows:
    """Rows in memory, on any device."""

    rows: Tensor  # (n_rows, d), any floating type
    _copies: dict[torch.device, "HeldRows"] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.shape[0], self.rows.shape[1]

    def on(self, device: torch.device) -> "HeldRows":
        """The table on a GPU that has twice the room for it; otherwise the table as it is.

        The copy is kept as long as the table, for all that are trained on it.
        """
        if device.type != "cuda" or self.rows.is_cuda:
            return self
        if device not in self._copies:
            if 2 * self.rows.nbytes > _free_bytes(device):
                return self
            self._copies[device] = HeldRows(self.rows.to(device))
        return self._copies[device]

    def take(self, rows: Tensor) -> Tensor:
        """Rows of these numbers, int64 (n,) on the CPU, on the device of the table; a view where they are one run."""
        if len(rows) and int(rows[-1] - rows[0]) + 1 == len(rows) and bool((rows.diff() == 1).all()):
            return self.rows[int(rows[0]) : int(rows[-1]) + 1]
        return self.rows.index_select(0, rows.to(self.rows.device))


def _free_bytes(device: torch.device) -> int:
    """What a GPU has left for this process: also what torch has kept for itself from tensors that are gone."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@dataclass(frozen=True)
class Bags(_Offsets):
    """Bags that name their rows and read them only when asked: choosing, sampling and mixing copy no feature."""

    source: RowSource  # the rows
    index: Tensor  # int64 (n_rows_total,) on the CPU, number in ``source`` of each row, one bag after the other
    # int64 (n_bags + 1,) on the CPU; bag ``i`` has ``index[offsets[i]:offsets[i + 1]]``, one row at least
    offsets: Tensor
    # float32 (n_rows_total,) on the CPU, how many rows each stands for, where rows were merged; None for one
    weight: Tensor | None = None
    device: torch.device = torch.device("cpu")  # where rows are loaded to
    # what a pass over all rows may keep in memory for the gradient; beyond it ``in_parts`` computes each part a second
    # time instead. Has no influence on any result.
    keep_bytes: int = 4 << 30

    @property
    def n_features(self) -> int:
        """Columns."""
        return self.source.shape[1]

    def on(self, device: torch.device) -> "Bags":
        """The same bags, to be loaded to ``device``; a table in memory goes there whole if it fills half at most.

        On a GPU a quarter of what is then free may be kept for the gradient.
        """
        source = self.source.on(device) if isinstance(self.source, HeldRows) else self.source
        keep_bytes = self.keep_bytes
        if device.type == "cuda":  # the bound is of the machine's memory; a card may have less
            keep_bytes = min(keep_bytes, _free_bytes(device) // 4)
        return replace(self, source=source, device=device, keep_bytes=keep_bytes)

    def take(self, rows: Tensor, offsets: Tensor) -> "Bags":
        """Bags of these entries of ``index``, int64 (n_taken,); ``offsets`` (n_bags + 1,) says whose each is."""
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, index=self.index[rows], offsets=offsets, weight=weight)

    def select(self, bags: Tensor) -> "Bags":
        """Bags of these numbers, int64 (n_selected,) on the CPU, in this order; a bag may be taken more than once."""
        lengths = self.lengths[bags]
        return self.take(ranges(self.offsets[:-1][bags], lengths), offsets_of(lengths))

    def load(self) -> PackedBags:
        """All rows, in memory on ``device``."""
        weight = None if self.weight is None else self.weight.to(self.device)
        return PackedBags(self.source.take(self.index).to(self.device), self.offsets.to(self.device), weight)

    def parts(self) -> Iterator["Bags"]:
        """Runs of whole bags of ``PART_ROWS`` rows at most, or of one bag that has more; memory has no say in it."""
        most = PART_ROWS if self.device.type == "cpu" else GPU_PART_ROWS
        offsets = self.offsets.tolist()
        first = 0
        for bag in range(1, self.n_bags + 1):
            if bag == self.n_bags or offsets[bag + 1] - offsets[first] > most:
                rows = slice(offsets[first], offsets[bag])
                index, starts = self.index[rows], self.offsets[first : bag + 1] - offsets[first]
                weight = None if self.weight is None else self.weight[rows]
                yield replace(self, index=index, offsets=starts, weight=weight)
                first = bag


def bags_of(packed: PackedBags) -> Bags:
    """Bags over rows that are in memory; the offsets are brought to the CPU."""
    index = torch.arange(len(packed.rows))
    weight = None if packed.weight is None else packed.weight.cpu()
    return Bags(HeldRows(packed.rows), index, packed.offsets.cpu(), weight, packed.rows.device)


def in_parts(function: Callable[..., Tensor], bags: Bags, *beside: PackedBags) -> Tensor:
    """``function`` of all bags, computed part by part: values and gradients are those of one pass over all.

    Once the parts so far keep more than ``bags.keep_bytes`` for the gradient, those that follow keep nothing: they are
    computed first without a graph, and a second time, with the random numbers of the first, when their gradient is
    asked for. So a loss over a whole cohort (Cox's risk set) has its exact gradient in bounded memory. Both ways give
    equal bits.

    Args:
        function: of loaded bags, giving one entry (n_bags, …) a bag or (n_rows, …) a row; what it computes of one bag
            must not depend on the others, and random numbers must be torch's global ones.
        bags: any number, of any size.
        beside: further packs of as many bags (a case's statements, say), on the same device; ``function`` is given the
            same run of bags of each, after the loaded ones.

    Returns:
        What ``function`` gives of all bags.

    Source: Chen et al. 2016, arXiv 1604.06174 (recomputation); Gao et al. 2021, arXiv 2101.06983 (cached gradients of
    a loss over all rows).
    """
    kept = 0
    held = bags.source.rows.untyped_storage().data_ptr() if isinstance(bags.source, HeldRows) else None

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        if tensor.untyped_storage().data_ptr() != held:  # a view of the table takes no room of its own
            kept += tensor.nbytes
        return tensor.detach()

    def computed(part: Bags, others: Sequence[PackedBags], _here: Tensor | None = None) -> Tensor:
        return function(part.load(), *others)

    here = torch.empty(0, device=bags.device)  # by which checkpoint knows whose random numbers to keep
    outputs = []
    first = 0
    for part in bags.parts():
        others = [pack.run(first, first + part.n_bags) for pack in beside]
        first += part.n_bags
        if torch.is_grad_enabled() and kept > bags.keep_bytes:
            outputs.append(checkpoint(computed, part, others, here, use_reentrant=False))
        else:
            with saved_tensors_hooks(count, lambda tensor: tensor):
                outputs.append(computed(part, others))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def pack(bags: Sequence[NDArray[np.floating]]) -> PackedBags:
    """Pack arrays (n_rows, d), each of one row at least.

    Raises:
        ValueError: no bag, or an empty one.
    """
    if not bags or any(len(bag) == 0 for bag in bags):
        raise ValueError("pack: bags without rows can't be packed; leave them out")
    lengths = torch.tensor([len(bag) for bag in bags])
    return PackedBags(torch.from_numpy(np.concatenate(bags)), offsets_of(lengths))


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of rows, float32 (d,) each; a column that does not vary has 1."""

    mean: Tensor
    sd: Tensor


@dataclass(frozen=True)
class RowSums:
    """Sums over rows, and over their squares, float64 (d,) each, and the rows' number; those of several add up."""

    total: Tensor
    square: Tensor
    count: Tensor

    def __add__(self, other: "RowSums") -> "RowSums":
        return RowSums(self.total + other.total, self.square + other.square, self.count + other.count)

    @property
    def moments(self) -> Moments:
        """Mean and standard deviation of the rows."""
        mean = self.total / self.count
        sd = (self.square / self.count - mean.square()).clamp(min=0).sqrt()
        return Moments(mean.float(), torch.where(sd > 1e-6, sd, 1.0).float())


def row_sums(bags: Bags) -> RowSums:
    """Sums over all rows, read part by part; a row of weight w counts like w rows."""
    total, square, count = (torch.zeros(size, dtype=torch.float64) for size in (bags.n_features, bags.n_features, ()))
    for part in bags.parts():
        packed = part.load()
        weights = torch.ones(len(packed.rows)) if packed.weight is None else packed.weight
        weights = weights.double().to(packed.rows.device)
        count += weights.sum().cpu()
        for rows, weight in zip(*(torch.split(table, _MOMENT_ROWS) for table in (packed.rows, weights)), strict=True):
            exact = rows.double()
            total += (weight @ exact).cpu()
            square += (weight @ exact.square()).cpu()
    return RowSums(total, square, count)


def row_moments(bags: Bags) -> Moments:
    """Mean and standard deviation of all rows, as ``row_sums``."""
    return row_sums(bags).moments


def sample_rows(bags: Bags, n: int, generator: torch.Generator) -> Bags:
    """Draw ``n`` random rows of each bag that has more; a shorter bag stays whole. ``n = 0`` takes all.

    A bag is cut into ``n`` equal runs and one row is drawn from each: every row is as likely as any other, and since
    neighbours in a bag are neighbours on the slide, the sample keeps the slide's proportions better than free draws.
    At the seam of two runs a row may be drawn twice.

    Args:
        bags: the whole bags.
        n: rows wanted of each bag.
        generator: source of the random numbers, on the CPU so that a seed means the same on every device.
    """
    lengths = bags.lengths
    if n == 0 or int(lengths.max()) <= n:
        return bags
    taken = lengths.clamp(max=n)
    number = ranges(torch.zeros_like(taken), taken)
    length = torch.repeat_interleave(lengths, taken)
    jitter = torch.rand(len(number), generator=generator, dtype=torch.float64)
    within = torch.where(length > n, ((number + jitter) * (length / n).double()).long(), number)
    rows = torch.repeat_interleave(bags.offsets[:-1], taken) + within.clamp(max=length - 1)
    return bags.take(rows, offsets_of(taken))


def offsets_of(lengths: Tensor) -> Tensor:
    """Offsets of bags of these lengths: int64 (n_bags,) → (n_bags + 1,)."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Give ``start, start + 1, …`` of each length, one after the other, int64 (sum of lengths,)."""
    before = lengths.cumsum(0) - lengths
    steps = torch.arange(int(lengths.sum()), device=lengths.device)
    return steps + torch.repeat_interleave(starts - before, lengths)
