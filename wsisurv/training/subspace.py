"""Step 2 of the method: the subspace of the tiles' features that explains the reports, and the projection onto it."""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.bags.packed import PART_ROWS, Bags, HeldRows, in_parts, row_moments, sample_rows
from wsisurv.formats.atomic import explain_storage
from wsisurv.models.aggregators.mean import MeanPool
from wsisurv.models.report_subspace import ReportDirections, fit_report_directions
from wsisurv.models.scaled_linear import SharedScaling, scaled, scaled_linears
from wsisurv.models.student import LIMIT, Student
from wsisurv.models.text_branch import fit_text_scaling
from wsisurv.survival.splits import hospital_folds, hospital_strata, make_folds, within_strata
from wsisurv.training.alignment import Alignment, aligned_directions
from wsisurv.training.crossfit import TEXT_DIMENSIONS
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log

SCALING_TILES = 512
"""Tiles a bag that mean and standard deviation are taken from; bags of any length then count alike."""
_FOLDS = 10
_LEAST_EXPLAINED = 0.25
"""Out-of-fold R² of the reports from tiles that is needed before students see the subspace alone: where tiles explain
less, what the reports leave unsaid is worth more than what they single out."""


@dataclass(frozen=True)
class ReportVectors:
    """Reports of training cases.

    Attributes:
        rows: int64 (n_reports,), which training cases.
        means: float64 (n_reports, k), mean of each one's statements, less the mean of all, in one unit.
    """

    rows: NDArray[np.int64]
    means: NDArray[np.float64]


def reports_of(cases: TrainingCases, train: NDArray[np.int64]) -> ReportVectors:
    """Mean statement vector of each report of the training cases, in few dimensions."""
    rows = np.flatnonzero(cases.has_report[train])
    statements = [vectors for case in train[rows] if (vectors := cases.statements[case]) is not None]
    scaling = fit_text_scaling(np.concatenate(statements), TEXT_DIMENSIONS)
    means = np.stack([scaling(vectors).mean(0, dtype=np.float64) for vectors in statements])
    means -= means.mean(0)
    sd = float(np.sqrt(np.square(means).mean()))  # one number: what reports hardly differ in must not count alike
    return ReportVectors(rows, means / (sd if sd > 1e-6 else 1.0))


class Projection(nn.Module):
    """First layer's weights that see features only projected onto a subspace; (hidden, r) → (hidden, n_features).

    Args:
        basis: (n_features, r), orthonormal.
    """

    basis: Tensor

    def __init__(self, basis: Tensor) -> None:
        super().__init__()
        self.register_buffer("basis", basis)

    def forward(self, weight: Tensor) -> Tensor:
        """Weights of all features."""
        with torch.autocast(weight.device.type, enabled=False):  # a rounded weight would have a rounded gradient
            of_all: Tensor = weight @ self.basis.T
        return of_all

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Weights that training begins with, as large as those of a layer of r inputs."""
        n_features, n_dimensions = self.basis.shape
        start: Tensor = weight @ self.basis * (n_features / n_dimensions) ** 0.5
        return start


def tiles_along(student: Student, projected: Tensor) -> Tensor:
    """``Student.tiles`` from ``project_rows`` of its basis, (n_tiles, r), while its weights are a ``Projection``'s."""
    weight: Tensor = student.embed.parametrizations["weight"].original  # type: ignore[index, union-attr]
    return torch.relu_(torch.nn.functional.linear(projected.to(weight.dtype), weight, student.embed.bias))


def project_rows(bags: Bags, scaling: SharedScaling, bases: Sequence[Tensor], folder: Path) -> Bags:
    """The bags with scaled features along each student's basis, side by side, in place of the features.

    Each row is projected once, and not in every epoch that draws it. The projections, in half precision like the
    features themselves, are held in memory where the features are, and otherwise lie in a temporary file.

    Args:
        bags: of all cases.
        scaling: of all students.
        bases: (n_features, r) of each.
        folder: where a temporary file may lie.

    Raises:
        StorageError: no room for it.
    """
    n_rows, width = bags.source.shape[0], sum(basis.shape[1] for basis in bases)
    layers = [(number, basis.T, basis.new_zeros(basis.shape[1])) for number, basis in enumerate(bases)]

    def projected() -> Iterator[Tensor]:
        for start in range(0, n_rows, PART_ROWS):
            rows = bags.source.take(torch.arange(start, min(start + PART_ROWS, n_rows))).to(bags.device)
            with torch.no_grad():
                yield torch.cat(scaled_linears(rows, scaling, layers), 1).half().cpu()

    if isinstance(bags.source, HeldRows):
        return replace(bags, source=HeldRows(torch.cat([*projected()]))).on(bags.device)
    with explain_storage(folder), tempfile.TemporaryFile(dir=folder) as file:
        for rows in projected():
            file.write(rows.numpy().data)
        file.flush()
        return replace(bags, source=_TemporaryRows(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), width))


@dataclass(frozen=True)
class _TemporaryRows:
    """Rows of half precision in a file that nobody else sees; what is read of it does not stay in memory."""

    file: mmap.mmap
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.file) // (2 * self.width), self.width

    def take(self, rows: Tensor) -> Tensor:
        """Rows of these numbers, int64 (n,): float16 (n, width)."""
        taken = np.frombuffer(self.file, np.float16).reshape(self.shape)[rows.numpy()]
        if hasattr(mmap, "MADV_DONTNEED"):
            self.file.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(taken)


@dataclass(frozen=True)
class FeatureSubspaces:
    """Feature subspaces of the members of one ensemble; all of them or none, since one width is that of all.

    Attributes:
        explained: variance of the reports explained by tiles (out-of-fold R²), mean over members; None where not asked.
        bases: float32 (n_features, r), orthonormal basis of each member; None where each sees all features.
    """

    explained: float | None = None
    bases: tuple[Tensor, ...] | None = None


def find_subspaces(
    cases: TrainingCases,
    splits: Sequence[NDArray[np.int64]],
    seeds: Sequence[int],
    device: torch.device,
    log: Log,
    alignment: Alignment | None = None,
) -> FeatureSubspaces:
    """Find the subspace of the features in which tiles explain the reports, for each member of an ensemble.

    By an alignment of many cohorts, it is the one that holds at hospitals which were not fitted, however little of the
    reports it explains; without, it is of the training cases, and none where that explains too little.

    Args:
        cases: the whole cohort.
        splits: numbers of each member's training cases; nothing of the others is used, and no outcome but to balance
            folds.
        seeds: of each member's training.
        device: where.
        log: history.
        alignment: of many cohorts; a member's is fitted without the cases that it is not trained on.

    Raises:
        CohortError: as ``Alignment.require_hospitals``.

    Source: docs/method.md, step 2.
    """
    if alignment is not None:
        return _aligned(alignment, cases, splits, seeds, device, log)
    if min(int(cases.has_report[train].sum()) for train in splits) < _FOLDS:
        return FeatureSubspaces()
    found = [_subspace(cases, train, seed, device) for train, seed in zip(splits, seeds, strict=True)]
    for number, one in enumerate(found):
        log.line(part=f"directions of member {number + 1}", directions=one.columns.shape[1], told=one.explained)
    explained = float(np.mean([one.explained for one in found]))
    if explained < _LEAST_EXPLAINED or not all(one.columns.shape[1] for one in found):
        return FeatureSubspaces(explained)
    return FeatureSubspaces(explained, tuple(torch.from_numpy(one.columns).float() for one in found))


def _aligned(
    alignment: Alignment,
    cases: TrainingCases,
    splits: Sequence[NDArray[np.int64]],
    seeds: Sequence[int],
    device: torch.device,
    log: Log,
) -> FeatureSubspaces:
    fits = [aligned_directions(alignment, cases, train) for train in splits]
    explained, bases = float(np.mean([fit.explained for fit in fits])), []
    for number, (fit, train, seed) in enumerate(zip(fits, splits, seeds, strict=True)):
        sd = row_moments(_sample(cases, train, seed, device)).sd.cpu().double()
        bases.append(torch.linalg.qr(torch.from_numpy(fit.directions) * sd[:, None])[0].float())
        log.line(part=f"directions of member {number + 1}", directions=len(fit.agreement), told=fit.explained)
    if not all(len(fit.agreement) for fit in fits):
        return FeatureSubspaces(explained)
    return FeatureSubspaces(explained, tuple(bases))


def _sample(cases: TrainingCases, train: NDArray[np.int64], seed: int, device: torch.device) -> Bags:
    """Tiles of training cases that scale the features."""
    whole = cases.bags if cases.merged is None else cases.merged
    bags = whole.on(device).select(torch.from_numpy(train))
    return sample_rows(bags, SCALING_TILES, torch.Generator().manual_seed(seed))


def _subspace(cases: TrainingCases, train: NDArray[np.int64], seed: int, device: torch.device) -> ReportDirections:
    sample = _sample(cases, train, seed, device)
    moments = row_moments(sample)
    mean, sd = moments.mean.to(device), moments.sd.to(device)
    reports = reports_of(cases, train)
    tiles = in_parts(
        lambda packed: MeanPool().pool(scaled(packed.rows, mean, sd, LIMIT), packed),
        sample.select(torch.from_numpy(reports.rows)),
    )
    reported = train[reports.rows]
    shown, said, event = tiles.cpu().numpy().astype(np.float64), reports.means, cases.event[reported]
    hospital = hospital_strata([cases.site[case] for case in reported])
    if hospital is None:
        return fit_report_directions(shown, said, make_folds(event=event, n_folds=_FOLDS, seed=0))
    # stain and style of report both follow the hospital: only what differs within one, and is found at others, counts
    folds = hospital_folds(hospital, event, _FOLDS)
    return fit_report_directions(within_strata(shown, hospital), within_strata(said, hospital), folds)
