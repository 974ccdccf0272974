"""``--teacher concat`` and ``cross-attention``: a model of tiles and statements, cross-fitted like the text branch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsisurv.bags.packed import in_parts, pack, row_moments, sample_rows
from wsisurv.errors import SettingsError
from wsisurv.models.joint import JointEnsemble, JointMember, JointTeacher
from wsisurv.models.text_branch import fit_text_scaling
from wsisurv.settings.training import TeacherSettings
from wsisurv.survival.losses import cox_loss
from wsisurv.training.crossfit import TEXT_DIMENSIONS, Gate, can_cross_fit, fit_gate
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import Log, minimise, seeded, threads_for

_SCALING_TILES = 512


@dataclass(frozen=True)
class JointGuidance:
    """Guidance by joint teachers; arrays have one entry a case, NaN for a case without a report.

    Attributes:
        ensemble: one member a fold, trained without it.
        risk: float64 (n_cases,), τ by the member that did not see the case.
        gate: of τ.
        risk_without: float64 (n_folds, n_cases), τ made anew without any outcome of one fold; NaN for that fold too.
        gates_without: of them.
        relevance: of the tiles of each case with a report, by its number: float32, out of fold, summing to 1.
    """

    ensemble: JointEnsemble
    risk: NDArray[np.float64]
    gate: Gate
    risk_without: NDArray[np.float64]
    gates_without: tuple[Gate, ...]
    relevance: dict[int, NDArray[np.float32]]


def n_trainings(n_folds: int) -> int:
    """How many models ``cross_fit_joint`` trains: one without each fold, and one without each two."""
    return n_folds + n_folds * (n_folds - 1) // 2


def cross_fit_joint(
    cases: TrainingCases, fold: NDArray[np.int64], settings: TeacherSettings, device: torch.device, log: Log
) -> JointGuidance:
    """Train a model without each fold, which gives τ, and one without each two folds, which gives τ without a fold.

    The model without folds j and k gives the teacher target of the cases of j for a student tested on k, and the other
    way round: no outcome of either has a part in it.

    Args:
        cases: the whole cohort; cases without a report take no part.
        fold: int64 (n_cases,), the member folds.
        settings: the teacher's.
        device: where.
        log: history and progress.

    Raises:
        SettingsError: fewer than three folds, or fewer than two events left among cases with reports.

    Source: docs/method.md, steps 0 and 1; Chernozhukov et al. 2018 for cross-fitting.
    """
    n_folds = int(fold.max()) + 1
    if n_folds < 3:
        raise SettingsError(
            f"--teacher {settings.teacher} needs three folds at least, to leave out two at a time; seen {n_folds}. "
            "Give more --folds, or take --teacher late where there are fewer than three events."
        )
    reported = cases.has_report
    risk, without = np.full(len(fold), np.nan), np.full((n_folds, len(fold)), np.nan)
    relevance: dict[int, NDArray[np.float32]] = {}
    members = []
    for k in range(n_folds):
        member = _train(cases, np.flatnonzero(reported & (fold != k)), settings, (k,), device, log)
        members.append(member)
        for case in np.flatnonzero(reported & (fold == k)).tolist():
            log_hazard, relevance[case] = _look(member, cases, case)
            risk[case] = log_hazard
    for first, second in combinations(range(n_folds), 2):
        left_out = (first, second)
        member = _train(cases, np.flatnonzero(reported & ~np.isin(fold, left_out)), settings, left_out, device, log)
        for case in np.flatnonzero(reported & np.isin(fold, left_out)).tolist():
            other = second if fold[case] == first else first
            without[other, case], _ = _look(member, cases, case)
    gates = [_gate(cases, values) for values in (risk, *without)]
    log.line(part=f"{settings.teacher}, gate", gate=gates[0].value)
    return JointGuidance(JointEnsemble(tuple(members)), risk, gates[0], without, tuple(gates[1:]), relevance)


def _train(
    cases: TrainingCases,
    train: NDArray[np.int64],
    settings: TeacherSettings,
    left_out: Sequence[int],
    device: torch.device,
    log: Log,
) -> JointMember:
    """One model on cases with reports: Cox's loss on random tiles and all statements."""
    part = f"{settings.teacher} without fold {' and '.join(str(k + 1) for k in left_out)}"
    if not can_cross_fit(cases.event[train]):
        raise SettingsError(
            f"{part}: fewer than two events among {len(train)} cases with reports. Take --teacher late."
        )
    bags = cases.bags.on(device).select(torch.from_numpy(train))
    reports = [vectors for case in train if (vectors := cases.statements[case]) is not None]
    scaling = fit_text_scaling(np.concatenate(reports), TEXT_DIMENSIONS)
    statements = pack([scaling(vectors) for vectors in reports]).to(device)
    time, event = torch.from_numpy(cases.time[train]).to(device), torch.from_numpy(cases.event[train]).to(device)
    entry = None if cases.entry is None else torch.from_numpy(cases.entry[train]).to(device)
    seed = settings.seed * 1_000_000 + sum((k + 1) * 1000**place for place, k in enumerate(left_out))
    with seeded(seed, device) as generator, threads_for(bags, settings.tiles_per_bag):
        moments = row_moments(sample_rows(bags, _SCALING_TILES, generator))
        model = JointTeacher(
            settings.teacher,
            scaling.components.shape[1],
            settings.hidden,
            settings.dropout,
            moments.mean,
            moments.sd,
            settings.aggregator,
        ).to(device)

        def loss() -> Tensor:
            drawn = sample_rows(bags, settings.tiles_per_bag, generator)
            return cox_loss(log_hazard=in_parts(model, drawn, statements), time=time, event=event, entry=entry)

        minimise(model, loss, settings, part=part, log=log, generator=generator)
    member = JointMember(model.cpu(), scaling, 0.0)
    centre = float(np.mean([_look(member, cases, case)[0] for case in train.tolist()]))
    return JointMember(member.model, scaling, centre)


def _look(member: JointMember, cases: TrainingCases, case: int) -> tuple[float, NDArray[np.float32]]:
    """Log hazard of a case with a report, and the relevance of its tiles."""
    statements = cases.statements[case]
    if statements is None:
        raise ValueError(f"case {case} has no report")
    tiles = cases.bags.select(torch.tensor([case])).load().rows.numpy()
    sight = member.look(tiles, statements)
    return float(sight.log_hazard), sight.relevance.numpy()


def _gate(cases: TrainingCases, risk: NDArray[np.float64]) -> Gate:
    known = np.isfinite(risk)
    entry = None if cases.entry is None else cases.entry[known]
    site = [cases.site[case] for case in np.flatnonzero(known)]
    return fit_gate(risk=risk[known], time=cases.time[known], event=cases.event[known], entry=entry, site=site)
