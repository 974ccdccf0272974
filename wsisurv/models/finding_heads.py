"""Heads that say from tiles how likely a finding is: logistic regression on the mean tile and an attended one.

The attended tile is the mean of a case's tiles, each weighted by what a first head, fitted on mean tiles, makes of it:
a finding that few tiles show moves the mean little, and this mean more. All of it is linear in the features given the
weights, so that each tile has its share of the log odds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from wsisurv.errors import FormatError
from wsisurv.models.principal import principal_directions
from wsisurv.survival.binary import hospital_offset, logistic_path, pair_likelihood
from wsisurv.survival.splits import hospital_strata, make_folds, within_strata

RIDGES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Largest first; the first principal direction has variance 1."""
DIRECTIONS = 48
_INNER_FOLDS = 5
_LEAST = 1e-9
_NO_RIDGE = 1e-9
_POOLED_BYTES = 1 << 28
_PARTS = ("focus", "weights", "intercept")

ReadTiles = Callable[[], Iterable[NDArray[np.floating]]]
"""Gives the tiles of each case, (n_tiles, d), in the order of the cases; called once or more."""


@dataclass(frozen=True)
class FindingHead:
    """The members of one finding's head; member k was fitted without fold k.

    Attributes:
        focus: (n_members, d), direction of the features by which tiles are attended to; (n_members, 0) for the mean
            tile alone.
        weights: (n_members, d or 2 d), of the mean tile, then of the attended one.
        intercept: (n_members,).
    """

    focus: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def log_odds(self, tiles: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated log odds of a case by each member, (n_members,); tiles (n_tiles, d), one at least."""
        values = np.asarray(tiles, dtype=np.float64)
        pooled = np.broadcast_to(values.mean(axis=0), (len(self.intercept), values.shape[1]))
        if self.focus.size:
            pooled = np.concatenate([pooled, attended(values, self.focus)], axis=1)
        return np.asarray((pooled * self.weights).sum(axis=1) + self.intercept, dtype=np.float64)

    def tile_shares(self, tiles: NDArray[np.floating], usual: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each tile adds to the log odds, (n_tiles,), mean of the members.

        The shares of a case add up to its log odds less those of a case whose tiles are all ``usual``.

        Args:
            tiles: (n_tiles, d).
            usual: (d,), mean tile of the training cases.
        """
        values = np.asarray(tiles, dtype=np.float64) - usual
        width = values.shape[1]
        share = values @ self.weights[:, :width].T / len(values)
        if self.focus.size:
            share = share + attention(values, self.focus) * (values @ self.weights[:, width:].T)
        return np.asarray(share.mean(axis=1), dtype=np.float64)


def attention(tiles: NDArray[np.float64], focus: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of each tile along each direction, (n_tiles, n_directions), which sum to 1 over tiles.

    Softmax of the projection, in standard deviations between the tiles of the case.
    """
    along = tiles @ focus.T
    spread = along.std(axis=0)
    along = (along - along.mean(axis=0)) / np.where(spread > _LEAST * (1 + np.abs(along).max(axis=0)), spread, np.inf)
    return np.asarray(softmax(along, axis=0), dtype=np.float64)


def attended(tiles: NDArray[np.float64], focus: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the tiles under each direction's attention, (n_directions, d)."""
    return np.asarray(attention(tiles, focus).T @ tiles, dtype=np.float64)


@dataclass(frozen=True)
class CrossFittedHeads:
    """Heads of several findings, and what they say of each case that they were not fitted on."""

    heads: tuple[FindingHead, ...]
    log_odds: NDArray[np.float64]  # (n_cases, n_findings), by the member that did not see the case's fold


def cross_fit_heads(
    targets: NDArray[np.float64],
    site: Sequence[str | None],
    fold: NDArray[np.int64],
    *,
    means: NDArray[np.float64],
    tiles: ReadTiles | None,
    progress: Callable[[int, int], None] | None = None,
) -> CrossFittedHeads:
    """Fit a head a finding without each fold in turn.

    Strength of the ridge, direction of the attention and calibration are found in inner folds of the cases fitted on,
    hospitals whole, and by pairs within hospital, where hospitals are known.

    Args:
        targets: (n_cases, n_findings): 1 present, 0 absent, NaN unknown.
        site: hospital of each case, or None.
        fold: int64 (n_cases,).
        means: (n_cases, d), mean tile of each case.
        tiles: of each case, for the attention; None for the mean tile alone.
        progress: called with (done, total) fits.
    """
    n, width = means.shape
    folds = np.unique(fold)
    log_odds = np.zeros(targets.shape)
    heads: list[FindingHead] = []
    at_once = max(1, _POOLED_BYTES // (8 * n * width * len(folds)))
    for first in range(0, targets.shape[1], at_once):
        kinds = range(first, min(first + at_once, targets.shape[1]))
        plans = [_plan(targets[:, kind], fold != k, site) for kind in kinds for k in folds]
        focus, of_case = _directions(plans, means) if tiles is not None else (np.zeros((0, 0, width)), None)
        pooled = None if tiles is None or of_case is None else _pool(tiles, focus, of_case)
        for number, kind in enumerate(kinds):
            members = []
            for member, k in enumerate(folds):
                plan = plans[number * len(folds) + member]
                summary = (
                    means
                    if pooled is None
                    else np.concatenate([means, pooled[:, number * len(folds) + member]], axis=1)
                )
                weights, intercept = _fit(summary[plan.rows], plan)
                log_odds[fold == k, kind] = summary[fold == k] @ weights + intercept
                members.append((weights, intercept))
                if progress is not None:
                    progress(kind * len(folds) + member + 1, targets.shape[1] * len(folds))
            own = slice(number * len(folds), (number + 1) * len(folds))
            heads.append(
                FindingHead(
                    focus=focus[own, 0] if pooled is not None else np.zeros((len(folds), 0)),
                    weights=np.stack([weights for weights, _ in members]),
                    intercept=np.array([intercept for _, intercept in members]),
                )
            )
    return CrossFittedHeads(tuple(heads), log_odds)


@dataclass(frozen=True)
class _Plan:
    """The cases that one member is fitted on, and how they are divided inside."""

    rows: NDArray[np.int64]
    present: NDArray[np.bool_]
    stratum: NDArray[np.int64] | None
    inner: NDArray[np.int64]  # inner fold of each row; empty where nothing can be learned


def _plan(target: NDArray[np.float64], seen: NDArray[np.bool_], site: Sequence[str | None]) -> _Plan:
    rows = np.flatnonzero(seen & np.isfinite(target))
    present = target[rows] == 1
    own = [site[row] for row in rows.tolist()]
    n_folds = min(_INNER_FOLDS, int(present.sum()), int((~present).sum()))
    inner = make_folds(event=present, n_folds=n_folds, seed=0, site=own) if n_folds > 1 else np.zeros(0, np.int64)
    return _Plan(rows, present, hospital_strata(own), inner)


def _directions(plans: Sequence[_Plan], means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Directions of attention: of all cases of a plan, and without each inner fold, for the cases of that.

    Returns:
        (n_plans, 1 + inner folds, d), and which of them each case takes, (n_cases, n_plans).
    """
    focus = np.zeros((len(plans), 1 + _INNER_FOLDS, means.shape[1]))
    of_case = np.zeros((len(means), len(plans)), dtype=np.int64)
    for number, plan in enumerate(plans):
        if not len(plan.inner):
            continue
        columns = _columns(means[plan.rows], plan.stratum)
        best, _, path = _choose(columns, plan)
        focus[number, 0] = columns.back(path[best])
        for k in np.unique(plan.inner):
            seen = plan.inner != k
            focus[number, 1 + k] = columns.back(_path(columns.within, plan, seen, RIDGES[best : best + 1])[0])
        of_case[plan.rows, number] = 1 + plan.inner
    return focus, of_case


def _pool(tiles: ReadTiles, focus: NDArray[np.float64], of_case: NDArray[np.int64]) -> NDArray[np.float64]:
    """Attended tile of each case by each plan, (n_cases, n_plans, d)."""
    plans = np.arange(focus.shape[0])
    read = enumerate(np.asarray(one, dtype=np.float64) for one in tiles())
    return np.stack([attended(one, focus[plans, of_case[case]]) for case, one in read])


@dataclass(frozen=True)
class _Columns:
    """Summaries on their principal directions."""

    within: NDArray[np.float64]  # (n, k), less the mean of each hospital
    across: NDArray[np.float64]  # (n, k), less the mean of all: what a case of a new hospital has
    mean: NDArray[np.float64]  # (p,)
    to: NDArray[np.float64]  # (p, k)

    def back(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights (p,) of the summaries as they are."""
        return np.asarray(self.to @ coefficients, dtype=np.float64)


def _columns(summaries: NDArray[np.float64], stratum: NDArray[np.int64] | None) -> _Columns:
    """Centre within hospital, standardise, and turn to principal directions; no finding is looked at."""
    mean = summaries.mean(axis=0)
    across = summaries - mean
    within = across if stratum is None else within_strata(across, stratum)
    sd = within.std(axis=0)
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > _LEAST * (1 + np.abs(mean)))
    found = principal_directions(within * scale, DIRECTIONS)
    first = found.sizes[0] / np.sqrt(len(summaries)) if len(found.sizes) else 1.0
    to = scale[:, None] * found.rows.T / first
    return _Columns(within @ to, across @ to, mean, to)


def _path(
    columns: NDArray[np.float64], plan: _Plan, seen: NDArray[np.bool_], ridges: Sequence[float]
) -> NDArray[np.float64]:
    offset = hospital_offset(plan.present[seen], None if plan.stratum is None else plan.stratum[seen])
    return logistic_path(columns[seen], plan.present[seen], offset=offset, ridges=ridges)


def _choose(columns: _Columns, plan: _Plan) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """The best ridge by its number, scores of the cases by fits at it that have not seen them, and all coefficients."""
    unseen = np.zeros((len(RIDGES), len(plan.rows)))
    for k in np.unique(plan.inner):
        seen = plan.inner != k
        unseen[:, ~seen] = _path(columns.within, plan, seen, RIDGES) @ columns.across[~seen].T
    best = int(np.argmax([pair_likelihood(score, plan.present, plan.stratum) for score in unseen]))
    return best, unseen[best], _path(columns.within, plan, np.ones(len(plan.rows), bool), RIDGES[: best + 1])


def _fit(summaries: NDArray[np.float64], plan: _Plan) -> tuple[NDArray[np.float64], float]:
    """Weights and intercept, calibrated on scores of cases of hospitals that were not seen; no slope below 0."""
    if not len(plan.inner):
        return np.zeros(summaries.shape[1]), float(hospital_offset(plan.present, None)[0])
    columns = _columns(summaries, plan.stratum)
    best, score, path = _choose(columns, plan)
    both = np.stack([score, np.ones(len(score))], axis=1)
    slope, intercept = logistic_path(both, plan.present, ridges=[_NO_RIDGE])[0]
    if slope <= 0:
        slope, intercept = 0.0, logistic_path(both[:, 1:], plan.present, ridges=[_NO_RIDGE])[0][0]
    weights = columns.back(path[best]) * slope
    return weights, float(intercept - columns.mean @ weights)


def load_heads(
    arrays: Mapping[str, NDArray[Any]], names: Sequence[str], *, n_members: int, width: int
) -> dict[str, FindingHead]:
    """Heads from the arrays of a model file, ``heads/NAME/focus``, ``/weights`` and ``/intercept``.

    Args:
        arrays: of the file.
        names: of the findings.
        n_members: members of each head.
        width: features of a tile.

    Raises:
        FormatError: an array is missing, of another shape, or not finite.
    """
    heads = {}
    for name in names:
        try:
            parts = {part: np.asarray(arrays[f"heads/{name}/{part}"], dtype=np.float64) for part in _PARTS}
        except KeyError as error:
            raise FormatError(f"no array {error.args[0]}") from error
        attends = width if parts["focus"].size else 0
        wanted = {"focus": (n_members, attends), "weights": (n_members, width + attends), "intercept": (n_members,)}
        for part, value in parts.items():
            if value.shape != wanted[part] or not np.isfinite(value).all():
                raise FormatError(f"heads/{name}/{part} has shape {value.shape}, or a number that is not finite")
        heads[name] = FindingHead(**parts)
    return heads
