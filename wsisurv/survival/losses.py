"""Losses for follow-up that may end before the event; higher log hazard is worse."""

from typing import Literal

import torch
from torch import Tensor

Ties = Literal["efron", "breslow"]
_NEVER = -1e30  # log of a weight of zero that stays finite, so that no gradient becomes NaN


def cox_log_likelihood(
    *, log_hazard: Tensor, time: Tensor, event: Tensor, weight: Tensor | None = None, ties: Ties = "efron"
) -> Tensor:
    """Cox's partial log likelihood, in double precision and in logarithms throughout.

    With hazards ``exp(η)``, risk set ``R`` (all with time ≥ t) and the ``d`` events ``D`` tied at each time t,
    it is the sum over t of

        Σ_D w η − mean_D(w) Σ_{l<d} log(Σ_R w exp η − (l/d) Σ_D w exp η)      Efron
        Σ_D w η − Σ_D w log Σ_R w exp η                                       Breslow

    Args:
        log_hazard: (n,) or (n, models): each column is a model of its own on the same cases.
        time: (n,), any unit.
        event: bool (n,).
        weight: of each row, as ``log_hazard`` or (n,), at least 0; a row of weight 0 is as if it were not there.
        ties: what to do where events share a time.

    Returns:
        float64 () or (models,); 0 (with a gradient of 0) where there is no event.

    Raises:
        ValueError: lengths differ, a time is not finite, or ties are of no known kind.

    Source: Cox 1972; Breslow 1974; Efron 1977; weights as in R's survival::coxph.
    """
    _validate(log_hazard, time, event, weight, ties)
    eta = log_hazard.double().reshape(len(time), -1)
    w = torch.ones_like(eta) if weight is None else weight.double().reshape(len(time), -1).expand_as(eta)
    order = torch.argsort(time.double(), descending=True, stable=True)
    eta, w, died = eta[order], w[order], event[order].bool()
    if not bool(died.any()):
        return (eta * 0).sum(0).reshape(log_hazard.shape[1:])
    # rows of one time form a group; the risk set of a group ends with its last row
    _, group, size = torch.unique_consecutive(time[order], return_inverse=True, return_counts=True)
    log_w = torch.where(w > 0, w.clamp(min=torch.finfo(w.dtype).tiny).log(), _NEVER)
    at_risk = torch.logcumsumexp(eta + log_w, dim=0)[size.cumsum(0) - 1][group][died]

    eta, w, log_w, group = eta[died], w[died], log_w[died], group[died]
    counted = (w > 0).double()
    n_tied = _group_sum(counted, group).clamp(min=1)[group]
    mean_weight = _group_sum(w, group)[group] / n_tied
    if ties == "efron":
        before = (counted.cumsum(0) - counted - _before_group(counted, group)) * counted
        tied = _group_logsumexp(eta + log_w, group)[group]
        share = before / n_tied * torch.exp((tied - at_risk).clamp(max=0))
        at_risk = at_risk + torch.log1p(-share)
    likelihood = (torch.where(counted > 0, w * eta - mean_weight * at_risk, 0.0)).sum(0)
    return likelihood.reshape(log_hazard.shape[1:])


def cox_loss(
    *, log_hazard: Tensor, time: Tensor, event: Tensor, weight: Tensor | None = None, ties: Ties = "efron"
) -> Tensor:
    """Negative partial log likelihood per (weighted) event; arguments as ``cox_log_likelihood``.

    Returns:
        float64 () or (models,); 0 with a gradient of 0 where there is no event.
    """
    likelihood = cox_log_likelihood(log_hazard=log_hazard, time=time, event=event, weight=weight, ties=ties)
    if weight is None:
        events = event.double().sum()
    else:
        events = (weight.double() * event.double().reshape(-1, *[1] * (weight.ndim - 1))).sum(0)
    return -likelihood / torch.where(events > 0, events, 1.0)


def correlation_loss(first: Tensor, second: Tensor) -> Tensor:
    """1 − Pearson correlation of two (n,) tensors; 1 where either is constant."""
    a, b = first.double() - first.double().mean(), second.double() - second.double().mean()
    return 1 - (a * b).sum() / (a.square().sum() * b.square().sum() + 1e-12).sqrt()


def _validate(log_hazard: Tensor, time: Tensor, event: Tensor, weight: Tensor | None, ties: str) -> None:
    n = len(log_hazard)
    if time.shape != (n,) or event.shape != (n,) or (weight is not None and len(weight) != n):
        raise ValueError(f"{n} log hazards, times {tuple(time.shape)}, events {tuple(event.shape)}: one a case each")
    if not bool(torch.isfinite(time).all()):
        raise ValueError("a time is not finite")
    if ties not in ("efron", "breslow"):
        raise ValueError(f"ties {ties!r}: efron or breslow")


def _group_sum(values: Tensor, group: Tensor) -> Tensor:
    """Sum of each group, (n, models) → (n_groups, models)."""
    shape = (int(group.max()) + 1, values.shape[1])
    return torch.zeros(shape, dtype=values.dtype, device=values.device).index_add(0, group, values)


def _before_group(counts: Tensor, group: Tensor) -> Tensor:
    """Count of all rows in earlier groups, for each row."""
    totals = _group_sum(counts, group)
    return (totals.cumsum(0) - totals)[group]


def _group_logsumexp(values: Tensor, group: Tensor) -> Tensor:
    shape = (int(group.max()) + 1, values.shape[1])
    highest = torch.full(shape, _NEVER, dtype=values.dtype, device=values.device)
    highest = highest.scatter_reduce(0, group.unsqueeze(1).expand_as(values), values.detach(), "amax")
    total = _group_sum(torch.exp(values - highest[group]), group)
    return highest + torch.where(total > 0, total, 1.0).log()
