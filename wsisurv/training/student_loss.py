"""Step 3 of the method, term by term: the loss of the outcome, and the agreement with the teacher target."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsisurv.errors import MetricError
from wsisurv.settings.training import DistillSettings
from wsisurv.survival.baseline import baseline_hazard
from wsisurv.survival.covariates import fit_covariates
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.losses import correlation_loss, cox_loss, discrete_loss, followed_bins, ranking_loss, time_bins
from wsisurv.training.agreement import calibrated_error, hazard_kl, listwise_kl, logistic_hazards, proportional_hazards
from wsisurv.training.inputs import TrainingCases

_CALIBRATED = ("mse", "listwise-kl", "hazard-kl")
"""Objectives that need τ on the scale of log hazards; correlation has no scale."""
_LEAST_STEP = 1e-9
"""Cumulative hazard of a bin in which no case with a report had the event."""


@dataclass(frozen=True)
class TeacherTarget:
    """The teacher target of one student."""

    risk: NDArray[np.float64]  # τ, float64 (n_cases,) of the whole cohort, NaN where there is none
    gate: float  # g, above 0
    # float32 (n_tiles,), the teacher's relevance of each tile of the whole cohort in the order of
    # ``TrainingCases.bags``, summing to 1 over each bag; where settings need it, else None
    relevance: Tensor | None = None
    # float32 (n_features, r), orthonormal basis of the subspace of the scaled features that the student sees; None for
    # all features
    subspace: Tensor | None = None


@dataclass(frozen=True)
class OutcomeTensors:
    """Follow-up of the training cases, on the device."""

    time: Tensor  # (n,)
    event: Tensor  # bool (n,)
    edges: Tensor | None = None  # (n_bins + 1,), of ``time_bins``; None where nothing asks for bins
    offset: Tensor | None = None  # (n,), log hazard that is taken as given; None for none
    entry: Tensor | None = None  # (n,), time from which each case was followed; None where all were followed from 0

    @property
    def n_bins(self) -> int:
        """Time bins; 1 where nothing asks for them."""
        return 1 if self.edges is None else len(self.edges) - 1

    def take(self, rows: Tensor) -> "OutcomeTensors":
        """Select cases by number, int64 (n_taken,); one may be taken more than once."""
        entry, offset = (None if one is None else one[rows] for one in (self.entry, self.offset))
        return OutcomeTensors(self.time[rows], self.event[rows], self.edges, offset, entry)


def follow_up_of(
    cases: TrainingCases, train: NDArray[np.int64], settings: DistillSettings, device: torch.device
) -> OutcomeTensors:
    """Follow-up of the training cases; bins and the covariates' risk are made of these cases alone.

    Raises:
        MetricError: covariates that can't be fitted.
    """
    time, event = torch.from_numpy(cases.time[train]), torch.from_numpy(cases.event[train])
    edges = offset = None
    entry = None if cases.entry is None else torch.from_numpy(cases.entry[train]).to(device)
    if settings.loss == "discrete" or settings.distill == "hazard-kl":
        edges = time_bins(time=time, event=event, n_bins=settings.bins).to(device)
    if settings.adjust_for:
        known = [cases.clinical[case] for case in train]
        offset = torch.from_numpy(fit_covariates(known, settings.adjust_for).log_hazard(known)).to(device)
    return OutcomeTensors(time.to(device), event.to(device), edges, offset, entry)


def common_logits(follow_up: OutcomeTensors) -> Tensor:
    """Logit of each bin's hazard as it is in all training cases together, float32 (n_bins,); where training begins.

    Cases count in a bin as in ``discrete_loss``: events in theirs, the censored in bins they were half through.
    """
    if follow_up.edges is None:
        raise ValueError("no bins")
    bins = followed_bins(follow_up.time, follow_up.event, follow_up.edges, follow_up.entry)
    fell, outlived = (part.double().sum(0) for part in bins)
    return ((fell + 0.5) / (outlived + 0.5)).log().float()


def outcome_loss(
    settings: DistillSettings, output: Tensor, follow_up: OutcomeTensors, weight: Tensor | None = None
) -> Tensor:
    """``--loss`` of a student's outputs (n, n_bins), with a given log hazard added where there is one.

    Args:
        settings: which loss.
        output: (n, n_bins): the log hazard alone, or the logit of each bin's hazard.
        follow_up: of the same cases.
        weight: (n,), at least 0; None for 1.
    """
    time, event, entry = follow_up.time, follow_up.event, follow_up.entry
    if follow_up.offset is not None:
        output = output + follow_up.offset.unsqueeze(1)
    if follow_up.edges is not None and settings.loss == "discrete":
        edges = follow_up.edges
        return discrete_loss(logits=output, time=time, event=event, edges=edges, entry=entry, weight=weight)
    if settings.loss == "ranking":
        return ranking_loss(log_hazard=output.squeeze(1), time=time, event=event, entry=entry, weight=weight)
    return cox_loss(log_hazard=output.squeeze(1), time=time, event=event, entry=entry, weight=weight)


@dataclass(frozen=True)
class TargetTensors:
    """The teacher target on the training cases of one student."""

    rows: Tensor  # int64 (n,), which training cases have one; on the CPU
    risk: Tensor  # τ, float64 (n,), on the CPU
    slope: float  # b of the Cox model of these cases' follow-up on τ: b τ is on the scale of log hazards
    # (n_bins,), log of the baseline hazard of b τ in each bin; None where nothing asks for bins
    log_steps: Tensor | None
    weight: float  # α, the gate times ``--guidance-weight`` times the share of the cases that have one


def target_tensors(
    target: TeacherTarget | None, train: NDArray[np.int64], follow_up: OutcomeTensors, settings: DistillSettings
) -> TargetTensors | None:
    """Restrict the teacher target to the training cases; None where fewer than two have one."""
    if target is None:
        return None
    rows = np.flatnonzero(np.isfinite(target.risk[train]))
    if len(rows) < 2:
        return None
    risk = target.risk[train][rows]
    time, event = follow_up.time.cpu().numpy()[rows], follow_up.event.cpu().numpy()[rows]
    entry = None if follow_up.entry is None else follow_up.entry.cpu().numpy()[rows]
    slope, log_steps = 1.0, None
    # few reports weigh little beside the outcome of all cases
    alpha = settings.guidance_weight * target.gate * len(rows) / len(train)
    if settings.distill not in _CALIBRATED:
        return TargetTensors(torch.from_numpy(rows), torch.from_numpy(risk), slope, log_steps, alpha)
    try:
        slope = max(cox_slope(log_hazard=risk, time=time, event=event, entry=entry).value, 0.0)
        if follow_up.edges is not None:
            centred = slope * (risk - risk.mean())
            baseline = baseline_hazard(log_hazard=centred, time=time, event=event, entry=entry)
            cumulative = np.r_[0.0, np.exp(baseline.log_cumulative)]
            by_edge = cumulative[np.searchsorted(baseline.times, follow_up.edges.cpu().numpy(), side="right")]
            log_steps = torch.from_numpy(np.log(np.maximum(np.diff(by_edge), _LEAST_STEP)))
    except MetricError:
        log_steps = None  # no event among them: nothing to calibrate by
    return TargetTensors(torch.from_numpy(rows), torch.from_numpy(risk), slope, log_steps, alpha)


def agreement_loss(
    settings: DistillSettings,
    target: TargetTensors,
    output: Tensor,
    log_hazard: Tensor,
    risk: Tensor,
    follow_up: OutcomeTensors | None,
) -> Tensor:
    """``--distill``: disagreement of a student with the teacher target; 0 for objectives that are not about risk.

    Args:
        settings: which objective.
        target: of the training cases.
        output: of the student, (n, n_bins).
        log_hazard: of the student, (n,).
        risk: of the teacher, τ (n,).
        follow_up: of the same cases; None for mixed cases, which have no risk set.
    """
    nothing = (log_hazard * 0).sum()
    risk = risk.to(log_hazard.device)
    if settings.distill == "correlation":
        return correlation_loss(log_hazard, risk)
    calibrated = target.slope * (risk - risk.mean())
    if settings.distill == "mse":
        return calibrated_error(log_hazard, calibrated)
    if settings.distill == "listwise-kl" and follow_up is not None:
        time, event, entry = follow_up.time, follow_up.event, follow_up.entry
        return listwise_kl(log_hazard=log_hazard, target=calibrated, time=time, event=event, entry=entry)
    if settings.distill == "hazard-kl" and target.log_steps is not None:
        steps = target.log_steps.to(log_hazard.device)
        centred = log_hazard - log_hazard.mean()
        student = logistic_hazards(output) if output.shape[1] > 1 else proportional_hazards(centred, steps)
        return hazard_kl(teacher=proportional_hazards(calibrated, steps), student=student)
    return nothing
