"""Steps 2 to 4 of the method: one student, with or without the teacher's guidance."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.models.student import Student
from wsisurv.models.teacher import fit_text_scaling
from wsisurv.survival.bags import Bags, in_parts, row_moments, sample_rows
from wsisurv.survival.losses import correlation_loss, cox_loss
from wsisurv.survival.mixup import mix, similar_partners
from wsisurv.training.crossfit import TEXT_DIMENSIONS
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log, minimise, seeded

_PARTNER_RANKS = 10
_SCALING_TILES = 512
"""Tiles a bag that mean and standard deviation are taken from; bags of any length then count alike."""


@dataclass(frozen=True)
class Recipe:
    """How one student is trained; the fields are those of the settings."""

    hidden: int
    epochs: int
    pretrain_epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float
    tiles_per_bag: int
    mixup: Literal["risk", "none"]


@dataclass(frozen=True)
class Target:
    """What the teacher says to one student.

    Attributes:
        risk: τ, float64 (n_cases,) of the whole cohort, NaN where there is none.
        gate: α, its weight, above 0.
    """

    risk: NDArray[np.float64]
    gate: float


@dataclass(frozen=True)
class TrainedStudent:
    """A student and its mean log hazard over the cases it was trained on."""

    student: Student
    centre: float


@dataclass(frozen=True)
class _Batch:
    """The training cases of one student; follow-up on the device, bags loaded to it part by part."""

    bags: Bags
    time: Tensor
    event: Tensor


def train_student(
    cases: TrainingCases,
    train: NDArray[np.int64],
    recipe: Recipe,
    *,
    target: Target | None,
    seed: int,
    device: torch.device,
    part: str,
    log: Log,
) -> TrainedStudent:
    """Train one student on the cases ``train``; nothing of the others is looked at.

    Args:
        cases: the whole cohort.
        train: numbers of the training cases.
        recipe: how.
        target: the teacher's word; None trains the plain student.
        seed: of weights, dropout and tiles drawn.
        device: where.
        part: what is trained, for the history.
        log: history and progress.

    Source: docs/method.md, steps 2 to 4.
    """
    bags = cases.bags.on(device).select(torch.from_numpy(train))
    batch = _Batch(
        bags, torch.from_numpy(cases.time[train]).to(device), torch.from_numpy(cases.event[train]).to(device)
    )
    with seeded(seed, device) as generator:
        moments = row_moments(sample_rows(bags, _SCALING_TILES, generator))
        student = Student(bags.n_features, recipe.hidden, recipe.dropout, moments.mean, moments.sd).to(device)
        if target is not None and recipe.pretrain_epochs:
            _learn_reports(student, cases, train, batch, recipe, generator, part, log)
        _learn_outcome(student, batch, recipe, target, train, generator, part, log)
    with torch.inference_mode():
        centre = float(in_parts(student, bags).double().mean())
    return TrainedStudent(student.cpu(), centre)


def _learn_reports(
    student: Student,
    cases: TrainingCases,
    train: NDArray[np.int64],
    batch: _Batch,
    recipe: Recipe,
    generator: torch.Generator,
    part: str,
    log: Log,
) -> None:
    """Step 2: predict the mean of the report's statements from the tiles; no outcome is used."""
    reports = {row: cases.statements[case] for row, case in enumerate(train) if cases.statements[case] is not None}
    statements = [vectors for vectors in reports.values() if vectors is not None]
    scaling = fit_text_scaling(np.concatenate(statements), TEXT_DIMENSIONS)
    means = np.stack([scaling(vectors).mean(0) for vectors in statements])
    means = means - means.mean(0)
    spread = float(np.sqrt(np.square(means).mean()))  # one number: what reports hardly differ in must not count alike
    wanted = torch.from_numpy(means / (spread if spread > 1e-6 else 1.0)).float()
    wanted = wanted.to(batch.time.device)
    bags = batch.bags.select(torch.tensor(list(reports)))
    head = nn.Linear(recipe.hidden, wanted.shape[1]).to(wanted.device)

    def loss() -> Tensor:
        predicted = head(in_parts(student.pooled, sample_rows(bags, recipe.tiles_per_bag, generator)))
        return torch.nn.functional.mse_loss(predicted, wanted)

    minimise(
        [student, head],
        loss,
        epochs=recipe.pretrain_epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        part=f"{part}, reports",
        log=log,
    )


def _learn_outcome(
    student: Student,
    batch: _Batch,
    recipe: Recipe,
    target: Target | None,
    train: NDArray[np.int64],
    generator: torch.Generator,
    part: str,
    log: Log,
) -> None:
    """Steps 3 and 4: L = Cox(r) + α (1 − Pearson(r, τ)), the same over mixed bags where asked."""
    told = np.flatnonzero(np.isfinite(target.risk[train])) if target is not None else np.array([], dtype=np.int64)
    if target is None or len(told) < 2:
        told_rows, tau, alpha = torch.tensor([], dtype=torch.long), torch.tensor([]), 0.0
    else:
        told_rows, tau, alpha = torch.from_numpy(told), torch.from_numpy(target.risk[train][told]), target.gate
    rows_here, tau_here = told_rows.to(batch.time.device), tau.to(batch.time.device)

    def loss() -> Tensor:
        bags = sample_rows(batch.bags, recipe.tiles_per_bag, generator)
        risk = in_parts(student, bags)
        value = cox_loss(log_hazard=risk, time=batch.time, event=batch.event)
        if alpha:
            value = value + alpha * correlation_loss(risk[rows_here], tau_here)
            if recipe.mixup == "risk":
                value = (value + mixed_loss(bags)) / 2
        return value

    def mixed_loss(bags: Bags) -> Tensor:
        partners = similar_partners(tau, _PARTNER_RANKS, generator)
        mixed = mix(bags, told_rows, told_rows[partners], generator)
        both = torch.cat([mixed.first, mixed.second]).to(batch.time.device)
        share = mixed.share.to(batch.time.device)
        risk = in_parts(student, mixed.bags)
        cox = cox_loss(
            log_hazard=torch.cat([risk, risk]),
            time=batch.time[both],
            event=batch.event[both],
            weight=torch.cat([share, 1 - share]),
        )
        return cox + alpha * correlation_loss(
            risk, share * tau_here + (1 - share) * tau_here[partners.to(share.device)]
        )

    minimise(
        student,
        loss,
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        part=part,
        log=log,
    )
