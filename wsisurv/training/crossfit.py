"""Steps 0 and 1 of the method: the report's risk out of fold, and how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.bags.packed import bags_of, pack
from wsisurv.errors import MetricError
from wsisurv.models.report_ridge import fit_report_ridge
from wsisurv.models.text_branch import LinearText, TextBranch, TextEnsemble, TextModel, fit_text_scaling
from wsisurv.settings.training import TeacherSettings
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.follow_up import one_after_another
from wsisurv.survival.losses import cox_loss
from wsisurv.survival.ridge import cross_fit_ridge
from wsisurv.survival.splits import hospital_strata, make_folds
from wsisurv.training.loop import Log, minimise, seeded, threads_for

TEXT_DIMENSIONS = 32


@dataclass(frozen=True)
class ReportedCases:
    """Statements and follow-up of cases that have a report.

    Attributes:
        statements: float32 (n_statements, n_dimensions) of each case.
        time: float64 (n_cases,).
        event: bool (n_cases,).
        site: hospital of each case, or None.
        entry: float64 (n_cases,), time from which each was followed; None where all were followed from 0.
    """

    statements: Sequence[NDArray[np.float32]]
    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    site: Sequence[str | None]
    entry: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class CrossFit:
    """What the cross-fitting gave.

    Attributes:
        risk: float64 (n_cases,), τ: log hazard by models that did not see the case, mean over repeats.
        text: all the models, or one fitted on all cases, for new reports.
    """

    risk: NDArray[np.float64]
    text: TextModel


def can_cross_fit(event: NDArray[np.bool_]) -> bool:
    """Whether there are two events at least, so that each of two halves can be learned from."""
    return int(event.sum()) >= 2


def cross_fit_text(reports: ReportedCases, settings: TeacherSettings, *, seed: int, part: str, log: Log) -> CrossFit:
    """Cross-fit the text branch: ``text_folds`` models × ``repeats``, each centred by its own training mean.

    With attention, all models are trained side by side; a case has weight 0 in the Cox loss of the models that must
    not see it. With a ridge, it is chosen anew in each of them.

    Args:
        reports: cases with ``can_cross_fit(event)``.
        settings: the teacher's.
        seed: of folds, weights and dropout.
        part: what is trained, for the history.
        log: history and progress.

    Source: docs/method.md, step 0; Chernozhukov et al. 2018 for cross-fitting.
    """
    if settings.text_branch == "ridge":
        return _cross_fit_ridge(reports, settings, seed, part, log)
    n_folds = min(settings.text_folds, int(reports.event.sum()))
    folds = np.stack(
        [
            make_folds(event=reports.event, n_folds=n_folds, seed=seed * 1000 + repeat, site=reports.site)
            for repeat in range(settings.repeats)
        ]
    )
    held_out = (folds[:, None, :] == np.arange(n_folds)[None, :, None]).reshape(-1, folds.shape[1]).T
    scaling = fit_text_scaling(np.concatenate(reports.statements), TEXT_DIMENSIONS)
    packed = pack([scaling(statements) for statements in reports.statements])
    at, entered = one_after_another(reports.time, hospital_strata(reports.site), reports.entry)
    time, event = torch.from_numpy(at), torch.from_numpy(reports.event)
    entry = None if entered is None else torch.from_numpy(entered)
    trained = torch.from_numpy(~held_out).double()
    with seeded(seed, torch.device("cpu")), threads_for(bags_of(packed)):
        branch = TextBranch(scaling.components.shape[1], settings.text_hidden, held_out.shape[1])

        def loss() -> torch.Tensor:
            return cox_loss(log_hazard=branch(packed), time=time, event=event, entry=entry, weight=trained).sum()

        of_text = {
            "epochs": settings.text_epochs,
            "learning_rate": settings.text_learning_rate,
            "weight_decay": settings.text_weight_decay,
            "precision": "fp32",
        }
        minimise(branch, loss, settings.model_copy(update=of_text), part=part, log=log)
    with torch.inference_mode():
        risk = branch(packed).double().numpy()
    centres = (risk * ~held_out).sum(0) / (~held_out).sum(0)
    centred = risk - centres
    return CrossFit(risk=(centred * held_out).sum(1) / held_out.sum(1), text=TextEnsemble(scaling, branch, centres))


def _cross_fit_ridge(reports: ReportedCases, settings: TeacherSettings, seed: int, part: str, log: Log) -> CrossFit:
    """A ridge Cox regression on principal directions of the mean statement vector: risks out of fold, model of all."""
    words = np.stack([vectors.mean(axis=0, dtype=np.float64) for vectors in reports.statements])
    nothing = np.zeros((len(words), 0))
    try:
        model = fit_report_ridge(
            words=words,
            findings=nothing,
            time=reports.time,
            event=reports.event,
            entry=reports.entry,
            site=reports.site,
            seed=seed,
        )
        time, entry = one_after_another(reports.time, hospital_strata(reports.site), reports.entry)
        risk = cross_fit_ridge(
            variables=model.scaling(words, nothing),
            time=time,
            event=reports.event,
            entry=entry,
            site=reports.site,
            folds=settings.text_folds,
            repeats=settings.repeats,
            seed=seed,
        )
    except MetricError:  # nobody was followed beyond an event: nothing can be learned
        return CrossFit(np.zeros(len(words)), LinearText(words.mean(axis=0), np.zeros(words.shape[1])))
    log.line(part=part, ridge=model.fit.ridge)
    return CrossFit(risk, LinearText(model.scaling.mean, model.scaling.directions @ model.fit.coefficients))


@dataclass(frozen=True)
class Gate:
    """How far the report's risk can be trusted.

    Attributes:
        value: g, 0 to 1; the weight of the guidance.
        slope: b, of a univariate Cox model of follow-up on τ; NaN where it can't be fitted.
        se: its standard error.
    """

    value: float
    slope: float
    se: float


CLOSED = Gate(0.0, float("nan"), float("nan"))


def fit_gate(
    *,
    risk: NDArray[np.float64],
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
    site: Sequence[str | None] = (),
) -> Gate:
    """Fit the gate g = clip((b / se − 1) / 2, 0, 1): open from three standard errors on, closed below one.

    Args:
        risk: τ (n,), out of fold.
        time: (n,).
        event: bool (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
        site: hospital of each case; where they are known, cases are compared within one only.

    Source: docs/method.md, step 1.
    """
    try:
        stratum = hospital_strata(site) if site else None
        fit = cox_slope(log_hazard=risk, time=time, event=event, entry=entry, stratum=stratum)
    except MetricError:
        return CLOSED
    return Gate(float(np.clip((fit.value / fit.se - 1) / 2, 0, 1)), fit.value, fit.se)
