"""Step 2 of the method: what of the tiles' features tells what reports say, and a first layer that looks along it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.bags.packed import in_parts, row_moments, sample_rows
from wsisurv.models.aggregators.mean import MeanPool
from wsisurv.models.report_subspace import ReportDirections, fit_report_directions
from wsisurv.models.scaled_linear import scaled
from wsisurv.models.student import LIMIT
from wsisurv.models.text_branch import fit_text_scaling
from wsisurv.survival.splits import make_folds
from wsisurv.training.crossfit import TEXT_DIMENSIONS
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log

SCALING_TILES = 512
"""Tiles a bag that mean and standard deviation are taken from; bags of any length then count alike."""
_DIRECTION_FOLDS = 10
_LEAST_TOLD = 0.25
"""Share of the reports' variance that tiles must tell out of fold before students look along the reports' directions
only: where they tell less, what the reports leave unsaid is worth more than what they single out."""


@dataclass(frozen=True)
class Reports:
    """Reports of training cases.

    Attributes:
        rows: int64 (n_reports,), which training cases.
        means: float64 (n_reports, k), mean of each one's statements, less the mean of all, in one unit.
    """

    rows: NDArray[np.int64]
    means: NDArray[np.float64]


def reports_of(cases: TrainingCases, train: NDArray[np.int64]) -> Reports:
    """What the reports of the training cases say, in few dimensions."""
    rows = np.flatnonzero(cases.has_report[train])
    statements = [vectors for case in train[rows] if (vectors := cases.statements[case]) is not None]
    scaling = fit_text_scaling(np.concatenate(statements), TEXT_DIMENSIONS)
    means = np.stack([scaling(vectors).mean(0, dtype=np.float64) for vectors in statements])
    means -= means.mean(0)
    spread = float(np.sqrt(np.square(means).mean()))  # one number: what reports hardly differ in must not count alike
    return Reports(rows, means / (spread if spread > 1e-6 else 1.0))


class Along(nn.Module):
    """First layer's weights that look along some directions of the features only; (hidden, r) → (hidden, n_features).

    Args:
        columns: (n_features, r), orthonormal.
    """

    columns: Tensor

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("columns", columns)

    def forward(self, weight: Tensor) -> Tensor:
        """Weights of all features."""
        with torch.autocast(weight.device.type, enabled=False):  # a rounded weight would have a rounded gradient
            along: Tensor = weight @ self.columns.T
        return along

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Where training begins: as large as the weights of a layer of r inputs."""
        n_features, n_directions = self.columns.shape
        start: Tensor = weight @ self.columns * (n_features / n_directions) ** 0.5
        return start


@dataclass(frozen=True)
class Looking:
    """What the members of one ensemble look along; all of them or none, since one width is that of all.

    Attributes:
        told: share of the variance of reports that tiles tell out of fold, mean over members; None where not asked.
        columns: float32 (n_features, r) of each member; None where each sees all features.
    """

    told: float | None = None
    columns: tuple[Tensor, ...] | None = None


def look_along_reports(
    cases: TrainingCases, splits: Sequence[NDArray[np.int64]], seeds: Sequence[int], device: torch.device, log: Log
) -> Looking:
    """Find directions of the features along which tiles tell what reports say, for each member of an ensemble.

    Args:
        cases: the whole cohort.
        splits: numbers of each member's training cases; nothing of the others is looked at, and no outcome but to
            balance folds.
        seeds: of each member's training.
        device: where.
        log: history.

    Source: docs/method.md, step 2.
    """
    if min(int(cases.has_report[train].sum()) for train in splits) < _DIRECTION_FOLDS:
        return Looking()
    found = [_directions(cases, train, seed, device) for train, seed in zip(splits, seeds, strict=True)]
    for number, one in enumerate(found):
        log.line(part=f"directions of member {number + 1}", directions=one.columns.shape[1], told=one.told)
    told = float(np.mean([one.told for one in found]))
    if told < _LEAST_TOLD or not all(one.columns.shape[1] for one in found):
        return Looking(told)
    return Looking(told, tuple(torch.from_numpy(one.columns).float() for one in found))


def _directions(cases: TrainingCases, train: NDArray[np.int64], seed: int, device: torch.device) -> ReportDirections:
    whole = cases.bags if cases.merged is None else cases.merged
    bags = whole.on(device).select(torch.from_numpy(train))
    sample = sample_rows(bags, SCALING_TILES, torch.Generator().manual_seed(seed))
    moments = row_moments(sample)
    mean, sd = moments.mean.to(device), moments.sd.to(device)
    reports = reports_of(cases, train)
    tiles = in_parts(
        lambda packed: MeanPool().pool(scaled(packed.rows, mean, sd, LIMIT), packed),
        sample.select(torch.from_numpy(reports.rows)),
    )
    told_of = train[reports.rows]
    folds = make_folds(
        event=cases.event[told_of], n_folds=_DIRECTION_FOLDS, seed=0, site=[cases.site[case] for case in told_of]
    )
    return fit_report_directions(tiles.cpu().numpy(), reports.means, folds)
