"""Steps 2 to 4 of the method: students side by side, with or without the teacher's guidance."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wsisurv.bags.packed import Bags, Moments, PackedBags, in_parts, sample_rows
from wsisurv.models.joining import start_from
from wsisurv.models.scaled_linear import SharedScaling
from wsisurv.models.student import WIDEST, Student, share_scaling_of
from wsisurv.settings.training import DistillSettings
from wsisurv.survival.losses import correlation_loss
from wsisurv.training.agreement import attention_kl
from wsisurv.training.filtering import by_source_row, filter_bags, learn_filter
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log, minimise, seeded, threads_for
from wsisurv.training.mixup import mix, similar_partners
from wsisurv.training.side_by_side import Numbered, SharedCases, numbers, states_of
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
from wsisurv.training.subspace import SCALING_TILES, Projection, project_rows, reports_of, tiles_along

_PARTNER_RANKS = 10
_RICHER = 2
"""Factor of ``--hidden`` and ``--tiles-per-bag`` where a student sees a feature subspace: with few weights a unit it
can learn more units from more tiles. The baseline student is the worse for either (docs/log.md)."""
_MOMENTUM = 0.9
"""Momentum of the moving average under ``--ema``; less in the first steps, which it must forget."""
_OWN_WEIGHT = 0.1
"""Weight of the agreement with it: at 1 a student holds on to what it was in its first steps."""


@dataclass(frozen=True)
class StudentPlan:
    """One student to be trained, beside others of the same settings.

    Attributes:
        train: int64 (n_train,), numbers of its training cases.
        seed: of its weights; that of the first student also of dropout and tiles drawn.
        target: the teacher target; None trains the baseline student.
        start: trained student of another cohort, of the same width and aggregator, to begin with; None for new weights.
    """

    train: NDArray[np.int64]
    seed: int
    target: TeacherTarget | None = None
    start: Student | None = None


@dataclass(frozen=True)
class _Member:
    """What belongs to one student in training.

    Attributes:
        student: on the device.
        train: int64 (n_train,), numbers of its training cases, on the CPU.
        follow_up: of the same cases, on the device.
        target: the teacher target; None trains the baseline student.
        relevance: the teacher's relevance by row of the features' table, float32 on the CPU; None where not needed.
    """

    student: Student
    train: Tensor
    follow_up: OutcomeTensors
    target: TargetTensors | None
    relevance: Tensor | None


@dataclass(frozen=True)
class _Course:
    """What the steps of several students' training share.

    Attributes:
        bags: of all cases, loaded to the device part by part.
        members: the students.
        settings: how.
        generator: of tiles and partners drawn.
        part: what is trained, for the history.
        log: history and progress.
        columns: of the bags' rows, for each student, where these are features along its basis; empty for features.
    """

    bags: Bags
    members: tuple[_Member, ...]
    settings: DistillSettings
    generator: torch.Generator
    part: str
    log: Log
    columns: tuple[slice, ...] = ()

    @cached_property
    def cases(self) -> SharedCases:
        """Which students are trained on which cases."""
        return SharedCases(tuple(member.train for member in self.members))

    @cached_property
    def scaling(self) -> SharedScaling:
        """Scaling of the features, for all students."""
        return share_scaling_of([member.student for member in self.members])

    def draw(self) -> Bags:
        """Random tiles of each case, as many as a step asks for, the same for all students."""
        return sample_rows(self.bags, self.settings.tiles_per_bag, self.generator)

    def states_of(self, students: Numbered, packed: PackedBags) -> list[Tensor]:
        """Hidden state of tiles by each of some students, (n_tiles, hidden)."""
        if self.columns:
            return [tiles_along(student, packed.rows[:, self.columns[number]]) for number, student in students]
        return states_of(students, packed, self.scaling)

    def states(self, number: int, packed: PackedBags) -> Tensor:
        """Hidden state of tiles by one of the students."""
        return self.states_of([(number, self.members[number].student)], packed)[0]

    def along(self, bases: Sequence[Tensor]) -> "_Course":
        """The same on features along the students' bases, where those are so few that it saves memory and time.

        A soft filter looks at the features themselves.
        """
        ends = np.cumsum([basis.shape[1] for basis in bases]).tolist()
        if not bases or 2 * ends[-1] > self.bags.n_features or self.settings.filter == "soft":
            return self
        bags = project_rows(self.bags, self.scaling, bases, self.log.path.parent)
        return replace(self, bags=bags, columns=tuple(map(slice, [0, *ends[:-1]], ends)))


def train_students(
    cases: TrainingCases,
    plans: Sequence[StudentPlan],
    settings: DistillSettings,
    *,
    device: torch.device,
    part: str,
    log: Log,
) -> list[Student]:
    """Train students side by side, each on its own cases; nothing else of the other cases is looked at.

    Tiles are drawn, and scaled, once for all students; and a feature is clamped for all where the first of them would
    clamp it. With a hard filter, which leaves each student tiles of its own, they are trained one after the other.

    Args:
        cases: the whole cohort.
        plans: the students; all have a subspace of the features, or none has.
        settings: how.
        device: where.
        part: what is trained, for the history.
        log: history and progress.

    Source: docs/method.md, steps 2 to 4.
    """
    if settings.filter == "hard" and plans[0].target is not None and len(plans) > 1:
        return [
            train_students(cases, [plan], settings, device=device, part=f"{part}, {n} of {len(plans)}", log=log)[0]
            for n, plan in enumerate(plans, 1)
        ]
    bags = (cases.bags if cases.merged is None else cases.merged).on(device)
    targets = [plan.target for plan in plans if plan.target is not None]
    bases = [target.subspace for target in targets if target.subspace is not None]
    if bases:
        width = min(_RICHER * settings.hidden, WIDEST)
        settings = settings.model_copy(update={"hidden": width, "tiles_per_bag": _RICHER * settings.tiles_per_bag})
    with seeded(plans[0].seed, device) as generator, threads_for(bags, settings.tiles_per_bag, len(plans)):
        trains = SharedCases(tuple(numbers(plan.train) for plan in plans))
        moments = trains.moments(sample_rows(bags, SCALING_TILES, generator))
        members = tuple(
            _member(cases, plan, settings, of_rows, device) for plan, of_rows in zip(plans, moments, strict=True)
        )
        course = _Course(bags, members, settings, generator, part, log)
        of_one = [
            part if len(plans) == 1 else f"{part}, {number} of {len(plans)}" for number in range(1, len(plans) + 1)
        ]
        for name, member in zip(of_one, members, strict=True):
            if member.relevance is not None and settings.filter != "none":
                own = bags.select(member.train)
                learn_filter(member.student, own, member.relevance, settings, generator, f"{name}, filter", log)
                course = replace(course, bags=filter_bags(member.student, bags))
        course = course.along([basis.to(device) for basis in bases])
        for number, (plan, name) in enumerate(zip(plans, of_one, strict=True)):
            if plan.target is not None and settings.pretrain_epochs:
                _learn_reports(number, cases, course, f"{name}, reports")
        _learn_outcome(course)
    if bases:
        for member in members:
            parametrize.remove_parametrizations(member.student.embed, "weight")
    return [member.student for member in members]


def _member(
    cases: TrainingCases, plan: StudentPlan, settings: DistillSettings, moments: Moments, device: torch.device
) -> _Member:
    """A student before its training, and what it is to learn."""
    follow_up = follow_up_of(cases, plan.train, settings, device)
    with seeded(plan.seed, device):
        student = Student(
            len(moments.mean),
            settings.hidden,
            settings.dropout,
            moments.mean,
            moments.sd,
            settings.aggregator,
            follow_up.n_bins if settings.loss == "discrete" else 1,
        ).to(device)
    if settings.loss == "discrete" and student.hazard.bias is not None:
        student.hazard.bias.data.copy_(common_logits(follow_up))
    if plan.start is not None:
        start_from(student, plan.start)
    target = plan.target
    if target is not None and target.subspace is not None:
        parametrize.register_parametrization(student.embed, "weight", Projection(target.subspace.to(device)))
    relevance = by_source_row(cases.bags, target.relevance) if target and target.relevance is not None else None
    tensors = target_tensors(target, plan.train, follow_up, settings)
    return _Member(student, numbers(plan.train), follow_up, tensors, relevance)


def _learn_reports(number: int, cases: TrainingCases, course: _Course, part: str) -> None:
    """Step 2, ``--pretrain-epochs``: predict the mean of the report's statements from the tiles; no outcome is used."""
    settings, member = course.settings, course.members[number]
    reports = reports_of(cases, member.train.numpy())
    wanted = torch.from_numpy(reports.means).float().to(course.bags.device)
    bags = course.bags.select(member.train[torch.from_numpy(reports.rows)])
    head = nn.Linear(settings.hidden, wanted.shape[1]).to(course.bags.device)

    def pooled(packed: PackedBags) -> Tensor:
        return member.student.pooled_of(course.states(number, packed), packed)

    def loss() -> Tensor:
        predicted = head(in_parts(pooled, sample_rows(bags, settings.tiles_per_bag, course.generator)))
        return torch.nn.functional.mse_loss(predicted, wanted)

    minimise(
        [member.student, head],
        loss,
        settings.model_copy(update={"epochs": settings.pretrain_epochs}),
        part=part,
        log=course.log,
        generator=course.generator,
    )


def _learn_outcome(course: _Course) -> None:
    """Steps 3 and 4: L = outcome + α agreement with the teacher, the same over mixed bags where asked; of each."""
    students = [member.student for member in course.members]
    averages = [_Average(student) for student in students] if course.settings.ema else []

    def loss() -> Tensor:
        bags = course.draw()
        outputs = course.cases.outputs(students, course.states_of, bags)
        values = [_member_loss(course, number, bags, output) for number, output in enumerate(outputs)]
        if averages:
            values = [
                value + _OWN_WEIGHT * correlation_loss(member.student.log_hazard(output), averaged)
                for value, member, output, averaged in zip(
                    values, course.members, outputs, _averaged(averages, course), strict=True
                )
            ]
        return torch.stack(values)

    modules = [*students, *averages]
    minimise(modules, loss, course.settings, part=course.part, log=course.log, generator=course.generator)


def _member_loss(course: _Course, number: int, bags: Bags, output: Tensor) -> Tensor:
    """The loss of one student, from its outputs of its training cases, and the bags of all cases."""
    member = course.members[number]
    value = outcome_loss(course.settings, output, member.follow_up)
    if member.target is None:
        return value
    value = value + member.target.weight * _agreement(course, number, member.target, bags, output)
    if course.settings.mixup != "none":
        value = (value + _mixed_loss(course, number, member.target, bags.select(member.train))) / 2
    return value


def _agreement(course: _Course, number: int, target: TargetTensors, bags: Bags, output: Tensor) -> Tensor:
    """``--distill``: of risk over cases with a report, or of attention over the tiles of all cases."""
    member = course.members[number]
    if course.settings.distill == "attention-kl" and member.relevance is not None:
        own = bags.select(member.train)
        share = in_parts(lambda packed: member.student.parts_of(course.states(number, packed), packed).share, own)
        relevance = member.relevance[own.index].to(share.device)
        if own.weight is not None:
            relevance = relevance * own.weight.to(share.device)
        return attention_kl(teacher=relevance, student=share, bags=_segments(share, own))
    rows = target.rows.to(output.device)
    log_hazard = member.student.log_hazard(output)[rows]
    return agreement_loss(course.settings, target, output[rows], log_hazard, target.risk, member.follow_up.take(rows))


def _mixed_loss(course: _Course, number: int, target: TargetTensors, bags: Bags) -> Tensor:
    """Step 4, ``--mixup``: outcome and agreement over bags mixed of two of the student's cases with reports."""
    member, student = course.members[number], course.members[number].student
    near = _PARTNER_RANKS if course.settings.mixup == "risk" else len(target.rows)
    partners = similar_partners(target.risk, near, course.generator)
    mixed = mix(bags, target.rows, target.rows[partners], course.generator)
    output = in_parts(lambda packed: student.output_of(course.states(number, packed), packed), mixed.bags)
    both = torch.cat([mixed.first, mixed.second]).to(output.device)
    share = mixed.share.to(output.device)
    outcome = outcome_loss(
        course.settings, torch.cat([output, output]), member.follow_up.take(both), torch.cat([share, 1 - share])
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


def _averaged(averages: Sequence[_Average], course: _Course) -> list[Tensor]:
    """``--ema``: log hazards of the students' moving averages, on other tiles of the same cases, to agree with.

    Source: Tarvainen and Valpola 2017 (mean teacher).
    """
    for average, member in zip(averages, course.members, strict=True):
        average.follow(member.student)
    students = [average.student for average in averages]
    with torch.no_grad():
        outputs = course.cases.outputs(students, course.states_of, course.draw())
        return [student.log_hazard(output) for student, output in zip(students, outputs, strict=True)]


def _segments(rows: Tensor, bags: Bags) -> PackedBags:
    """Values a row with the bounds of the bags that they are of."""
    weight = None if bags.weight is None else bags.weight.to(rows.device)
    return PackedBags(rows, bags.offsets.to(rows.device), weight)
