"""External validation: a student on cases of another cohort, with cut-offs and calibration as fixed in its training.

Nothing is fitted on the other cohort that the student's numbers pass through. What is estimated there only judges.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Cohort, cause_of, entry_of
from wsisurv.errors import CohortError, MetricError
from wsisurv.experiments.landmarks import alive_at
from wsisurv.experiments.over_time import make_horizons
from wsisurv.experiments.risk_groups import Group, GroupRow, follow_up_by_group, group_gray_test, risk_groups_table
from wsisurv.experiments.side_by_side import WOLBERS
from wsisurv.formats.risks import UNFAMILIAR, Risk
from wsisurv.survival.calibration import Brier, DCalibration, brier, d_calibration, observed_over_expected
from wsisurv.survival.competing import (
    CompetingBrier,
    competing_brier,
    cumulative_incidence,
    followed_on,
    incidence_interval,
)
from wsisurv.survival.cox import Slope, cox_slope
from wsisurv.survival.dynamic import dynamic_auc
from wsisurv.survival.kaplan_meier import LogRank, kaplan_meier, logrank
from wsisurv.survival.metrics import bootstrap
from wsisurv.survival.prognosis import PER_YEAR, Prognosis
from wsisurv.survival.resampling import OF_CASES, Interval, Units, choose_units
from wsisurv.survival.stratified import FoldScores, UnoWithin, uno_within

_NORMAL = 1.96
_BINS = 10
_FEW_AT_RISK = 10
T = TypeVar("T")


@dataclass(frozen=True)
class ExternalCases:
    """Cases of the other cohort, in one order."""

    case_ids: tuple[str, ...]  # of each
    log_hazard: NDArray[np.float64]  # float64 (n,), as the student gives it
    group: tuple[str, ...]  # of each, by the student's cut-offs; ``unfamiliar`` where it does not know such cases
    time: NDArray[np.float64]  # float64 (n,), positive, in the unit of the student's training cohort
    event: NDArray[np.bool_]  # bool (n,)
    site: tuple[str | None, ...] = ()  # hospital of each, where known
    # float64 (n,), from when each case was followed, in the unit of ``time``; None where all were from 0
    entry: NDArray[np.float64] | None = None
    cause: NDArray[np.int64] | None = None  # int64 (n,), see ``cause_of``; None where nothing competes

    @property
    def units(self) -> Units:
        """What a bootstrap draws: hospitals, none of which the student has seen, where they are enough; else cases."""
        return choose_units(self.site)

    @property
    def groups(self) -> dict[str, Group]:
        """Follow-up by group, see ``follow_up_by_group``."""
        return follow_up_by_group(self.group, time=self.time, event=self.event, entry=self.entry, cause=self.cause)

    @property
    def familiar(self) -> NDArray[np.bool_]:
        """Whether the student knows such cases, bool (n,)."""
        return np.array([word != UNFAMILIAR for word in self.group], dtype=bool)


@dataclass(frozen=True)
class AtHorizon:
    """Predicted and observed at one time."""

    years: float  # the horizon
    time: float  # the same in the unit of the training cohort
    predicted: float | None = None  # mean predicted probability of the event by then
    # share with the event by then (Kaplan-Meier; cumulative incidence with competing events)
    observed: float | None = None
    low: float | None = None  # lower end of its 95 % interval
    high: float | None = None  # upper end
    at_risk: int = 0  # cases followed to then at least
    given: bool = True  # whether it can be judged; where not, ``reason`` says why and the figures are None
    reason: str = ""  # as said


@dataclass(frozen=True)
class ObservedExpected:
    """Events that happened over events expected by the student from each case's own follow-up."""

    observed: int  # events
    expected: float  # of each case by its own time, see ``BaselineHazard.expected_events``; their sum
    ratio: float  # observed / expected; above 1 survival was predicted too long
    low: float  # lower end of the exact 95 % interval, the expected number being given
    high: float  # upper end
    beyond: int  # cases followed longer than the training cohort; hazard and events beyond are not counted


@dataclass(frozen=True)
class AtLandmark:
    """The student among the cases that are alive, free of the event and followed at a time; None where undefined."""

    years: float  # the landmark
    cases: int
    events: int  # after it
    concordance: Interval | None
    slope: Slope | None  # of a Cox regression on the log hazard as calibrated in training: below 1 it has faded


@dataclass(frozen=True)
class ExternalFigures:
    """All figures of the other cohort; None where it can't give one, for the reason in ``warnings``.

    Attributes:
        cases: how many.
        events: among them.
        concordance: Harrell's, with its bootstrap interval.
        uno: Uno's concordance until ``uno_until``.
        auc: cumulative/dynamic AUC, mean over ``horizons``.
        auc_at: at each.
        horizons: times of AUC and Brier score.
        brier: integrated Brier score of survival as the student predicts it.
        brier_reference: of the other cohort's own Kaplan-Meier curve, which the student could not know.
        d_calibration_p: small where predicted probabilities are wrong.
        d_calibration_share: of the cases in each part of predicted survival.
        slope: of a Cox regression on the log hazard, what crossval calls calibration slope.
        calibrated_slope: on the log hazard as calibrated in training: 1 if differences between cases are right here.
        observed_expected: of events; None where nothing is expected.
        at_years: predicted and observed at horizons.
        groups: cases, events and median of each risk group.
        logrank_p: of the groups.
        warnings: what could not be given, and why.
        interval: what was drawn for the intervals, ``bootstrap of hospitals`` or ``bootstrap of cases``.
        uno_low: lower end of the 95 % interval of Uno's, by the same draws.
        uno_high: upper end.
        uno_until: time at which Uno's is truncated, in the unit of the training cohort.
        unfamiliar: cases that the student does not know; they count in all figures but the log-rank test.
        concordance_familiar: Harrell's without them; None where there are none, or no pair without them.
        competing: cases with a competing event; None where nothing competes. With such, concordances are Wolbers's,
            Uno's and the AUC place such cases below all with the event too, and Brier score and horizons are of the
            absolute risk.
        gray_p: of Gray's test of the groups' cumulative incidence.
        landmarks: of the cases still followed at each landmark.
    """

    cases: int
    events: int
    concordance: Interval
    uno: float | None
    auc: float | None
    auc_at: tuple[float, ...]
    horizons: tuple[float, ...]
    brier: float | None
    brier_reference: float | None
    d_calibration_p: float | None
    d_calibration_share: tuple[float, ...]
    slope: Slope | None
    calibrated_slope: Slope | None
    observed_expected: ObservedExpected | None
    at_years: tuple[AtHorizon, ...]
    groups: tuple[GroupRow, ...]
    logrank_p: float | None
    warnings: tuple[str, ...] = field(default_factory=tuple)
    interval: str = OF_CASES
    uno_low: float | None = None
    uno_high: float | None = None
    uno_until: float | None = None
    unfamiliar: int = 0
    concordance_familiar: Interval | None = None
    competing: int | None = None
    gray_p: float | None = None
    landmarks: tuple[AtLandmark, ...] = ()


def external_cases(cohort: Cohort, risks: Sequence[Risk], time_unit: str) -> ExternalCases:
    """Follow-up and risks of the cases that have a risk.

    Args:
        cohort: the other one, its times in its own unit.
        risks: of its cases.
        time_unit: of the student's training cohort, to which times are converted.

    Raises:
        CohortError: no case has a risk.
    """
    scale = PER_YEAR[time_unit] / PER_YEAR[cohort.settings.time_unit]
    follow_up = {str(one.case_id): one for one in cohort.cases}
    known = [(risk, follow_up[risk.case_id]) for risk in risks if risk.log_hazard is not None]
    if not known:
        raise CohortError(f"cohort {cohort.name}: no case has a risk, so there is nothing to evaluate")
    entry = entry_of([one for _, one in known])
    return ExternalCases(
        case_ids=tuple(risk.case_id for risk, _ in known),
        log_hazard=np.array([risk.log_hazard for risk, _ in known], dtype=np.float64),
        group=tuple(risk.risk_group for risk, _ in known),
        time=np.array([one.time * scale for _, one in known]),
        event=np.array([one.event for _, one in known]),
        site=tuple(one.site for _, one in known),
        entry=None if entry is None else entry * scale,
        cause=cause_of([one for _, one in known]),
    )


def external_figures(
    cases: ExternalCases,
    prognosis: Prognosis,
    *,
    years: Mapping[float, float],
    landmarks: Mapping[float, float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ExternalFigures:
    """Figures of a student on another cohort.

    Args:
        cases: the other cohort's, as the student predicts them.
        prognosis: the student's, log hazard → survival.
        years: horizons in years → in the unit of the student's training cohort.
        landmarks: the same of landmarks.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        MetricError: no comparable pair, so that there is no concordance; a value that can't be.
    """
    time, event, entry, risk = cases.time, cases.event, cases.entry, cases.log_hazard
    units = cases.units
    order = bootstrap(
        log_hazard=risk,
        time=followed_on(time, cases.cause),
        event=event,
        entry=entry,
        resamples=resamples,
        seed=seed,
        units=units,
    )
    warnings = [units.warning] if units.warning else []
    gray = None
    if cases.cause is not None:
        warnings.append(WOLBERS)
        if prognosis.competing is None:
            warnings.append(
                "the student was trained without competing events: its probabilities are of cases who can have the "
                "event alone, and overstate the risk"
            )
        gray = attempted(warnings, "Gray's test", lambda: group_gray_test(cases.groups))
    horizons = attempted(
        warnings,
        "AUC and Brier score",
        lambda: make_horizons(time=time, event=event, entry=entry, cause=cases.cause),
    )
    auc = scores = None
    if horizons is not None:
        at = horizons
        auc = attempted(
            warnings,
            "AUC",
            lambda: dynamic_auc(log_hazard=risk, time=time, event=event, entry=entry, horizons=at, cause=cases.cause),
        )
        scores = attempted(warnings, "Brier score", lambda: _brier(cases, prognosis, at))
    tested = attempted(warnings, "log-rank test", lambda: _logrank(cases))
    d = attempted(warnings, "D-calibration", lambda: _d_calibration(cases, prognosis))
    uno = attempted(warnings, "Uno's concordance", lambda: _uno(cases, units, resamples, seed))
    of_uno = uno.whole.interval(0) if uno else None
    return ExternalFigures(
        cases=len(time),
        events=int(event.sum()),
        concordance=order,
        uno=of_uno.value if of_uno else None,
        auc=auc.mean if auc else None,
        auc_at=tuple(auc.auc.tolist()) if auc else (),
        horizons=tuple(horizons.tolist()) if horizons is not None else (),
        brier=scores.integrated if scores else None,
        brier_reference=scores.integrated_reference if scores else None,
        d_calibration_p=d.p if d else None,
        d_calibration_share=tuple(d.share.tolist()) if d else (),
        slope=attempted(warnings, "slope", lambda: cox_slope(log_hazard=risk, time=time, event=event, entry=entry)),
        calibrated_slope=attempted(
            warnings,
            "slope of the calibrated risk",
            lambda: cox_slope(log_hazard=prognosis.slope * risk, time=time, event=event, entry=entry),
        ),
        observed_expected=attempted(
            warnings, "observed over expected events", lambda: observed_expected(cases, prognosis)
        ),
        at_years=tuple(_at(cases, prognosis, number, at) for number, at in years.items()),
        groups=risk_groups_table(cases.groups),
        logrank_p=tested.p if tested else None,
        interval=units.method,
        uno_low=of_uno.low if of_uno and np.isfinite(of_uno.low) else None,
        uno_high=of_uno.high if of_uno and np.isfinite(of_uno.high) else None,
        uno_until=uno.until if uno else None,
        unfamiliar=int((~cases.familiar).sum()),
        concordance_familiar=_of_the_familiar(cases, warnings, resamples, seed),
        competing=None if cases.cause is None else int((cases.cause == 2).sum()),
        gray_p=gray.p if gray else None,
        landmarks=tuple(
            _landmark(cases, prognosis, number, at, warnings, resamples, seed)
            for number, at in (landmarks or {}).items()
        ),
        warnings=tuple(warnings),  # the last: what is above adds to them
    )


def _brier(cases: ExternalCases, prognosis: Prognosis, at: NDArray[np.float64]) -> Brier | CompetingBrier:
    """Brier score of survival, or of the absolute risk where events compete; prediction ends with training's."""
    known, risk = np.minimum(at, prognosis.baseline.followed_until), cases.log_hazard
    if cases.cause is None:
        survival = prognosis.survival(log_hazard=risk, horizons=known)
        return brier(survival=survival, horizons=at, time=cases.time, event=cases.event, entry=cases.entry)
    free = prognosis.event_free(log_hazard=risk, horizons=known)
    return competing_brier(risk=1 - free, horizons=at, time=cases.time, cause=cases.cause, entry=cases.entry)


def _landmark(
    cases: ExternalCases,
    prognosis: Prognosis,
    years: float,
    at: float,
    warnings: list[str],
    resamples: int,
    seed: int,
) -> AtLandmark:
    """Figures of the cases followed beyond a time; the log hazards are what they were."""
    rows = np.flatnonzero(alive_at(at, cases.time, cases.entry))
    if not len(rows):
        warnings.append(f"no figures of those alive at {years:g} years: nobody was followed so long")
        return AtLandmark(years, 0, 0, None, None)
    risk, time, event = cases.log_hazard[rows], cases.time[rows], cases.event[rows]
    ordered = followed_on(time, None if cases.cause is None else cases.cause[rows])
    units = choose_units([cases.site[row] for row in rows] if cases.site else ())
    what = f"figures of the {len(rows)} cases alive at {years:g} years"
    return AtLandmark(
        years=years,
        cases=len(rows),
        events=int(event.sum()),
        concordance=attempted(
            warnings,
            what,
            lambda: bootstrap(log_hazard=risk, time=ordered, event=event, resamples=resamples, seed=seed, units=units),
        ),
        slope=attempted([], what, lambda: cox_slope(log_hazard=prognosis.slope * risk, time=time, event=event)),
    )


def _logrank(cases: ExternalCases) -> LogRank:
    """Log-rank test of the risk groups, without cases that the student does not know."""
    familiar = cases.familiar
    return logrank(
        group=np.array(cases.group)[familiar],
        time=cases.time[familiar],
        event=cases.event[familiar],
        entry=None if cases.entry is None else cases.entry[familiar],
    )


def _of_the_familiar(cases: ExternalCases, warnings: list[str], resamples: int, seed: int) -> Interval | None:
    """Concordance without the cases that the student does not know, where there are any."""
    rows = cases.familiar
    if rows.all():
        return None
    return attempted(
        warnings,
        "concordance without unfamiliar cases",
        lambda: bootstrap(
            log_hazard=cases.log_hazard[rows],
            time=followed_on(cases.time, cases.cause)[rows],
            event=cases.event[rows],
            entry=None if cases.entry is None else cases.entry[rows],
            resamples=resamples,
            seed=seed,
            units=choose_units([site for site, known in zip(cases.site, rows, strict=False) if known]),
        ),
    )


def _uno(cases: ExternalCases, units: Units, resamples: int, seed: int) -> UnoWithin:
    """Uno's concordance of all cases as one fold.

    Raises:
        MetricError: no comparable pair before the truncation.
    """
    whole = FoldScores(0, np.arange(len(cases.time)), cases.log_hazard[None], 1)
    time, event, entry = cases.time, cases.event, cases.entry
    found = uno_within(
        [whole], time=time, event=event, entry=entry, resamples=resamples, seed=seed, units=units, cause=cases.cause
    )
    if not np.isfinite(found.whole.value[0]):
        raise MetricError(f"no comparable pair before {found.until:g}")
    return found


def _d_calibration(cases: ExternalCases, prognosis: Prognosis) -> DCalibration:
    """Cases followed beyond the training cohort count as censored where that ends: nothing is predicted beyond."""
    end = prognosis.baseline.followed_until
    cases = _within(cases, end)
    own, before = prognosis.own_survival(log_hazard=cases.log_hazard, time=cases.time, entry=cases.entry)
    return d_calibration(
        survival=own,
        before=before,
        event=cases.event,
        n_bins=max(2, min(_BINS, len(own) // 5)),
    )


def _within(cases: ExternalCases, end: float) -> ExternalCases:
    """Follow-up within that of the training cohort: censored at its end, and without those who enter only then."""
    seen = np.ones(len(cases.time), dtype=bool) if cases.entry is None else cases.entry < end
    entry = None if cases.entry is None else cases.entry[seen]
    return replace(
        cases,
        case_ids=tuple(np.array(cases.case_ids)[seen].tolist()),
        log_hazard=cases.log_hazard[seen],
        group=tuple(np.array(cases.group)[seen].tolist()),
        site=(),
        time=np.minimum(cases.time, end)[seen],
        event=(cases.event & (cases.time <= end))[seen],
        entry=entry,
        cause=None,
    )


def observed_expected(cases: ExternalCases, prognosis: Prognosis) -> ObservedExpected:
    """Events that happened over events expected, within the training cohort's follow-up.

    Raises:
        MetricError: nothing is expected.

    Source: Crowson CS, Atkinson EJ, Therneau TM. Statistical Methods in Medical Research 2016;25:1692-1706.
    """
    end = prognosis.baseline.followed_until
    within = _within(cases, end)
    expected = float(
        prognosis.baseline.expected_events(
            log_hazard=prognosis.slope * within.log_hazard, time=within.time, entry=within.entry
        ).sum()
    )
    observed = int(within.event.sum())
    if expected <= 0:
        raise MetricError("no event is expected in so short a follow-up")
    beyond = int((cases.time > end).sum())
    return ObservedExpected(observed, expected, *observed_over_expected(observed, expected), beyond)


def _at(cases: ExternalCases, prognosis: Prognosis, years: float, at: float) -> AtHorizon:
    """Kaplan-Meier with Greenwood's variance on the log-log scale."""
    at_risk = Group(cases.time, cases.event, cases.entry).at_risk(at)
    if at > prognosis.baseline.followed_until:
        reason = f"the training cohort was followed to {prognosis.baseline.followed_until:g} at most"
        return AtHorizon(years, at, at_risk=at_risk, given=False, reason=reason)
    if not prognosis.supports(at):
        reason = f"{prognosis.followed_to(at)} training cases were followed so long"
        return AtHorizon(years, at, at_risk=at_risk, given=False, reason=reason)
    if at_risk < _FEW_AT_RISK:
        return AtHorizon(years, at, at_risk=at_risk, given=False, reason=f"{at_risk} cases were followed so long")
    if cases.cause is not None:
        predicted = 1 - float(prognosis.event_free(log_hazard=cases.log_hazard, horizons=[at]).mean())
        incidence = cumulative_incidence(time=cases.time, cause=cases.cause, entry=cases.entry)
        observed = float(incidence.at(at))
        low, high = incidence_interval(observed, float(incidence.se_at(at)))
        return AtHorizon(years, at, predicted, observed, low, high, at_risk)
    predicted = 1 - float(prognosis.survival(log_hazard=cases.log_hazard, horizons=[at]).mean())
    curve = kaplan_meier(time=cases.time, event=cases.event, entry=cases.entry)
    survival = float(curve.at(at))
    low, high = survival, survival
    if 0 < survival < 1:
        until = curve.times <= at
        n, fell = curve.at_risk[until], curve.fell[until]
        variance = float((fell / (n * (n - fell))).sum())
        width = _NORMAL * np.sqrt(variance) / abs(np.log(survival))
        low, high = float(survival ** np.exp(width)), float(survival ** np.exp(-width))
    elif survival == 1:
        low = float(1 - 3 / at_risk)  # rule of three
    return AtHorizon(years, at, predicted, 1 - survival, 1 - high, 1 - low, at_risk)


def attempted(warnings: list[str], what: str, make: Callable[[], T]) -> T | None:
    """What ``make`` gives; None with a line more in ``warnings`` where the data can't give it."""
    try:
        return make()
    except MetricError as error:
        warnings.append(f"no {what}: {error}")
        return None
