"""Predictions of the cohort's own cases by models that have not seen them, for figures and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case, Cohort, cause_of, entry_of
from wsisurv.errors import FormatError, MetricError
from wsisurv.experiments.model_names import COMBINED, COVARIATES, SELECTED
from wsisurv.formats.atomic import read_json
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.models import STUDENT_FILES, ModelFile, read_model
from wsisurv.formats.risks import UNFAMILIAR, Risk
from wsisurv.formats.splits import Fold, read_splits
from wsisurv.survival.competing import followed_on
from wsisurv.survival.follow_up import FollowUp
from wsisurv.survival.prognosis import PER_YEAR, fit_prognosis, no_further
from wsisurv.survival.stratified import FoldScores

STUDENT = "student"
JUDGED = (STUDENT, COVARIATES, COMBINED)
"""Models whose probabilities of survival are judged."""
OUT_OF_FOLD = "risk.csv of `wsisurv predict`, where each case is predicted by the members that did not see it"
ANOTHER_STUDENT = "external_risk.csv of `wsisurv evaluate`, by a student that was trained on another cohort"
_YEARS = (1, 3, 5)
_FOLLOWED = 10
"""Cases that must be followed beyond a horizon."""


@dataclass(frozen=True)
class CasePredictions:
    """Predictions of cases by models that have not seen them.

    Attributes:
        source: where they are from, in words.
        cases: those predicted, n of them.
        log_hazard: float64 (n,).
        percentile: float64 (n,), against the training cases.
        group: n words, ``low``, ``intermediate`` or ``high``, by cut-offs of the training; ``unfamiliar`` in a table.
        fold: int64 (n,), log hazards can be compared within one only.
        folds: all that was tested, further repeats too; rows count in ``cases``.
        horizons: float64 (m,), in the cohort's unit.
        survival: model of ``JUDGED`` → float64 (n, m); those that are known. NaN for unfamiliar cases. With competing
            events it is one minus the absolute risk.
        own_survival: of the student, to each case's own time and to just before it, float64 (n,) each; None where not
            known.
        without: why survival is not known, or empty.
    """

    source: str
    cases: tuple[Case, ...]
    log_hazard: NDArray[np.float64]
    percentile: NDArray[np.float64]
    group: tuple[str, ...]
    fold: NDArray[np.int64]
    folds: tuple[FoldScores, ...]
    horizons: NDArray[np.float64]
    survival: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    own_survival: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    without: str = ""

    @property
    def calibrated(self) -> str:
        """By what log hazards became probabilities, in words."""
        if self.source in {OUT_OF_FOLD, ANOTHER_STUDENT}:
            return (
                "they are taken times the student's slope, on its baseline hazard, both fitted out of fold in training"
            )
        return "each fold's are taken times a slope, on a baseline hazard, both fitted on the other folds' tested cases"

    def follow_up(
        self, rows: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64] | None]:
        """Time, event and entry of some of the cases."""
        return self.time[rows], self.event[rows], None if self.entry is None else self.entry[rows]

    @property
    def familiar(self) -> NDArray[np.bool_]:
        """Whether a case is none that the student does not know, which has no survival, bool (n,)."""
        return np.array([word != UNFAMILIAR for word in self.group], dtype=bool)

    @property
    def time(self) -> NDArray[np.float64]:
        """Follow-up, float64 (n,)."""
        return np.array([case.time for case in self.cases], dtype=np.float64)

    @property
    def ordered_time(self) -> NDArray[np.float64]:
        """Times that a concordance compares, see ``followed_on``, float64 (n,)."""
        return followed_on(self.time, self.cause)

    @property
    def event(self) -> NDArray[np.bool_]:
        """Whether the event happened, bool (n,)."""
        return np.array([case.event for case in self.cases], dtype=bool)

    @property
    def cause(self) -> NDArray[np.int64] | None:
        """0 censored, 1 the event, 2 a competing one, int64 (n,); None where nothing competes."""
        return cause_of(self.cases)

    def cause_among(self, rows: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """The same of some of the cases; None too where none of all has a competing event."""
        return None if (cause := self.cause) is None else cause[rows]

    @property
    def entry(self) -> NDArray[np.float64] | None:
        """Time from which each case was followed, float64 (n,); None where all were followed from 0."""
        return entry_of(self.cases)


def usual_horizons(cases: Sequence[Case], time_unit: str) -> NDArray[np.float64]:
    """One, three and five years as far as enough cases were followed beyond; else the median time of the events."""
    time = np.array([case.time for case in cases])
    event = np.array([case.event for case in cases], dtype=bool)
    years = np.array(_YEARS) * PER_YEAR[time_unit]
    fit = [year for year in years if (time > year).sum() >= _FOLLOWED and (event & (time <= year)).any()]
    if not fit and event.any():
        fit = [float(np.median(time[event]))]
    return np.array([horizon for horizon in fit if horizon < time.max()])


def horizon_name(horizon: float, time_unit: str) -> str:
    """``3 years``, or the time in the cohort's unit where it is no whole number of years."""
    years = horizon / PER_YEAR[time_unit]
    if abs(years - round(years)) < 1e-6:
        return f"{round(years)} year{'' if round(years) == 1 else 's'}"
    return f"{horizon:g} {time_unit}"


def predicted_by_table(cohort: Cohort, risks: Sequence[Risk], source: str) -> CasePredictions | None:
    """Predictions from a risk table of the cohort; None where it has none of its cases.

    Args:
        cohort: the cases.
        risks: rows of the table, by members that did not see the case.
        source: ``OUT_OF_FOLD`` or ``ANOTHER_STUDENT``.
    """
    by_id = {row.case_id: row for row in risks if row.log_hazard is not None and row.risk_percentile is not None}
    cases = tuple(case for case in cohort.cases if case.case_id in by_id)
    if not cases:
        return None
    rows = [by_id[case.case_id] for case in cases]
    familiar = np.array([row.risk_group != UNFAMILIAR for row in rows], dtype=bool)
    log_hazard = np.array([row.log_hazard for row in rows], dtype=np.float64)
    everything = FoldScores(0, np.arange(len(cases)), log_hazard[None], len(cases))
    unit = PER_YEAR[cohort.settings.time_unit]
    usual = usual_horizons(cases, cohort.settings.time_unit)
    given = {round(years * unit, 6): years for years in rows[0].survival}
    horizons = np.array([at for at in usual.tolist() if round(at, 6) in given])
    competing = cause_of(cases) is not None and any(row.absolute_risk for row in rows)
    told = [row.absolute_risk if competing else row.survival for row in rows]
    known_at = [[one.get(given[round(at, 6)]) for at in horizons.tolist()] for one in told]
    survival = np.array(known_at, dtype=np.float64).reshape(len(rows), len(horizons))  # None becomes NaN
    survival = 1 - survival if competing else survival
    reached = np.isfinite(survival[familiar]).all(axis=0)  # one that too few training cases reach is left out
    horizons, survival = horizons[reached], survival[:, reached]
    known = bool(len(horizons)) and bool(familiar.any())
    return CasePredictions(
        source=source,
        cases=cases,
        log_hazard=log_hazard,
        percentile=np.array([row.risk_percentile for row in rows], dtype=np.float64),
        group=tuple(row.risk_group for row in rows),
        fold=np.zeros(len(cases), dtype=np.int64),
        folds=(everything,),
        horizons=horizons if known else usual,
        survival={STUDENT: survival} if known else {},
        without="" if known else f"no probabilities at these times in {source}; `wsisurv crossval` gives some",
    )


@dataclass(frozen=True)
class _TestedFold:
    """One fold as crossval left it: the tested cases, their log hazards by each model of ``JUDGED``, its student."""

    fold: Fold
    case_ids: tuple[str, ...]
    risks: Mapping[str, NDArray[np.float64]]
    student: ModelFile[StudentCard]


def predicted_by_folds(folder: Path, cohort: Cohort, folds: Sequence[Mapping[str, Any]]) -> CasePredictions:
    """Predictions from the folds of a cross-validation; figures that need one word a case take the first repeat.

    Groups and percentiles are those of each fold's own student, fixed on its training cases. Probabilities of survival
    come from slope and baseline hazard of the other folds' tested cases, as in the figures of crossval.

    Args:
        folder: of the cohort.
        cohort: the cases.
        folds: ``folds`` of metrics.json.

    Raises:
        ArtifactError: the folds are not there any more, damaged, or others than metrics.json was made from.
    """
    tested = [_read_fold(folder, record) for record in folds]
    if not tested:
        raise FormatError(f"{folder / 'evaluation' / 'metrics.json'}: it names no fold. Run `wsisurv crossval` again.")
    by_id = {str(case.case_id): case for case in cohort.cases}
    if unknown := {case_id for one in tested for case_id in one.case_ids} - by_id.keys():
        raise FormatError(f"{folder}: crossval tested {min(unknown)}, which is no case of the cohort. Run it anew.")
    first = [one for one in tested if one.fold.repeat == tested[0].fold.repeat]
    ids = sorted({case_id for one in first for case_id in one.case_ids})
    row_of = {case_id: number for number, case_id in enumerate(ids)}
    rows_of = [np.array([row_of[case_id] for case_id in one.case_ids if case_id in row_of]) for one in tested]
    cases = tuple(by_id[case_id] for case_id in ids)
    log_hazard, percentile, fold_of = np.zeros(len(ids)), np.zeros(len(ids)), np.zeros(len(ids), dtype=np.int64)
    group = [""] * len(ids)
    for number, (one, rows) in enumerate(zip(first, rows_of, strict=False)):
        risks = one.risks[STUDENT]
        log_hazard[rows], fold_of[rows] = risks, number
        trained = np.sort(np.asarray(one.student.arrays["training_risks"], dtype=np.float64))
        percentile[rows] = 100 * np.searchsorted(trained, risks) / len(trained)
        low, high = one.student.card.cut_offs.low, one.student.card.cut_offs.high
        for row, risk in zip(rows.tolist(), risks.tolist(), strict=True):
            group[row] = "low" if risk < low else "high" if risk >= high else "intermediate"
    repeats = len({one.fold.repeat for one in tested})
    horizons = usual_horizons(cases, cohort.settings.time_unit)
    survival, own_survival, without = _survival(first, rows_of, cases, horizons)
    return CasePredictions(
        source=f"the {len(first)} folds of `wsisurv crossval`, each predicted by a student that was trained without it"
        + (f" (the first of {repeats} repeats)" if repeats > 1 else ""),
        cases=cases,
        log_hazard=log_hazard,
        percentile=percentile,
        group=tuple(group),
        fold=fold_of,
        folds=tuple(
            FoldScores(one.fold.repeat, rows, one.risks[STUDENT][None], len(one.fold.train))
            for one, rows in zip(tested, rows_of, strict=True)
            if len(rows) == len(one.case_ids)
        ),
        horizons=horizons,
        survival=survival,
        own_survival=own_survival,
        without=without,
    )


def _read_fold(folder: Path, record: Mapping[str, Any]) -> _TestedFold:
    path = folder / "crossval" / str(record.get("name")) / "risks.json"
    again = "Run `wsisurv crossval` again."
    try:
        known = {fold.name: fold for fold in read_splits(folder / "splits.jsonl")}
        saved = read_json(path)
        if saved["fingerprint"] != record["fingerprint"]:
            raise FormatError(f"{path}: not the fold that metrics.json was made from. {again}")
        fold, case_ids = known[str(record["name"])], tuple(map(str, saved["case_ids"]))
        named = {STUDENT: SELECTED, COVARIATES: COVARIATES, COMBINED: COMBINED}
        risks = {
            model: np.array(saved["risks"][key], dtype=np.float64)
            for model, key in named.items()
            if key in saved["risks"] or model == STUDENT
        }
        if any(one.shape != (len(case_ids),) or not np.isfinite(one).all() for one in risks.values()):
            raise FormatError(f"{path}: not one finite risk for each of {len(case_ids)} cases. {again}")
        student, _ = read_model(path.parent / STUDENT_FILES[SELECTED], "student")
        if not np.size(student.arrays["training_risks"]):
            raise FormatError(f"{path.parent}: its student lacks training risks. {again}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: damaged or gone ({type(error).__name__}: {error}). {again}") from error
    return _TestedFold(fold, case_ids, risks, student)


def _survival(
    tested: Sequence[_TestedFold],
    rows_of: Sequence[NDArray[np.int64]],
    cases: Sequence[Case],
    horizons: NDArray[np.float64],
) -> tuple[dict[str, NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]] | None, str]:
    """Probabilities of survival by model, the student's to (and before) each case's own time, why there are none.

    Each fold's come from slope and baseline hazard of the other folds of one repeat.
    """
    time = np.array([case.time for case in cases])
    event = np.array([case.event for case in cases], dtype=bool)
    data, cause = FollowUp(np.zeros((1, len(cases))), time, event, entry_of(cases)), cause_of(cases)
    survival, own, without = {}, (np.full(len(cases), np.nan), np.full(len(cases), np.nan)), ""
    rows_of = rows_of[: len(tested)]
    for model in JUDGED:
        if not all(model in one.risks for one in tested):
            continue
        values = np.full((len(cases), len(horizons)), np.nan)
        try:
            for number, (one, rows) in enumerate(zip(tested, rows_of, strict=True)):
                rest = [other for other in range(len(tested)) if other != number]
                if not rest:
                    raise MetricError("there is one fold only, so no other to learn a baseline hazard from")
                others = np.concatenate([rows_of[other] for other in rest])
                known = np.concatenate([tested[other].risks[model] for other in rest])
                there, here = data.take(others), data.take(rows)
                prognosis = fit_prognosis(
                    log_hazard=known,
                    time=there.times,
                    event=there.events,
                    entry=there.entries,
                    cause=None if cause is None else cause[others],
                )
                risk = no_further(one.risks[model], known)
                values[rows] = prognosis.event_free(log_hazard=risk, horizons=horizons)
                if model == STUDENT:
                    own[0][rows], own[1][rows] = prognosis.own_survival(
                        log_hazard=risk, time=here.times, entry=here.entries
                    )
        except MetricError as error:
            without = without or str(error)
            continue
        followed = np.isfinite(values).all(axis=0)
        if not followed.all():
            without = without or "some folds were not followed as long as the horizons"
            continue
        survival[model] = values
    without = without if STUDENT not in survival or not len(horizons) else ""
    return survival, own if np.isfinite(own).all() else None, without
