"""Steps 2 to 4 of the method: one student, with or without the teacher's guidance."""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wsisurv.bags.packed import Bags, PackedBags, in_parts, row_moments, sample_rows
from wsisurv.models.student import WIDEST, Student
from wsisurv.settings.training import DistillSettings
from wsisurv.survival.losses import correlation_loss
from wsisurv.training.agreement import attention_kl
from wsisurv.training.filtering import by_source_row, filter_bags, learn_filter
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log, minimise, seeded, threads_for
from wsisurv.training.mixup import mix, similar_partners
from wsisurv.training.student_loss import (
    OutcomeTensors,
    TargetTensors,
    TeacherTarget,
    agreement_loss,
    common_logits,
    follow_up_of,
    outcome_loss,
    target_tensors,
)
from wsisurv.training.subspace import SCALING_TILES, Projection, reports_of

_PARTNER_RANKS = 10
_RICHER = 2
"""Factor of ``--hidden`` and ``--tiles-per-bag`` where a student sees a feature subspace: with few weights a unit it
can learn more units from more tiles. The baseline student is the worse for either (docs/log.md)."""
_MOMENTUM = 0.9
"""Momentum of the moving average under ``--ema``; less in the first steps, which it must forget."""
_OWN_WEIGHT = 0.1
"""Weight of the agreement with it: at 1 a student holds on to what it was in its first steps."""


@dataclass(frozen=True)
class TrainedStudent:
    """A student and its mean log hazard over the cases it was trained on."""

    student: Student
    centre: float


@dataclass(frozen=True)
class _Course:
    """What the steps of one student's training share.

    Attributes:
        bags: of the training cases, loaded to the device part by part.
        follow_up: of the same cases, on the device.
        target: the teacher target; None trains the baseline student.
        relevance: the teacher's relevance by row of the features' table, float32 on the CPU; None where not needed.
        settings: how.
        generator: of tiles and partners drawn.
        part: what is trained, for the history.
        log: history and progress.
    """

    bags: Bags
    follow_up: OutcomeTensors
    target: TargetTensors | None
    relevance: Tensor | None
    settings: DistillSettings
    generator: torch.Generator
    part: str
    log: Log

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return self.follow_up.time.device

    def draw(self) -> Bags:
        """Random tiles of each case, as many as a step asks for."""
        return sample_rows(self.bags, self.settings.tiles_per_bag, self.generator)


def train_student(
    cases: TrainingCases,
    train: NDArray[np.int64],
    settings: DistillSettings,
    *,
    target: TeacherTarget | None,
    seed: int,
    device: torch.device,
    part: str,
    log: Log,
) -> TrainedStudent:
    """Train one student on the cases ``train``; nothing of the others is looked at.

    Args:
        cases: the whole cohort.
        train: numbers of the training cases.
        settings: how.
        target: the teacher target; None trains the baseline student.
        seed: of weights, dropout and tiles drawn.
        device: where.
        part: what is trained, for the history.
        log: history and progress.

    Source: docs/method.md, steps 2 to 4.
    """
    chosen = torch.from_numpy(train)
    whole = cases.bags.on(device).select(chosen)
    bags = whole if cases.merged is None else cases.merged.on(device).select(chosen)
    follow_up = follow_up_of(cases, train, settings, device)
    tensors = target_tensors(target, train, follow_up, settings)
    relevance = by_source_row(cases.bags, target.relevance) if target and target.relevance is not None else None
    subspace = None if target is None else target.subspace
    if subspace is not None:
        width = min(_RICHER * settings.hidden, WIDEST)
        settings = settings.model_copy(update={"hidden": width, "tiles_per_bag": _RICHER * settings.tiles_per_bag})
    with seeded(seed, device) as generator, threads_for(bags, settings.tiles_per_bag):
        course = _Course(bags, follow_up, tensors, relevance, settings, generator, part, log)
        moments = row_moments(sample_rows(bags, SCALING_TILES, generator))
        student = Student(
            bags.n_features,
            settings.hidden,
            settings.dropout,
            moments.mean,
            moments.sd,
            settings.aggregator,
            follow_up.n_bins if settings.loss == "discrete" else 1,
        ).to(device)
        if settings.loss == "discrete" and student.hazard.bias is not None:
            student.hazard.bias.data.copy_(common_logits(follow_up))
        if subspace is not None:
            parametrize.register_parametrization(student.embed, "weight", Projection(subspace.to(device)))
        if target is not None and relevance is not None and settings.filter != "none":
            learn_filter(student, bags, relevance, settings, generator, f"{part}, filter", log)
            course = replace(course, bags=filter_bags(student, bags))
        if target is not None and settings.pretrain_epochs:
            _learn_reports(student, cases, train, course)
        _learn_outcome(student, course)
        if subspace is not None:
            parametrize.remove_parametrizations(student.embed, "weight")
    with torch.inference_mode(), threads_for(whole):
        centre = float(in_parts(student, whole).double().mean())
    return TrainedStudent(student.cpu(), centre)


def _learn_reports(student: Student, cases: TrainingCases, train: NDArray[np.int64], course: _Course) -> None:
    """Step 2, ``--pretrain-epochs``: predict the mean of the report's statements from the tiles; no outcome is used."""
    settings = course.settings
    reports = reports_of(cases, train)
    wanted = torch.from_numpy(reports.means).float().to(course.device)
    bags = course.bags.select(torch.from_numpy(reports.rows))
    head = nn.Linear(settings.hidden, wanted.shape[1]).to(course.device)

    def loss() -> Tensor:
        predicted = head(in_parts(student.pooled, sample_rows(bags, settings.tiles_per_bag, course.generator)))
        return torch.nn.functional.mse_loss(predicted, wanted)

    minimise(
        [student, head],
        loss,
        settings.model_copy(update={"epochs": settings.pretrain_epochs}),
        part=f"{course.part}, reports",
        log=course.log,
        generator=course.generator,
    )


def _learn_outcome(student: Student, course: _Course) -> None:
    """Steps 3 and 4: L = outcome + α agreement with the teacher, the same over mixed bags where asked."""
    settings, target = course.settings, course.target
    average = _Average(student) if settings.ema else None

    def loss() -> Tensor:
        bags = course.draw()
        output = in_parts(student.output, bags)
        log_hazard = student.log_hazard(output)
        value = outcome_loss(settings, output, course.follow_up)
        if target is not None:
            value = value + target.weight * _agreement(student, course, target, bags, output, log_hazard)
            if settings.mixup != "none":
                value = (value + _mixed_loss(student, course, target, bags)) / 2
        if average is not None:
            value = value + _OWN_WEIGHT * _own_agreement(student, average, course, log_hazard)
        return value

    minimise(
        student if average is None else [student, average],
        loss,
        settings,
        part=course.part,
        log=course.log,
        generator=course.generator,
    )


def _agreement(
    student: Student, course: _Course, target: TargetTensors, bags: Bags, output: Tensor, log_hazard: Tensor
) -> Tensor:
    """``--distill``: of risk over cases with a report, or of attention over the tiles of all cases."""
    if course.settings.distill == "attention-kl" and course.relevance is not None:
        share = in_parts(lambda packed: student.parts(packed).share, bags)
        relevance = course.relevance[bags.index].to(course.device)
        if bags.weight is not None:
            relevance = relevance * bags.weight.to(course.device)
        return attention_kl(teacher=relevance, student=share, bags=_segments(share, bags))
    rows = target.rows.to(course.device)
    return agreement_loss(
        course.settings, target, output[rows], log_hazard[rows], target.risk, course.follow_up.take(rows)
    )


def _mixed_loss(student: Student, course: _Course, target: TargetTensors, bags: Bags) -> Tensor:
    """Step 4, ``--mixup``: outcome and agreement over bags mixed of two cases with reports."""
    near = _PARTNER_RANKS if course.settings.mixup == "risk" else len(target.rows)
    partners = similar_partners(target.risk, near, course.generator)
    mixed = mix(bags, target.rows, target.rows[partners], course.generator)
    both = torch.cat([mixed.first, mixed.second]).to(course.device)
    share = mixed.share.to(course.device)
    output = in_parts(student.output, mixed.bags)
    outcome = outcome_loss(
        course.settings, torch.cat([output, output]), course.follow_up.take(both), torch.cat([share, 1 - share])
    )
    risk = mixed.share * target.risk + (1 - mixed.share) * target.risk[partners]
    return outcome + target.weight * agreement_loss(
        course.settings, target, output, student.log_hazard(output), risk, None
    )


class _Average(nn.Module):
    """A moving average of a student's weights; the steps are a buffer, so that a training that goes on counts on."""

    steps: Tensor

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = deepcopy(student).requires_grad_(False)
        self.register_buffer("steps", torch.tensor(0.0))

    def follow(self, student: Student) -> None:
        """Take the weights of another step in."""
        self.steps += 1
        momentum = min(_MOMENTUM, float(self.steps / (self.steps + 9)))
        with torch.no_grad():
            for own, new in zip(self.student.parameters(), student.parameters(), strict=True):
                own.lerp_(new, 1 - momentum)


def _own_agreement(student: Student, average: _Average, course: _Course, log_hazard: Tensor) -> Tensor:
    """``--ema``: 1 − correlation with the log hazards of the moving average, on other tiles of the same cases.

    Source: Tarvainen and Valpola 2017 (mean teacher).
    """
    average.follow(student)
    with torch.no_grad():
        averaged = average.student.log_hazard(in_parts(average.student.output, course.draw()))
    return correlation_loss(log_hazard, averaged)


def _segments(rows: Tensor, bags: Bags) -> PackedBags:
    """Values a row with the bounds of the bags that they are of."""
    weight = None if bags.weight is None else bags.weight.to(rows.device)
    return PackedBags(rows, bags.offsets.to(rows.device), weight)
