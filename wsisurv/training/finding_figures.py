"""How well heads tell each finding, out of fold: AUC within hospital, against prevalence and clinical covariates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.formats.finding_cards import FindingRow
from wsisurv.models.finding_heads import CrossFittedHeads, cross_fit_heads
from wsisurv.models.finding_table import KINDS, FindingTable
from wsisurv.settings.findings import FindingsSettings
from wsisurv.survival.binary import auc_within, logistic_path
from wsisurv.survival.covariates import encode_covariates, make_columns
from wsisurv.survival.resampling import Resampled, Units, choose_units
from wsisurv.survival.splits import hospital_strata

_NO_RIDGE = 1e-9


@dataclass(frozen=True)
class Judged:
    """The figures of all findings, and what their intervals come from."""

    rows: tuple[FindingRow, ...]
    units: Units


def covariate_heads(
    cases: Sequence[Case], targets: NDArray[np.float64], fold: NDArray[np.int64]
) -> CrossFittedHeads | None:
    """The same heads on the clinical covariates in place of tiles; None without covariates."""
    if not any(case.covariates for case in cases):
        return None
    numbers = encode_covariates(make_columns(cases), cases)
    known = np.isfinite(numbers)
    mean = np.where(known, numbers, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    site = [case.site for case in cases]
    return cross_fit_heads(targets, site, fold, means=np.where(known, numbers, mean), tiles=None)


def why_no_head(target: NDArray[np.float64], fewest: int) -> str:
    """Why a finding has no head, in words; empty where it has enough cases.

    Args:
        target: (n,), as ``FindingTable.target``.
        fewest: cases needed on either side.
    """
    present, absent = int((target == 1).sum()), int((target == 0).sum())
    if not present:
        return "no report states it"
    if not absent:
        return "every report that speaks of it states it"
    if min(present, absent) < fewest:
        return f"{present} with and {absent} without it; {fewest} of each are needed (--fewest)"
    return ""


def judge(
    table: FindingTable,
    kinds: Sequence[int],
    by_tiles: CrossFittedHeads,
    by_covariates: CrossFittedHeads | None,
    fold: NDArray[np.int64],
    site: Sequence[str | None],
    settings: FindingsSettings,
) -> Judged:
    """Judge each finding by the cases whose report knows it.

    Args:
        table: what the reports state.
        kinds: the findings that have heads, by their number in ``KINDS``.
        by_tiles: the heads of those, in this order.
        by_covariates: the same on covariates.
        fold: int64 (n_cases,).
        site: hospital of each case.
        settings: bootstrap, and how many cases are needed.
    """
    units = choose_units(site, [[np.flatnonzero(fold == k) for k in np.unique(fold)]])
    rows = []
    for number, kind in enumerate(KINDS):
        target, stated = table.target(number), table.stated[:, number]
        known = np.isfinite(target)
        row: dict[str, Any] = {
            "name": kind.name,
            "what": kind.what,
            "present": int((stated == 1).sum()),
            "absent": int((stated == 0).sum()),
            "not_stated": int(np.isnan(stated).sum()),
            "silence_is_absence": kind.silent,
            "compared": int(known.sum()),
            "prevalence": float(target[known].mean()) if known.any() else None,
            "told": False,
            "why_not": why_no_head(target, settings.fewest),
        }
        if number in kinds:
            column = kinds.index(number)
            both = [by_tiles.log_odds[:, column]]
            both += [by_covariates.log_odds[:, column]] if by_covariates is not None else []
            row |= _figures(target, np.stack(both), fold, site, settings)
        rows.append(FindingRow(**row))
    return Judged(tuple(rows), units)


def _figures(
    target: NDArray[np.float64],
    log_odds: NDArray[np.float64],
    fold: NDArray[np.int64],
    site: Sequence[str | None],
    settings: FindingsSettings,
) -> dict[str, Any]:
    rows = np.flatnonzero(np.isfinite(target))
    present, own = target[rows] == 1, fold[rows]
    hospitals = [site[row] for row in rows.tolist()]
    units = choose_units(hospitals, [[np.flatnonzero(own == k) for k in np.unique(own)]])
    # heads of two folds have no common origin: compared are cases of one fold, and of one hospital where known
    stratum = hospital_strata(hospitals)
    within = own if stratum is None else np.unique(np.stack([own, stratum]), axis=1, return_inverse=True)[1].ravel()
    try:
        scored = auc_within(
            log_odds[:, rows], present, within, resamples=settings.resamples, seed=settings.seed, units=units
        )
    except MetricError as error:
        return {"why_not": str(error)}
    chance = expit(log_odds[0, rows])
    seen = [(fold != k) & np.isfinite(target) for k in own]
    usual = np.array([target[others].mean() for others in seen])
    slope = float(
        logistic_path(np.stack([log_odds[0, rows], np.ones(len(rows))], 1), present, ridges=[_NO_RIDGE])[0, 0]
    )
    interval = scored.interval(0)
    errors = float(np.square(chance - present).mean()), float(np.square(usual - present).mean())
    return {
        "auc": interval.value,
        "low": _finite(interval.low),
        "high": _finite(interval.high),
        "brier": errors[0],
        "brier_of_prevalence": errors[1],
        "calibration_slope": _finite(slope),
        **_beside_covariates(scored),
        **_verdict(interval.value, interval.low, slope, *errors),
    }


def _verdict(auc: float, low: float, slope: float, brier: float, of_prevalence: float) -> dict[str, Any]:
    if not low > 0.5:
        return {"why_not": f"AUC {auc:.2f}, and the lower end of its interval, {low:.2f}, is not above .5"}
    if not slope > 0:
        return {"why_not": f"at hospitals not seen its log odds point the wrong way (slope {slope:.2f})"}
    if not brier < of_prevalence:
        return {
            "why_not": f"AUC {auc:.2f}, but its probabilities are no better than the prevalence (Brier {brier:.4f})"
        }
    return {"told": True, "why_not": ""}


def _beside_covariates(scored: Resampled) -> dict[str, Any]:
    if len(scored.value) < 2:
        return {}
    between = scored.difference(0, 1)
    return {
        "covariates_auc": float(scored.value[1]),
        "difference": between.value,
        "difference_low": _finite(between.low),
        "difference_high": _finite(between.high),
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
