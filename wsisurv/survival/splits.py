"""Folds of cases: balanced in events, hospitals kept whole where there are enough of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LEAST_SHARE, _LARGEST_SHARE = 0.7, 1.5
"""What a fold of whole sites holds at least and at most, in even shares."""
_MOST = 0.5
"""Share of the cases, and of the events, that a fold of whole sites holds at most; else sites are not kept whole."""
_DEALS, _ROUNDS = 64, 16
"""Deals drawn at once, and how often, before the most even one is taken."""


def make_folds(
    *, event: NDArray[np.bool_], n_folds: int, seed: int, site: Sequence[str | None] | None = None
) -> NDArray[np.int64]:
    """Assign each case to one of ``n_folds`` folds.

    Sites are kept whole when every case has one and none of the folds then holds more than half of the cases or of
    the events (else too little would be left to train on); otherwise single cases are dealt out. Whole sites are dealt
    out at random within bounds, a fold holding 0.7 to 1.5 times its share of cases and of events, or as near to that
    as the sites' sizes allow: the most even deal is nearly the same for every seed, so repeats of it repeat nothing.

    Args:
        event: bool (n,).
        n_folds: 2 to n.
        seed: another seed, other folds.
        site: hospital of each case.

    Returns:
        int64 (n,), each of 0 … n_folds − 1 at least once.

    Raises:
        ValueError: fewer cases than folds, or fewer than two folds.
    """
    n = len(event)
    if not 2 <= n_folds <= n:
        raise ValueError(f"{n_folds} folds of {n} cases")
    random = np.random.default_rng(seed)
    if site is not None and all(site) and len(set(site)) >= n_folds:
        names = np.asarray(site)
        groups = [np.flatnonzero(names == name) for name in np.unique(names)]
        even = _deal(groups, event, n_folds, random)
        held = [np.bincount(even, weights=w, minlength=n_folds).max() / w.sum() for w in (np.ones(n), event + 1e-9)]
        if max(held) <= _MOST:
            return _deal_at_random(groups, event, even, n_folds, random)
    return _deal([np.array([case]) for case in range(n)], event, n_folds, random)


def hospital_strata(site: Sequence[str | None]) -> NDArray[np.int64] | None:
    """Number of each case's hospital, for comparing cases within one only.

    A case of an unknown hospital has a number of its own: it is compared with none, since it may be of any.

    Args:
        site: hospital of each case; None or empty where unknown.

    Returns:
        int64 (n,); None where fewer than half are known, or all are of one hospital.
    """
    if 2 * sum(map(bool, site)) < len(site) or len(set(site)) < 2:
        return None
    names = [name or f"\n{case}" for case, name in enumerate(site)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def hospital_folds(hospital: NDArray[np.int64], event: NDArray[np.bool_], n_folds: int) -> NDArray[np.int64]:
    """Deal hospitals out, each whole however large, to as many folds as asked or as there are hospitals."""
    groups = [np.flatnonzero(hospital == one) for one in np.unique(hospital)]
    return _deal(groups, event, min(n_folds, len(groups)), np.random.default_rng(0))


def within_strata(values: NDArray[np.float64], stratum: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, k) less the mean of each row's stratum."""
    number, size = np.unique(stratum, return_inverse=True, return_counts=True)[1:]
    sums = np.zeros((len(size), values.shape[1]))
    np.add.at(sums, number, values)
    return values - (sums / size[:, None])[number]


def kept_whole(groups: Sequence[str | None], fold: NDArray[np.int64]) -> bool:
    """Whether no group, one entry a case, is in two folds."""
    return len(set(zip(groups, fold.tolist(), strict=True))) == len(set(groups))


def _deal(
    groups: list[NDArray[np.int64]], event: NDArray[np.bool_], n_folds: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Deal groups out, those with most events first, each to the fold with fewest events, then fewest cases."""
    shuffled = [groups[i] for i in random.permutation(len(groups))]
    shuffled.sort(key=lambda group: (-int(event[group].sum()), -len(group)))
    fold = np.zeros(len(event), dtype=np.int64)
    events, cases = np.zeros(n_folds, dtype=np.int64), np.zeros(n_folds, dtype=np.int64)
    for group in shuffled:
        # an empty fold comes first, so that none stays empty; a group without events goes by cases alone
        key = events if event[group].any() else np.zeros_like(events)
        chosen = np.lexsort((cases, key, cases > 0))[0]
        fold[group] = chosen
        events[chosen] += int(event[group].sum())
        cases[chosen] += len(group)
    return fold


def _deal_at_random(
    groups: list[NDArray[np.int64]],
    event: NDArray[np.bool_],
    even: NDArray[np.int64],
    n_folds: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Deal groups out at random, largest first, each to any fold with room; the first deal within bounds is taken.

    Bounds give way as far as ``even``, the most even deal, needs; it is taken where no random one is found.
    """
    size = np.array([[len(group), event[group].sum()] for group in groups], dtype=np.float64)
    size /= np.maximum(size.sum(0), 1)
    order = np.lexsort((size[:, 1], size.max(1)))[::-1]
    held = np.stack([np.bincount(even, weights=w, minlength=n_folds) / max(w.sum(), 1) for w in (even >= 0, event)], 1)
    most = np.maximum(held.max(0), np.minimum(_MOST, np.maximum(_LARGEST_SHARE / n_folds, 1.1 * held.max(0)))) + 1e-9
    least = _LEAST_SHARE * np.minimum(1 / n_folds, held.min(0)) - 1e-9
    deals = np.arange(_DEALS)
    for _ in range(_ROUNDS):
        held, fold_of = np.zeros((_DEALS, n_folds, 2)), np.zeros((_DEALS, len(groups)), dtype=np.int64)
        for group in order:
            room = ((most - held - size[group]) / most).min(2)
            # a fold by chance, rather one with more room; where none has any, one of them, and the deal is refused
            chance = np.sqrt(np.maximum(room, 1e-12))
            fold_of[:, group] = (random.exponential(size=room.shape) / chance).argmin(1)
            held[deals, fold_of[:, group]] += size[group]
        within = ((held <= most) & (held >= least)).all((1, 2)) & (held[:, :, 0] > 0).all(1)
        if within.any():
            fold = np.zeros(len(event), dtype=np.int64)
            for group, number in zip(groups, fold_of[within.argmax()], strict=True):
                fold[group] = number
            return fold
    return even
