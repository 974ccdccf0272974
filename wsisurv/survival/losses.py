"""Losses for follow-up that may end before the event; higher log hazard is worse."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus
from torch.utils.checkpoint import checkpoint

Ties = Literal["efron", "breslow"]
_NEVER = -1e30  # log of a weight of zero that stays finite, so that no gradient becomes NaN
_FEW = 1 << 14
"""Log hazards whose Cox loss a GPU leaves to the processor: of its some 150 kernels, each takes longer to begin than
the processor takes to do the step."""
_PAIRS_AT_ONCE = 1 << 22
"""Pairs (times models) held at once, 32 MiB an array."""


def cox_log_likelihood(
    *,
    log_hazard: Tensor,
    time: Tensor,
    event: Tensor,
    entry: Tensor | None = None,
    weight: Tensor | None = None,
    ties: Ties = "efron",
) -> Tensor:
    """Cox's partial log likelihood, in double precision and in logarithms throughout.

    With hazards ``exp(η)``, risk set ``R`` (all with entry < t ≤ time) and the ``d`` events ``D`` tied at each time t,
    it is the sum over t of

        Σ_D w η − mean_D(w) Σ_{l<d} log(Σ_R w exp η − (l/d) Σ_D w exp η)      Efron
        Σ_D w η − Σ_D w log Σ_R w exp η                                       Breslow

    Args:
        log_hazard: (n,) or (n, models): each column is a model of its own on the same cases.
        time: (n,), any unit.
        event: bool (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
        weight: of each row, as ``log_hazard`` or (n,), at least 0; a row of weight 0 is as if it were not there.
        ties: what to do where events share a time.

    Returns:
        float64 () or (models,); 0 (with a gradient of 0) where there is no event.

    Raises:
        ValueError: lengths differ, a time is not finite, or ties are of no known kind.

    Source: Cox 1972; Breslow 1974; Efron 1977; weights as in R's survival::coxph.
    """
    _validate(log_hazard, time, event, weight, entry)
    if ties not in ("efron", "breslow"):
        raise ValueError(f"ties {ties!r}: efron or breslow")
    eta = log_hazard.double().reshape(len(time), -1)
    w = torch.ones_like(eta) if weight is None else weight.double().reshape(len(time), -1).expand_as(eta)
    order = torch.argsort(time.double(), descending=True, stable=True)
    eta, w, died = eta[order], w[order], event[order].bool()
    if not bool(died.any()):
        return (eta * 0).sum(0).reshape(log_hazard.shape[1:])
    # rows of one time form a group; the risk set of a group ends with its last row
    _, group, size = torch.unique_consecutive(time[order], return_inverse=True, return_counts=True)
    log_w = torch.where(w > 0, w.clamp(min=torch.finfo(w.dtype).tiny).log(), _NEVER)
    if entry is None:
        at_risk = torch.logcumsumexp(eta + log_w, dim=0)[size.cumsum(0) - 1][group][died]
    else:
        at_risk = _late_risk_sets(eta + log_w, time[order], entry[order], time[order][died])

    eta, w, log_w, group = eta[died], w[died], log_w[died], group[died]
    counted = (w > 0).double()
    n_tied = _group_sum(counted, group).clamp(min=1)[group]
    mean_weight = _group_sum(w, group)[group] / n_tied
    if ties == "efron":
        totals = _group_sum(counted, group)
        before = (counted.cumsum(0) - counted - (totals.cumsum(0) - totals)[group]) * counted
        tied = _group_logsumexp(eta + log_w, group)[group]
        share = before / n_tied * torch.exp((tied - at_risk).clamp(max=0))
        at_risk = at_risk + torch.log1p(-share)
    likelihood = (torch.where(counted > 0, w * eta - mean_weight * at_risk, 0.0)).sum(0)
    return likelihood.reshape(log_hazard.shape[1:])


def cox_loss(
    *,
    log_hazard: Tensor,
    time: Tensor,
    event: Tensor,
    entry: Tensor | None = None,
    weight: Tensor | None = None,
    ties: Ties = "efron",
) -> Tensor:
    """Negative partial log likelihood per (weighted) event; arguments as ``cox_log_likelihood``.

    Returns:
        float64 () or (models,), on the device of ``log_hazard``; 0 with a gradient of 0 where there is no event.
    """
    if log_hazard.is_cuda and log_hazard.numel() <= _FEW:
        weight, entry = (None if one is None else one.cpu() for one in (weight, entry))
        loss = cox_loss(
            log_hazard=log_hazard.cpu(), time=time.cpu(), event=event.cpu(), entry=entry, weight=weight, ties=ties
        )
        return loss.to(log_hazard.device)
    likelihood = cox_log_likelihood(
        log_hazard=log_hazard, time=time, event=event, entry=entry, weight=weight, ties=ties
    )
    if weight is None:
        events = event.double().sum()
    else:
        events = (weight.double() * event.double().reshape(-1, *[1] * (weight.ndim - 1))).sum(0)
    return -likelihood / torch.where(events > 0, events, 1.0)


def ranking_loss(
    *, log_hazard: Tensor, time: Tensor, event: Tensor, entry: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Mean over comparable pairs of log(1 + exp(−(η_i − η_j))), where i has the event first: a smooth concordance.

    Pairs are those of ``metrics.concordance``; a pair weighs w_i w_j. Time O(n · events); memory is bounded, since
    pairs are made again for the gradient.

    Args:
        log_hazard: (n,) or (n, models).
        time: (n,), any unit.
        event: bool (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
        weight: of each row, as ``log_hazard`` or (n,), at least 0.

    Returns:
        float64 () or (models,); log 2 for equal log hazards, 0 (with a gradient of 0) where no pair is comparable.

    Raises:
        ValueError: lengths differ or a time is not finite.

    Source: Raykar et al. 2007, On ranking in survival analysis: bounds on the concordance index (log-sigmoid bound).
    """
    _validate(log_hazard, time, event, weight, entry)
    eta = log_hazard.double().reshape(len(time), -1)
    w = torch.ones_like(eta) if weight is None else weight.double().reshape(len(time), -1).expand_as(eta)

    def part(eta: Tensor, first: Tensor) -> Tensor:
        pair = _comparable(time, event, first, entry).double().unsqueeze(2) * w[first].unsqueeze(1) * w
        return (pair * softplus(eta - eta[first].unsqueeze(1))).sum((0, 1))

    total, pairs = (eta * 0).sum(0), torch.zeros_like(eta[0])
    step = max(1, _PAIRS_AT_ONCE // max(eta.numel(), 1))
    died = event.bool().nonzero().squeeze(1)
    for start in range(0, len(died), step):
        first = died[start : start + step]
        pairs = pairs + ((_comparable(time, event, first, entry).double() @ w) * w[first]).sum(0)
        if len(died) <= step:  # all at once: nothing to make again
            total = part(eta, first)
        else:
            total = total + checkpoint(part, eta, first, use_reentrant=False, preserve_rng_state=False)
    return (total / torch.where(pairs > 0, pairs, 1.0)).reshape(log_hazard.shape[1:])


def time_bins(*, time: Tensor, event: Tensor, n_bins: int = 4) -> Tensor:
    """Edges of time bins that hold about equally many events each.

    Args:
        time: (n,), positive, of the training cases.
        event: bool (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
        n_bins: 1 or more; tied times may leave fewer.

    Returns:
        float64 (n_bins + 1,), strictly ascending: 0, quantiles of the event times, the longest time. Bin k holds times
        from edge k up to but not at edge k + 1; the last one holds all that is later.

    Raises:
        ValueError: lengths differ, a time is not positive, no event, or n_bins below 1.
    """
    _validate(time, time, event, None)
    died = time[event.bool()].double()
    if n_bins < 1 or not len(died) or not bool((time > 0).all()):
        raise ValueError(f"{n_bins} bins of {len(died)} event times: positive times, a bin and an event are needed")
    shares = torch.arange(1, n_bins, dtype=torch.float64, device=died.device) / n_bins
    inner = torch.unique_consecutive(torch.quantile(died, shares))
    longest = time.double().max().reshape(1)
    inner = inner[(inner > died.min()) & (inner < longest)]
    return torch.cat([longest.new_zeros(1), inner, longest])


def discrete_loss(
    *,
    logits: Tensor,
    time: Tensor,
    event: Tensor,
    edges: Tensor,
    entry: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Negative log likelihood of discrete-time hazards h_k = sigmoid(logit_k), mean over (weighted) cases.

    A case with the event in bin b has likelihood h_b Π_{k<b}(1 − h_k); a censored one Π(1 − h_k) over the bins that it
    was followed at least half through, so that neither all nor none of the bin in which it was lost counts. A case that
    enters late counts likewise from the first bin on that it had entered by the middle.

    Args:
        logits: (n, n_bins) or (n, models, n_bins).
        time: (n,), in the unit of ``edges``.
        event: bool (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
        edges: (n_bins + 1,), see ``time_bins``.
        weight: (n,) or (n, models), at least 0.

    Returns:
        float64 () or (models,); 0 where all weights are.

    Raises:
        ValueError: lengths differ, a time is not finite, or edges and logits don't agree.

    Source: Gensheimer and Narasimhan 2019 (PeerJ 7:e6257).
    """
    n_bins = len(edges) - 1
    _validate(logits, time, event, weight, entry)
    if logits.ndim not in (2, 3) or logits.shape[-1] != n_bins or n_bins < 1:
        raise ValueError(f"logits {tuple(logits.shape)} for {n_bins} bins")
    fell, outlived = (part.double() for part in followed_bins(time, event, edges.to(logits.device), entry))
    eta = logits.double().reshape(len(time), -1, n_bins)
    each = -(fell.unsqueeze(1) * logsigmoid(eta) + outlived.unsqueeze(1) * logsigmoid(-eta)).sum(2)
    w = torch.ones_like(each) if weight is None else weight.double().reshape(len(time), -1).expand_as(each)
    total = w.sum(0)
    return ((w * each).sum(0) / torch.where(total > 0, total, 1.0)).reshape(logits.shape[1:-1])


def followed_bins(time: Tensor, event: Tensor, edges: Tensor, entry: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Bins in which each case had the event, and those it outlived, as ``discrete_loss`` counts; bool (n, n_bins)."""
    times, edge = time.double(), edges.double()
    middle = (edge[1:] + edge[:-1]) / 2
    own = torch.searchsorted(edge[1:-1].contiguous(), times, right=True)
    survived = torch.where(event.bool(), own, torch.searchsorted(middle, times, right=True))
    number = torch.arange(len(middle), device=edge.device)
    outlived = number < survived.unsqueeze(1)
    if entry is not None:
        outlived &= number >= torch.searchsorted(middle, entry.double()).unsqueeze(1)
    return (number == own.unsqueeze(1)) & event.bool().unsqueeze(1), outlived


def discrete_log_hazard(logits: Tensor) -> Tensor:
    """One number a case, higher is worse: log cumulative hazard log(−log S) at the end of the bins.

    Under proportional hazards this is Cox's log hazard and a constant. (…, n_bins) → float64 (…).
    """
    eta = logits.double()
    # log softplus(x) is x for very negative x, where softplus is 0 in floating point
    return torch.where(eta > -30, softplus(eta.clamp(min=-30)).log(), eta).logsumexp(-1)


def discrete_log_hazard_slope(logits: Tensor) -> Tensor:
    """Gradient of ``discrete_log_hazard``: sigmoid(logit_k) / Σ softplus(logit_j), (…, n_bins) → float64 the same."""
    eta = logits.double().clamp(min=-30)
    return torch.sigmoid(eta) / softplus(eta).sum(-1, keepdim=True)


def correlation_loss(first: Tensor, second: Tensor) -> Tensor:
    """1 − Pearson correlation of two (n,) tensors; 1 where either is constant."""
    a, b = first.double() - first.double().mean(), second.double() - second.double().mean()
    return 1 - (a * b).sum() / (a.square().sum() * b.square().sum() + 1e-12).sqrt()


def _validate(output: Tensor, time: Tensor, event: Tensor, weight: Tensor | None, entry: Tensor | None = None) -> None:
    n = len(output)
    if entry is not None and (entry.shape != (n,) or not bool((entry < time).all())):
        raise ValueError(f"entries {tuple(entry.shape)} of {n} cases: one each, before its time")
    if time.shape != (n,) or event.shape != (n,) or (weight is not None and len(weight) != n):
        raise ValueError(f"{n} model outputs, times {tuple(time.shape)}, events {tuple(event.shape)}: one a case each")
    if not bool(torch.isfinite(time).all()):
        raise ValueError("a time is not finite")


def _comparable(time: Tensor, event: Tensor, first: Tensor, entry: Tensor | None) -> Tensor:
    """Whether each case (columns), at risk then, outlives each of ``first`` (rows), or is censored at its time."""
    own = time[first].unsqueeze(1)
    longer = (time > own) | ((time == own) & ~event.bool())
    return longer if entry is None else longer & (entry < own)


def at_risk_at(time: Tensor, entry: Tensor, at: Tensor) -> Tensor:
    """Whether each case is at risk at each of the times ``at``, bool (n_times, n)."""
    return (time >= at.unsqueeze(1)) & (entry < at.unsqueeze(1))


def _late_risk_sets(eta: Tensor, time: Tensor, entry: Tensor, at: Tensor) -> Tensor:
    """Logarithm of the sum over each risk set, (n, models) → (n_times, models); memory is bounded."""
    times, which = torch.unique(at, return_inverse=True)

    def part(eta: Tensor, some: Tensor) -> Tensor:
        out = ~at_risk_at(time, entry, some).unsqueeze(2)
        return torch.logsumexp(eta.masked_fill(out, _NEVER), dim=1)

    step = max(1, _PAIRS_AT_ONCE // max(eta.numel(), 1))
    if len(times) <= step:
        return part(eta, times)[which]
    parts = [
        checkpoint(part, eta, times[start : start + step], use_reentrant=False, preserve_rng_state=False)
        for start in range(0, len(times), step)
    ]
    return torch.cat(parts)[which]


def _group_sum(values: Tensor, group: Tensor) -> Tensor:
    """Sum of each group, (n, models) → (n_groups, models)."""
    shape = (int(group.max()) + 1, values.shape[1])
    return torch.zeros(shape, dtype=values.dtype, device=values.device).index_add(0, group, values)


def _group_logsumexp(values: Tensor, group: Tensor) -> Tensor:
    shape = (int(group.max()) + 1, values.shape[1])
    highest = torch.full(shape, _NEVER, dtype=values.dtype, device=values.device)
    highest = highest.scatter_reduce(0, group.unsqueeze(1).expand_as(values), values.detach(), "amax")
    total = _group_sum(torch.exp(values - highest[group]), group)
    return highest + torch.where(total > 0, total, 1.0).log()
