"""Losses between student and teacher, all 0 where the two agree."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from wsisurv.bags.packed import PackedBags
from wsisurv.bags.segments import segment_sum
from wsisurv.survival.losses import at_risk_at

_LEAST_SHARE = 1e-12
_IMPROBABLE = -1e30
_MOST = 30.0
"""Logarithm of a hazard within one bin beyond which nobody survives it, and below the negative of which none dies."""


def calibrated_error(log_hazard: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of log hazards, each less its mean, since Cox risks have no common origin.

    Args:
        log_hazard: of the student, (n,).
        target: of the teacher, (n,), on the scale of log hazards.

    Returns:
        float64 ().
    """
    first, second = log_hazard.double(), target.double()
    return ((first - first.mean()) - (second - second.mean())).square().mean()


def listwise_kl(
    *, log_hazard: Tensor, target: Tensor, time: Tensor, event: Tensor, entry: Tensor | None = None
) -> Tensor:
    """Divergence of the student from the teacher over risk sets: who of those at risk is next?

    At each event time, with R all who have that time or a later one, p = softmax_R(target), q = softmax_R(log hazard):
    Σ_R p log(p / q), mean over events. Time O(n), whatever the size of the risk sets, unless cases enter late.

    Args:
        log_hazard: of the student, (n,).
        target: of the teacher, (n,), on the scale of log hazards.
        time: (n,), any unit.
        event: bool (n,).
        entry: (n,), time from which each case was followed; from 0 if None.

    Returns:
        float64 (); 0 with a gradient of 0 where there is no event.

    Source: Cao et al. 2007 (ListNet, top-one probabilities), over the risk sets of Cox 1972.
    """
    order = torch.argsort(time.double(), descending=True, stable=True)
    student, teacher, died = log_hazard.double()[order], target.double()[order], event[order].bool()
    if not bool(died.any()):
        return (student * 0).sum()
    if entry is not None:
        here = at_risk_at(time[order], entry[order], time[order][died])
        # out of the risk set both are so improbable that neither counts, and nothing becomes infinite
        p, q = (torch.log_softmax(one.masked_fill(~here, _IMPROBABLE), dim=1) for one in (teacher, student))
        return (torch.where(here, p.exp() * (p - q), 0.0)).sum(1).mean()
    _, group, size = torch.unique_consecutive(time[order], return_inverse=True, return_counts=True)
    last = (size.cumsum(0) - 1)[group][died]  # the risk set of a time ends with the last row of that time
    # Σ p (teacher − student) as a quotient of sums of positive terms, in logarithms: nothing overflows or vanishes
    gap = teacher - student
    origin = gap.detach().min() - 1
    at_risk = torch.logcumsumexp(teacher, 0)
    expected = torch.exp(torch.logcumsumexp(teacher + (gap - origin).log(), 0) - at_risk) + origin
    return (expected - at_risk + torch.logcumsumexp(student, 0))[last].mean()


@dataclass(frozen=True)
class BinHazards:
    """Hazards of cases in time bins, as logarithms."""

    log_event: Tensor  # float64 (n, n_bins), log h: of the event in a bin, if it was not before
    log_survival: Tensor  # float64 (n, n_bins), log(1 − h)


def logistic_hazards(logits: Tensor) -> BinHazards:
    """Hazards h = sigmoid(logit), (n, n_bins); those of ``discrete_loss``."""
    eta = logits.double()
    return BinHazards(logsigmoid(eta), logsigmoid(-eta))


def proportional_hazards(log_hazard: Tensor, log_steps: Tensor) -> BinHazards:
    """Hazards in bins of a Cox model: h_k = 1 − exp(−exp(log hazard) ΔH_k).

    Args:
        log_hazard: (n,).
        log_steps: (n_bins,), log of what the cumulative baseline hazard gains in each bin.
    """
    rate = (log_hazard.double().unsqueeze(1) + log_steps.double()).clamp(-_MOST, _MOST)
    survival = -rate.exp()
    return BinHazards(torch.log(-torch.expm1(survival)), survival)


def hazard_kl(*, teacher: BinHazards, student: BinHazards) -> Tensor:
    """Divergence of the student's distribution of the time of the event from the teacher's, over bins; mean of cases.

    By the chain rule it is Σ_k S_k (h log(h / h') + (1 − h) log((1 − h) / (1 − h'))), with the teacher's hazards h and
    its survival S_k to the beginning of bin k, and the student's hazards h'.

    Returns:
        float64 ().
    """
    survived = teacher.log_survival.cumsum(1) - teacher.log_survival
    event = teacher.log_event.exp() * (teacher.log_event - student.log_event)
    none = teacher.log_survival.exp() * (teacher.log_survival - student.log_survival)
    return (survived.exp() * (event + none)).sum(1).mean()


def attention_kl(*, teacher: Tensor, student: Tensor, bags: PackedBags) -> Tensor:
    """Divergence of the student's shares of attention from the teacher's, Σ p log(p / q) over a bag; mean of bags.

    Args:
        teacher: (n_rows,), at least 0; scaled here to sum to 1 over each bag.
        student: (n_rows,), sums to 1 over each bag.
        bags: which rows belong together.

    Returns:
        float64 ().
    """
    wanted = teacher.double().clamp(min=_LEAST_SHARE)
    wanted = wanted / segment_sum(wanted, bags)[bags.bag_of_row]
    each = wanted * (wanted.log() - student.double().clamp(min=_LEAST_SHARE).log())
    return segment_sum(each, bags).mean()
