"""Step 4 of the pipeline: train the teacher, and write the guidance of students, out of fold for every case."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.cohort import Cohort
from wsisurv.engine.devices import choose_device
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import MetricError
from wsisurv.formats.cards import TeacherCard, TeacherResult, TfidfTerms
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.guidance import Guidance, write_guidance
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, model_format, read_model, write_model
from wsisurv.models.ensemble import Ensemble, centred_ensemble
from wsisurv.models.teacher import ReportTimeTeacher
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.survival.metrics import concordance
from wsisurv.survival.splits import kept_whole, make_folds
from wsisurv.training.checkpoints import EVERY_S, make_checkpoints
from wsisurv.training.crossfit import CLOSED, CrossFit, Gate, ReportedCases, can_cross_fit, cross_fit_text, fit_gate
from wsisurv.training.inputs import TrainingCases, read_training_cases
from wsisurv.training.joint import JointGuidance, cross_fit_joint, n_trainings
from wsisurv.training.loop import Log, threads_for
from wsisurv.training.students import StudentPlan, train_students
from wsisurv.workspace.freshness import all_done
from wsisurv.workspace.paths import Workspace

STEP = "train-teacher"


@dataclass(frozen=True)
class _ImageBranch:
    """Students, each trained without one member fold.

    Attributes:
        ensemble: one member a fold.
        risk: float64 (n_cases,), each case by the member that did not see it.
        relevance: attention of that member on each tile, a case each.
    """

    ensemble: Ensemble
    risk: NDArray[np.float64]
    relevance: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _TextGuidance:
    """τ and gate from all folds, and made anew without each member fold."""

    fitted: CrossFit | None
    risk: NDArray[np.float64]
    gate: Gate


def train_teacher(
    workspace: Workspace,
    cohort: Cohort,
    settings: TeacherSettings | None = None,
    *,
    allow_random_weights: bool = False,
    redo: bool = False,
    device: str = "auto",
    memory_gib: float | None = None,
    checkpoint_s: float = EVERY_S,
    progress: Progress = no_progress,
) -> TeacherResult:
    """Train the teacher on a cohort; writes teacher.h5 and guidance.h5, adds to history.jsonl.

    Args:
        workspace: holds features and statements' vectors.
        cohort: the cases.
        settings: how; None for the defaults.
        allow_random_weights: train on features of an encoder that was never trained.
        redo: replace files that were made otherwise.
        device: ``auto``, ``cpu``, ``cuda`` …
        memory_gib: what features and gradients may take in memory; None for half of the machine's. Changes no result.
        checkpoint_s: seconds between checkpoints, from which an interrupted training goes on.
        progress: called after each epoch.

    Raises:
        MissingArtifactError, EncoderMismatchError, SettingsError, CohortError: as ``read_training_cases``.
        StaleError: the files were made otherwise, and not ``redo``.
        BusyError: another process is training this cohort's teacher now.
        StorageError: no room or no permission.

    Example:
        >>> import wsisurv
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> wsisurv.train_teacher(place, wsisurv.Cohort.load(place)).gate  # doctest: +SKIP
    """
    settings = settings or TeacherSettings()
    cases = read_training_cases(
        workspace,
        cohort,
        encoder=settings.encoder,
        text_encoder=settings.text_encoder,
        allow_random_weights=allow_random_weights,
        memory_gib=memory_gib,
    )
    folder = workspace.cohort(cohort.name)
    wanted = {
        folder / "teacher.h5": make_header(model_format("teacher"), settings, cases.inputs),
        folder / "guidance.h5": make_header(GUIDANCE, settings, cases.inputs),
    }
    if all_done(wanted, redo=redo):
        return read_model(folder / "teacher.h5", "teacher")[0].card.result.model_copy(update={"kept": True})
    with workspace.claim_alone(
        STEP, cohort.name, f"training the teacher of cohort {cohort.name}", settings.model_dump(mode="json")
    ):
        place = choose_device(device, ("cuda",))
        checkpoints = make_checkpoints(folder, wanted[folder / "teacher.h5"], place, checkpoint_s)
        log = Log(folder / "history.jsonl", STEP, progress, checkpoints)
        teacher, guidance, result = _train(cases, settings, place, log)
        words = cases.tfidf
        card = TeacherCard(
            encoder=settings.encoder,
            text_encoder=settings.text_encoder,
            result=result,
            tfidf=None if words is None else TfidfTerms(terms=words.vocabulary, idf=tuple(words.idf.tolist())),
        )
        write_guidance(folder / "guidance.h5", guidance, wanted[folder / "guidance.h5"])
        write_model(
            folder / "teacher.h5", ModelFile(teacher.arrays(), card), wanted[folder / "teacher.h5"]
        )  # last: where it is, all is
        checkpoints.remove()
    return result


def _train(
    cases: TrainingCases, settings: TeacherSettings, device: torch.device, log: Log
) -> tuple[ReportTimeTeacher, Guidance, TeacherResult]:
    n_folds = min(settings.folds, int(cases.event.sum()))
    site = cases.site if settings.keep_sites else None
    fold = make_folds(event=cases.event, n_folds=n_folds, seed=settings.seed, site=site)
    joint_models = n_trainings(n_folds) if settings.teacher != "late" else 0
    text_epochs = settings.text_epochs if settings.text_branch == "attention" else 0
    log.total = text_epochs * (n_folds + 1) + settings.epochs * (1 + joint_models)

    text = _text_guidance(cases, np.ones(len(fold), dtype=bool), settings, "text", log)
    without = [_text_guidance(cases, fold != k, settings, f"text without fold {k + 1}", log) for k in range(n_folds)]
    image = _image_branch(cases, fold, settings, device, log)
    joint = None
    if settings.teacher != "late" and text.fitted is not None:
        joint = cross_fit_joint(cases, fold, settings, device, log)

    image_sd, text_sd = _sd_of_known(image.risk), _sd_of_known(text.risk)
    fused = image.risk / image_sd + np.nan_to_num(text.risk / text_sd)
    if joint is not None:
        fused = np.where(np.isfinite(joint.risk), joint.risk / _sd_of_known(joint.risk), image.risk / image_sd)
    reported = np.isfinite(text.risk)
    gate = text.gate
    result = TeacherResult(
        n_cases=len(cases.case_ids),
        n_events=int(cases.event.sum()),
        n_slides=cases.n_slides,
        n_reports=int(cases.has_report.sum()),
        text_concordance=concordance_or_none(text.risk, cases, reported),
        image_concordance=concordance_or_none(image.risk, cases),
        fused_concordance=concordance_or_none(fused, cases),
        gate=gate.value,
        gate_slope=gate.slope if np.isfinite(gate.slope) else None,
        gate_se=gate.se if np.isfinite(gate.se) else None,
        warnings=(
            *cases.warnings,
            *_warnings(cases, text),
            *_hospitals_unknown(cases, text),
            *_sites_not_kept(cases, fold, settings),
        ),
    )
    log.line(**result.model_dump(exclude={"kept", "warnings"}))
    guidance = Guidance(
        case_ids=cases.case_ids,
        risk=text.risk,
        gate=gate.value,
        gate_slope=gate.slope,
        gate_se=gate.se,
        relevance=image.relevance,
        fold=fold,
        risk_without=np.stack([part.risk for part in without]),
        gate_without=np.array([part.gate.value for part in without]),
        text_risk=text.risk,
    )
    teacher = ReportTimeTeacher(image.ensemble, text.fitted.text if text.fitted else None, image_sd, text_sd)
    if joint is not None:
        guidance = _with_joint(guidance, joint)
        teacher = replace(teacher, joint=joint.ensemble, joint_sd=_sd_of_known(joint.risk))
    return teacher, guidance, result


def _hospitals_unknown(cases: TrainingCases, text: _TextGuidance) -> tuple[str, ...]:
    """What can't be excluded of an open gate where hospitals are not known."""
    known = sum(map(bool, cases.site))
    if text.gate.value == 0 or 2 * known >= len(cases.site):
        return ()
    return (
        f"the hospital is known of {known} of {len(cases.site)} cases: it can't be excluded that the reports' risk, "
        "and what tiles tell of reports, is the hospital's own style, stain and patients, and holds nowhere else. Name "
        "its column with --site.",
    )


def _sites_not_kept(cases: TrainingCases, fold: NDArray[np.int64], settings: TeacherSettings) -> tuple[str, ...]:
    """Why --keep-sites did nothing, where it did nothing."""
    if not settings.keep_sites or (None not in cases.site and kept_whole(cases.site, fold)):
        return ()
    return (
        "hospitals could not be kept whole: there is no --site, it is not known of each case, or they are too few or "
        "too unequal for these folds",
    )


def _with_joint(guidance: Guidance, joint: JointGuidance) -> Guidance:
    """Guidance by a model of tiles and statements.

    Its risk predicts the outcome by the tiles alone, even beside the reports of other cases. So the gate stays closed
    where the reports by themselves predict nothing.
    """
    seen = {guidance.case_ids[case]: relevance for case, relevance in joint.relevance.items()}
    return replace(
        guidance,
        risk=joint.risk,
        gate=min(guidance.gate, joint.gate.value),
        risk_without=joint.risk_without,
        gate_without=np.minimum(guidance.gate_without, [gate.value for gate in joint.gates_without]),
        relevance={**guidance.relevance, **seen},
    )


def _text_guidance(
    cases: TrainingCases, allowed: NDArray[np.bool_], settings: TeacherSettings, part: str, log: Log
) -> _TextGuidance:
    """Steps 0 and 1 on the ``allowed`` cases that have a report; τ is NaN for all others."""
    rows = np.flatnonzero(allowed & cases.has_report)
    risk = np.full(len(cases.case_ids), np.nan)
    time, event = cases.time[rows], cases.event[rows]
    entry = None if cases.entry is None else cases.entry[rows]
    if not can_cross_fit(event):
        return _TextGuidance(None, risk, CLOSED)
    statements = [vectors for row in rows if (vectors := cases.statements[row]) is not None]
    reports = ReportedCases(statements, time, event, [cases.site[row] for row in rows], entry)
    fitted = cross_fit_text(reports, settings, seed=settings.seed, part=part, log=log)
    risk[rows] = fitted.risk
    gate = fit_gate(risk=fitted.risk, time=time, event=event, entry=entry, site=reports.site)
    log.line(
        part=f"{part}, gate",
        gate=gate.value,
        slope=gate.slope if np.isfinite(gate.slope) else None,
        se=gate.se if np.isfinite(gate.se) else None,
    )
    return _TextGuidance(fitted, risk, gate)


def _image_branch(
    cases: TrainingCases, fold: NDArray[np.int64], settings: TeacherSettings, device: torch.device, log: Log
) -> _ImageBranch:
    """Image branch of the teacher: a student without each fold, and its risk of the cases it did not see."""
    of_image = "hidden epochs learning_rate weight_decay dropout tiles_per_bag aggregator precision".split()
    without_teacher = DistillSettings(**settings.model_dump(include={*of_image}))
    n_folds = int(fold.max()) + 1
    plans = [StudentPlan(np.flatnonzero(fold != k), settings.seed * 1000 + k) for k in range(n_folds)]
    trained = train_students(cases, plans, without_teacher, device=device, part="image branch", log=log)
    with threads_for(cases.bags):
        ensemble, states = centred_ensemble(trained, [plan.train for plan in plans], cases.bags)
        risk = np.array([one.log_hazard[k] for one, k in zip(states, fold.tolist(), strict=True)])
        unseen = [ensemble.only(np.arange(n_folds) == k) for k in range(n_folds)]
        relevance: dict[str, NDArray[np.float32]] = {}
        for case, case_id in enumerate(cases.case_ids):
            tiles = cases.bags.select(torch.tensor([case])).load().rows.numpy()
            relevance[case_id] = unseen[fold[case]].tile_scores(tiles).attention.astype(np.float32)
    return _ImageBranch(ensemble, risk, relevance)


def _sd_of_known(risk: NDArray[np.float64]) -> float:
    """Standard deviation of what is known; 1 where there is nothing to scale."""
    known = risk[np.isfinite(risk)]
    return float(known.std()) or 1.0 if len(known) else 1.0


def concordance_or_none(
    log_hazard: NDArray[np.float64], cases: TrainingCases, rows: NDArray[np.bool_] | None = None
) -> float | None:
    """Concordance of some cases, or None where there is no comparable pair; for a report, not for a decision."""
    kept = np.ones(len(log_hazard), dtype=bool) if rows is None else rows
    entry = None if cases.entry is None else cases.entry[kept]
    try:
        return concordance(log_hazard=log_hazard[kept], time=cases.time[kept], event=cases.event[kept], entry=entry)
    except MetricError:
        return None


def _warnings(cases: TrainingCases, text: _TextGuidance) -> list[str]:
    n_reports = int(cases.has_report.sum())
    if n_reports == 0:
        return [
            "no case of this cohort has statements: there is nothing to guide a student with, so `wsisurv distill` "
            "will train the baseline student alone. `wsisurv extract-report` makes statements; are its case ids those "
            "of the clinical table?"
        ]
    if text.fitted is None:
        return [
            f"{n_reports} cases have statements, but fewer than two of them an event: reports can't be learned from"
        ]
    if text.gate.value == 0:
        return [
            "gate 0: the reports' risk is not associated with the outcome (slope "
            f"{text.gate.slope:.2f}, standard error {text.gate.se:.2f}), so it will not guide the student. "
            "Are they the reports of these cases? With few events a good report may also fail this test."
        ]
    return []
