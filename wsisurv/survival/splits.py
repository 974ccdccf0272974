"""Folds of cases: balanced in events, hospitals kept whole where there are enough of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def make_folds(
    *, event: NDArray[np.bool_], n_folds: int, seed: int, site: Sequence[str | None] | None = None
) -> NDArray[np.int64]:
    """Assign each case to one of ``n_folds`` folds.

    Sites are kept whole when every case has one and none of the folds then holds more than half of the cases or of
    the events (else too little would be left to train on); otherwise single cases are dealt out.

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
        by_site = _deal([np.flatnonzero(names == name) for name in np.unique(names)], event, n_folds, random)
        held = [np.bincount(by_site, weights=w, minlength=n_folds).max() / w.sum() for w in (np.ones(n), event + 1e-9)]
        if max(held) <= 0.5:
            return by_site
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
