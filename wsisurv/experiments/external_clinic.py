"""What the clinic knows of the other cohort without slides, and what the student adds to it there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.experiments.external import ExternalCases, attempted
from wsisurv.experiments.likelihood_ratio import Added, added_to_covariates
from wsisurv.experiments.tested import Tested
from wsisurv.experiments.verdict import SIGNIFICANT, p_equals
from wsisurv.survival.competing import followed_on
from wsisurv.survival.covariates import fit_covariates
from wsisurv.survival.metrics import resample_concordance
from wsisurv.survival.resampling import Interval
from wsisurv.survival.stratified import FoldScores


@dataclass(frozen=True)
class BesideClinic:
    """The student beside covariates of the other cohort; None where that can't be given, for a reason in ``warnings``.

    Attributes:
        covariates: columns of the clinical table.
        concordance: of a Cox model of them, fitted on the student's training cohort.
        difference: concordance of the student minus that, on the same bootstrap draws.
        added: likelihood-ratio test of the student's risk beside the covariates, both fitted on these cases, as in
            crossval: that favours the covariates.
        warnings: what could not be given, and why.
    """

    covariates: tuple[str, ...]
    concordance: Interval | None
    difference: Interval | None
    added: Added | None
    warnings: tuple[str, ...]


def beside_clinic(
    cases: ExternalCases,
    known: Sequence[Case],
    trained: Sequence[Case],
    covariates: Sequence[str],
    *,
    resamples: int = 1000,
) -> BesideClinic:
    """Hold the student against covariates.

    Args:
        cases: as the student predicts them.
        known: the same cases, in the same order, with their covariates.
        trained: the student's training cases; none where they are not known.
        covariates: names of them.
        resamples: bootstrap draws.
    """
    warnings: list[str] = []

    def against() -> tuple[Interval, Interval]:
        if not trained:
            raise MetricError("cohort.csv of the training cohort does not lie beside the student")
        clinic = fit_covariates(trained, covariates).log_hazard(known)
        drawn = resample_concordance(
            log_hazard=np.stack([cases.log_hazard, clinic]),
            time=followed_on(cases.time, cases.cause),
            event=cases.event,
            entry=cases.entry,
            resamples=resamples,
            seed=0,
            units=cases.units,
        )
        return drawn.interval(1), drawn.difference(0, 1)

    def added() -> Added:
        fold = FoldScores(0, np.arange(len(known)), cases.log_hazard[None], len(trained))
        tested = Tested(list(known), cases.time, cases.event, [fold], cases.entry)
        return added_to_covariates(tested, 0, "student", covariates)

    names = ", ".join(covariates)
    found = attempted(warnings, f"concordance of {names} as fitted in training", against)
    return BesideClinic(
        covariates=tuple(covariates),
        concordance=found[0] if found else None,
        difference=found[1] if found else None,
        added=attempted(warnings, f"test of what the student adds to {names}", added),
        warnings=tuple(warnings),
    )


def clinic_verdict(clinic: BesideClinic) -> tuple[str, ...]:
    """What that shows, in plain words and by fixed rules."""
    names, lines = " and ".join(clinic.covariates), []
    if (found := clinic.difference) is not None and clinic.concordance is not None:
        does = "better than" if found.low > 0 else "worse than" if found.high < 0 else "not shown to differ from"
        lines.append(
            f"In discrimination the student is {does} {names} (difference in concordance {found.value:+.3f}, 95 % "
            f"interval {found.low:+.3f} to {found.high:+.3f}; concordance of {names} as fitted in training "
            f"{clinic.concordance.value:.3f})."
        )
    if (added := clinic.added) is not None:
        does = "adds to" if added.p < SIGNIFICANT else "is not shown to add to"
        lines.append(
            f"The student {does} {names} here (log hazard ratio {added.log_hazard_ratio:+.2f} per standard deviation; "
            f"likelihood-ratio test, {p_equals(added.p)})."
        )
    return tuple(lines)
