"""Step 2 of the method: what of the tiles' features tells what reports say, and a first layer that looks along it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.models.mean import MeanPool
from wsisurv.models.report_directions import ReportDirections, fit_report_directions
from wsisurv.models.scaled_linear import scaled
from wsisurv.models.student import LIMIT
from wsisurv.models.text_branch import fit_text_scaling
from wsisurv.survival.bags import Bags, Moments, in_parts
from wsisurv.survival.splits import make_folds
from wsisurv.training.crossfit import TEXT_DIMENSIONS
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log

_DIRECTION_FOLDS = 10
_LEAST_TOLD = 0.25
"""Share of the reports' variance that tiles must tell out of fold before a student looks along the reports' directions
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


def report_directions(
    cases: TrainingCases, train: NDArray[np.int64], sample: Bags, moments: Moments, part: str, log: Log
) -> ReportDirections | None:
    """Find directions of the features along which tiles tell what reports say; None where reports are too few to ask.

    Args:
        cases: the whole cohort.
        train: numbers of the training cases; nothing of the others is looked at, and no outcome but to balance folds.
        sample: tiles of the training cases.
        moments: of them.
        part: what is trained, for the history.
        log: history.
    """
    if cases.has_report[train].sum() < _DIRECTION_FOLDS:
        return None
    reports = reports_of(cases, train)
    told_of = train[reports.rows]
    mean, sd = (value.to(sample.device) for value in (moments.mean, moments.sd))
    tiles = in_parts(
        lambda packed: MeanPool().pool(scaled(packed.rows, mean, sd, LIMIT), packed),
        sample.select(torch.from_numpy(reports.rows)),
    )
    folds = make_folds(
        event=cases.event[told_of], n_folds=_DIRECTION_FOLDS, seed=0, site=[cases.site[case] for case in told_of]
    )
    found = fit_report_directions(tiles.cpu().numpy(), reports.means, folds)
    log.line(part=f"{part}, directions", directions=found.columns.shape[1], told=found.told)
    return found


def taken(found: ReportDirections | None) -> Tensor | None:
    """Directions to look along, float32 (n_features, r); None for all features, where tiles tell too little."""
    if found is None or found.told < _LEAST_TOLD or not found.columns.shape[1]:
        return None
    return torch.from_numpy(found.columns).float()
