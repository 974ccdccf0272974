"""The order of rows, tied times and all, has no part in any figure of the results table or of the page.

What is drawn at random goes by the number of a case, so intervals and errors of draws are left out.
"""

from dataclasses import asdict, is_dataclass

import numpy as np
import pytest

from wsisurv.cohort import Case
from wsisurv.experiments.external import ExternalCases, external_figures
from wsisurv.experiments.results import make_results
from wsisurv.experiments.risk_groups import follow_up_by_group, group_gray_test, risk_groups_table
from wsisurv.experiments.tested import ScoredFold
from wsisurv.pages.fairness import contrasts
from wsisurv.pages.predicted import CasePredictions, usual_horizons
from wsisurv.pages.proportional import proportional_lines
from wsisurv.pages.report_figures import agreement
from wsisurv.pages.subgroups import subgroups
from wsisurv.survival.competing import competing_brier
from wsisurv.survival.kaplan_meier import logrank
from wsisurv.survival.net_benefit import net_benefit
from wsisurv.survival.prognosis import fit_prognosis
from wsisurv.survival.stratified import FoldScores
from wsisurv.units import CaseId

N = 243
DRAWN = {"low", "high", "uno_low", "uno_high", "se", "bootstrap_se", "interval", "p", "p_holm", "resamples", "dropped"}


def cohort(kind):
    """Cases in years of follow-up rounded up to halves, so that nearly all times are shared; of nine hospitals."""
    rng = np.random.default_rng(3)
    seen, age = rng.normal(size=N), rng.normal(60, 9, N).round()
    death, other, end = rng.exponential(4 * np.exp(-seen)), rng.exponential(9, N), rng.uniform(0.5, 7, N)
    if kind == "one event":
        other[:] = np.inf
    first = np.minimum(np.minimum(death, other), end)
    time = np.ceil(2 * first) / 2
    entry = np.floor(time * rng.uniform(0, 1, N)) * (rng.random(N) < 0.3) if kind == "late entry" else np.zeros(N)
    entry[entry >= time] = 0
    cases = [
        Case(
            CaseId(f"c{i}"),
            time[i],
            bool(first[i] == death[i]),
            competing=bool(first[i] == other[i]),
            site=f"h{i % 9}",
            entry=entry[i],
            covariates={"age": f"{age[i]:g}", "stage": "I II III IV".split()[int(rng.integers(4))], "sex": "fm"[i % 2]},
        )
        for i in range(N)
    ]
    return cases, {"selected": seen.round(1), "covariates": (age / 9).round(1)}, np.arange(N) * 5 % 3


def table(cases, risks, fold):
    """The results table."""
    folds = [
        ScoredFold(0, np.flatnonzero(fold == k), 1, {name: v[fold == k] for name, v in risks.items()}) for k in range(3)
    ]
    return make_results(folds, cases, ["age", "stage"], resamples=20, seed=0, landmarks=(1.0,), time_unit="years")


def page(cases, risks, fold):
    """Groups, tests, calibration, decision curve, subgroups and contrasts."""
    seen = risks["selected"]
    rows = [np.flatnonzero(fold == k) for k in range(3)]
    known = {
        "time": np.array([case.time for case in cases]),
        "event": np.array([case.event for case in cases]),
        "entry": np.array([case.entry for case in cases]),
        "cause": np.array([2 if case.competing else int(case.event) for case in cases]),
    }
    horizons = usual_horizons(cases, "years")
    prognosis = fit_prognosis(log_hazard=seen, **known)
    free = prognosis.event_free(log_hazard=seen, horizons=horizons)
    predicted = CasePredictions(
        source="",
        cases=tuple(cases),
        log_hazard=seen,
        percentile=seen,
        group=tuple(np.array(["low", "intermediate", "high"])[np.digitize(seen, [-0.4, 0.4])].tolist()),
        fold=fold,
        folds=tuple(FoldScores(0, here, seen[here][None], 1) for here in rows),
        horizons=horizons,
        survival={"student": free},
        own_survival=prognosis.own_survival(log_hazard=seen, time=known["time"], entry=known["entry"]),
    )
    cause = predicted.cause
    times = {"time": predicted.time, "event": predicted.event, "entry": predicted.entry}
    groups = follow_up_by_group(predicted.group, **times, cause=cause)
    told = ExternalCases(tuple(case.case_id for case in cases), seen, predicted.group, **times, cause=cause)
    return {
        "horizons": horizons,
        "groups": risk_groups_table(groups),
        "gray": None if cause is None else group_gray_test(groups),
        "logrank": logrank(group=predicted.group, **times),
        "proportional": [(one.name, one.correlation, one.p, one.p_holm) for one in proportional_lines(predicted)],
        "calibration": [
            agreement(survival=free[:, number], horizon=at, **times, cause=cause) for number, at in enumerate(horizons)
        ],
        "decision": net_benefit(
            survival=free[:, 0], horizon=horizons[0], thresholds=np.array([0.1, 0.3]), **times, cause=cause
        ),
        "brier": competing_brier(risk=1 - free, horizons=horizons, **{n: v for n, v in known.items() if n != "event"}),
        "subgroups": subgroups(predicted),
        "contrasts": contrasts(predicted),
        "elsewhere": external_figures(told, prognosis, years={1.0: 1.0}, landmarks={1.0: 1.0}, resamples=20),
    }


def same(one, other, where=""):
    """All values equal, rounding apart."""
    one, other = (asdict(value) if is_dataclass(value) else value for value in (one, other))
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one.keys() - (DRAWN if "statistic" not in one else set()):
            same(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{where}[{number}]")
    elif isinstance(one, (float, np.ndarray, np.floating)):
        assert one == pytest.approx(other, rel=1e-7, abs=1e-9, nan_ok=True), where
    else:
        assert one == other, where


@pytest.mark.filterwarnings("ignore::lifelines.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["one event", "competing", "late entry"])
@pytest.mark.parametrize("figures", [table, page])
def test_shuffled_rows_give_the_same_figures(kind, figures):
    cases, risks, fold = cohort(kind)
    order = np.random.default_rng(8).permutation(N)
    shuffled = [cases[i] for i in order]
    mixed = {name: values[order] for name, values in risks.items()}
    same(figures(cases, risks, fold), figures(shuffled, mixed, fold[order]))
