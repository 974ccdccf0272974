"""Step 5 of the pipeline: train students that need tiles only, with and without the teacher's guidance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.cohort import Cohort
from wsisurv.engine.devices import choose_device
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import SettingsError
from wsisurv.formats.cards import DistillResult, ExpertWeight
from wsisurv.formats.guidance import Guidance, read_guidance
from wsisurv.formats.header import Header, make_header
from wsisurv.formats.models import (
    CARD_VERSION,
    FROM_ELSEWHERE,
    STUDENT_FILES,
    add_figures,
    model_format,
    read_model,
    write_model,
)
from wsisurv.models.ensemble import centred_ensemble
from wsisurv.models.student import Student
from wsisurv.models.teacher import ReportTimeTeacher
from wsisurv.settings.base import parse_settings
from wsisurv.settings.embedding import is_untrained
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.survival.cox import LOW_SLOPE, low_slope
from wsisurv.training.alignment import Alignment, require_fitting
from wsisurv.training.card import CrossFitted, student_model
from wsisurv.training.checkpoints import EVERY_S, make_checkpoints
from wsisurv.training.choice import Choice, Winner, choose_student
from wsisurv.training.duplicates import merge_duplicates
from wsisurv.training.experts import Transfer, with_experts
from wsisurv.training.inputs import TrainingCases, read_training_cases
from wsisurv.training.loop import Log, threads_for
from wsisurv.training.relevance import read_teacher, relevance_without
from wsisurv.training.student_loss import TeacherTarget
from wsisurv.training.students import StudentPlan, train_students
from wsisurv.training.subspace import FeatureSubspaces, find_subspaces
from wsisurv.training.tuning import epochs_of, train_tuned, ways_of
from wsisurv.workspace.freshness import Condition, Freshness, all_done, compare, require_fresh
from wsisurv.workspace.paths import Workspace

STEP = "distill"

_FEW_PAIRS = 100
"""Pairs of cases under which a concordance says next to nothing."""


def distill(
    workspace: Workspace,
    cohort: Cohort,
    settings: DistillSettings | None = None,
    *,
    alignment: Alignment | None = None,
    transfer: Transfer | None = None,
    redo: bool = False,
    device: str = "auto",
    memory_gib: float | None = None,
    checkpoint_s: float = EVERY_S,
    progress: Progress = no_progress,
) -> DistillResult:
    """Train the student on tiles and guidance, and the same student without guidance; select the better one.

    Writes student_distilled.h5, student_plain.h5, and the better of them as student.h5; adds to history.jsonl. Each
    member is trained without one member fold, and on guidance that knows no outcome of that fold, so that the
    concordances compare like with like. Interrupted, it goes on from its last checkpoint, to the same files.

    Args:
        workspace: holds features, statements' vectors and the cohort's guidance.h5.
        cohort: the cases.
        settings: how; None for the defaults.
        alignment: of many cohorts, which says along which directions tiles speak for reports; None for what the
            cohort's own reports say.
        transfer: students of other cohorts, for the distilled student; see ``open_transfer``. None for none.
        redo: replace students that were made otherwise.
        device: ``auto``, ``cpu``, ``cuda`` …
        memory_gib: what features and gradients may take in memory; None for half of the machine's. Changes no result.
        checkpoint_s: seconds between checkpoints.
        progress: called after each epoch.

    Raises:
        MissingArtifactError: no guidance, or features of a slide are missing.
        StaleError: the guidance was made from another cohort, other features or other statements; or the students
            were made otherwise, and not ``redo``.
        SettingsError: fewer members than the teacher's folds; a device that is not there; a loss without bounds.
        CohortError: fewer than two events among cases with tiles; an alignment of too few hospitals; an expert that
            was trained on cases of this cohort.
        EncoderMismatchError: an alignment of other features or text vectors; an expert of other features.
        BusyError: another process is distilling this cohort now.
        StorageError: no room or no permission.

    Example:
        >>> import wsisurv
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> wsisurv.distill(place, wsisurv.Cohort.load(place)).concordance  # doctest: +SKIP
    """
    return distill_scored(
        workspace,
        cohort,
        settings or DistillSettings(),
        alignment=alignment,
        transfer=transfer,
        redo=redo,
        device=device,
        memory_gib=memory_gib,
        checkpoint_s=checkpoint_s,
        progress=progress,
    )[0]


def distill_scored(
    workspace: Workspace,
    cohort: Cohort,
    settings: DistillSettings,
    *,
    alignment: Alignment | None,
    transfer: Transfer | None = None,
    redo: bool,
    device: str,
    memory_gib: float | None,
    checkpoint_s: float = EVERY_S,
    progress: Progress,
) -> tuple[DistillResult, dict[str, float] | None]:
    """As ``distill``; beside it the log hazard of each case by members of the selected student that did not see it.

    None in its place where the students were there already: no file holds what belongs to a patient.
    """
    folder = workspace.cohort(cohort.name)
    guidance, made = read_guidance(folder / "guidance.h5")
    teacher = parse_settings(TeacherSettings, made.settings)
    # whether random weights are allowed was decided when the teacher was trained on them
    cases = read_training_cases(
        workspace,
        cohort,
        encoder=teacher.encoder,
        text_encoder=teacher.text_encoder,
        allow_random_weights=True,
        memory_gib=memory_gib,
    )
    _require_fresh(folder / "guidance.h5", made, guidance, cases)
    if alignment is not None:
        require_fitting(alignment, cases, teacher.encoder, teacher.text_encoder)
    transfer = transfer or Transfer()
    odd = transfer.require_fitting(cases, settings)
    n_folds = len(guidance.gate_without)
    if settings.members < n_folds:
        raise SettingsError(
            f"--members {settings.members} is fewer than the teacher's {n_folds} folds: some cases would have no "
            f"member that did not see them. Give --members {n_folds} or more, or train the teacher with fewer --folds."
        )
    inputs = {**cases.inputs, "guidance": made.fingerprint, **CARD_VERSION}
    if alignment is not None:
        inputs["alignment"] = alignment.fingerprint
    if transfer.fingerprint:
        inputs[FROM_ELSEWHERE] = transfer.fingerprint
    asked = settings.model_dump(mode="json")
    wanted = {
        folder / name: make_header(model_format("student"), {**asked, **more}, inputs)
        for name, more in (
            ("student_distilled.h5", {"guided": True}),
            ("student_plain.h5", {"guided": False}),
            ("student.h5", {}),
        )
    }
    if all_done(wanted, redo=redo):
        return _with_figures(folder, read_model(folder / "student.h5", "student")[0].card.result, kept=True), None
    with workspace.claim_alone(STEP, cohort.name, f"distilling cohort {cohort.name}", asked):
        teacher_model = read_teacher(folder / "teacher.h5", made) if settings.needs_relevance else None
        place = choose_device(device, ("cuda",))
        checkpoints = make_checkpoints(folder, wanted[folder / "student.h5"], place, checkpoint_s)
        log = Log(folder / "history.jsonl", STEP, progress, checkpoints)
        students, subspaces, experts = _train(cases, guidance, teacher_model, settings, place, log, alignment, transfer)
        choice = choose_student(**students, time=cases.time, event=cases.event, entry=cases.entry, site=cases.site)
        prognoses = {which: one.prognosis(cases) for which, one in students.items()}
        result = _result(cases, guidance, students, subspaces, choice, prognoses[choice.winner].slope)
        start = transfer.start.card.cohort.name if transfer.start else ""
        others = {"experts": tuple(experts), "warm_start": start, "warnings": (*odd, *result.warnings)}
        result = result.model_copy(update=others)
        log.line(**result.model_dump(exclude={"kept", "nested", "warnings"}))
        of_file: dict[str, Winner] = {"distilled": "distilled", "plain": "plain", "selected": choice.winner}
        guided = {"distilled": _guides(guidance), "plain": False}
        models = {
            which: student_model(
                cases, cohort, teacher.encoder, one, prognoses[which], guided=guided[which], result=result
            )
            for which, one in students.items()
        }
        for key, name in STUDENT_FILES.items():  # the selected one last: where it is, all is
            write_model(folder / name, models[of_file[key]], wanted[folder / name])
        checkpoints.remove()
    unseen = students[choice.winner].out_of_fold.tolist()
    return _with_figures(folder, result, kept=False), dict(zip(cases.case_ids, unseen, strict=True))


def _with_figures(folder: Path, result: DistillResult, *, kept: bool) -> DistillResult:
    """Put figures of crossval, where it was run with these settings, into the students' cards and beside the result."""
    for file in STUDENT_FILES.values():
        add_figures(folder / file, folder / "evaluation" / "metrics.json")
    evaluation = read_model(folder / STUDENT_FILES["selected"], "student")[0].card.evaluation
    return result.model_copy(update={"kept": kept, "nested": evaluation.own if evaluation else None})


def _require_fresh(path: Path, made: Header, guidance: Guidance, cases: TrainingCases) -> None:
    seen = compare(made, replace(made, inputs=dict(cases.inputs)))
    if seen.done and guidance.case_ids != cases.case_ids:
        seen = Freshness(Condition.STALE, ("its cases are not those that have tiles now",))
    require_fresh({path: seen}, remedy="Run `wsisurv train-teacher --redo` first.")


def _train(
    cases: TrainingCases,
    guidance: Guidance,
    teacher: ReportTimeTeacher | None,
    settings: DistillSettings,
    device: torch.device,
    log: Log,
    alignment: Alignment | None,
    transfer: Transfer,
) -> tuple[dict[Winner, CrossFitted], FeatureSubspaces, list[ExpertWeight]]:
    """Train baseline and distilled students; member j is trained without fold j mod n_folds in both."""
    if settings.merge_duplicates:
        cases = replace(cases, merged=merge_duplicates(cases.bags, settings.duplicate_similarity))
    n_folds = len(guidance.gate_without)
    folds = [member % n_folds for member in range(settings.members)]
    targets = [_target(guidance, fold) for fold in folds]
    splits = [np.flatnonzero(guidance.fold != fold) for fold in folds]
    seeds = [settings.seed * 1000 + member for member in range(settings.members)]
    subspaces = FeatureSubspaces()
    if settings.feature_subspace == "reports" and None not in targets and transfer.start is None:
        subspaces = find_subspaces(cases, splits, seeds, device, log, alignment)
    plans = [StudentPlan(train, seed) for train, seed in zip(splits, seeds, strict=True)]
    guided = [
        replace(
            plan,
            target=_with_tiles(target, number, folds[number], cases, teacher, subspaces),
            start=None if transfer.start is None else transfer.start.member(number),
        )
        for number, (plan, target) in enumerate(zip(plans, targets, strict=True))
    ]
    n_guided = sum(target is not None for target in targets)
    if transfer.start is not None:
        n_guided = len(targets)
    longest = max(ways_of(settings), key=lambda way: way.epochs)
    log.total = epochs_of(settings) + _guided_epochs(longest, n_guided)

    def calm(students: list[Student], plans: list[StudentPlan], part: str) -> CrossFitted:
        fitted = _cross_fitted(students, plans, cases, folds, guidance.fold)
        if settings.loss == "discrete":  # hazards of time bins: no factor of a log hazard
            return fitted
        fitted = fitted.calmed(cases)
        log.line(part=f"{part}, scaled", factor=fitted.factor)
        return fitted

    # the way is chosen by the students without reports: reports have no say in how long one is trained
    tuned = train_tuned(cases, plans, folds, guidance.fold, settings, device=device, part="plain students", log=log)
    plain = calm(tuned.students, plans, "plain students")
    distilled = plain
    if n_guided:
        log.total = epochs_of(settings) + _guided_epochs(tuned.way, n_guided)
        students = train_students(cases, guided, tuned.way, device=device, part="distilled students", log=log)
        distilled = calm(students, guided, "distilled students")
    experts: list[ExpertWeight] = []
    if transfer.experts:
        members, experts = with_experts(distilled, transfer, cases)
        log.line(part="experts", experts=[one.model_dump() for one in experts])
        if any(one.weight for one in experts):
            distilled = calm(members, guided, "distilled students with experts")
    return {"distilled": distilled, "plain": plain}, subspaces, experts


def _guided_epochs(settings: DistillSettings, n_guided: int) -> int:
    """Epochs of guided students: side by side, but those of filters, of pre-training and after a hard filter."""
    filtered = settings.epochs if settings.filter != "none" else 0
    side_by_side = settings.epochs * (n_guided if settings.filter == "hard" else min(n_guided, 1))
    return n_guided * (settings.pretrain_epochs + filtered) + side_by_side


def _with_tiles(
    target: TeacherTarget | None,
    member: int,
    fold: int,
    cases: TrainingCases,
    teacher: ReportTimeTeacher | None,
    subspaces: FeatureSubspaces,
) -> TeacherTarget | None:
    """A member's target with what it says of single tiles and of features, where settings ask for it."""
    if target is None:
        return None
    relevance = None if teacher is None else relevance_without(teacher, cases, fold)
    subspace = None if subspaces.bases is None else subspaces.bases[member]
    return replace(target, relevance=relevance, subspace=subspace)


def _target(guidance: Guidance, fold: int) -> TeacherTarget | None:
    """Teacher target for members that must not know a fold; None where the gate is closed."""
    gate = min(guidance.gate, float(guidance.gate_without[fold]))
    return TeacherTarget(guidance.risk_without[fold], gate) if gate > 0 else None


def _guides(guidance: Guidance) -> bool:
    """Whether any member is guided."""
    return any(_target(guidance, fold) is not None for fold in range(len(guidance.gate_without)))


def _cross_fitted(
    students: list[Student],
    plans: list[StudentPlan],
    cases: TrainingCases,
    folds: list[int],
    fold: NDArray[np.int64],
) -> CrossFitted:
    with threads_for(cases.bags):
        ensemble, states = centred_ensemble(students, [plan.train for plan in plans], cases.bags)
    return CrossFitted(ensemble, tuple(states), tuple(folds), fold)


def _result(
    cases: TrainingCases,
    guidance: Guidance,
    students: dict[Winner, CrossFitted],
    subspaces: FeatureSubspaces,
    choice: Choice,
    slope: float,
) -> DistillResult:
    reported = np.isfinite(guidance.risk)
    between, within = choice.difference, " and within hospital" if choice.within == "hospital" else ""
    warnings = list(cases.warnings)
    if guidance.gate == 0:
        warnings.append(
            "gate 0: the reports' risk is not associated with the outcome, so the selected student is the baseline "
            "student. Are they the reports of these cases? With few events a good report may also fail this test."
            if reported.any()
            else "gate 0: no report guides the student, so the selected student is the baseline student"
        )
    elif not _guides(guidance):
        warnings.append(
            "the gate closes as soon as any fold is left out, so the selected student is the baseline student"
        )
    elif between is None:
        warnings.append(
            "no fold has a comparable pair, so nothing can choose: the selected student is the baseline student"
        )
    elif choice.winner == "plain":
        warnings.append(
            f"out of fold{within} the baseline student did better by {-between.value:.3f} (95 % interval "
            f"{-between.high:+.3f} to {-between.low:+.3f}), so it is selected; the other is in "
            "student_distilled.h5"
        )
    if 0 < choice.pairs < _FEW_PAIRS:
        warnings.append(
            f"the concordances out of fold are of {choice.pairs} pairs of cases alone: they say next to nothing, nor "
            "does which student was selected by them"
        )
    if is_untrained(cases.embed_settings):
        warnings.append("the features come from random weights: this student is for trying things out only")
    winner = students[choice.winner]
    if winner.factor < LOW_SLOPE:
        warnings.append(
            f"log hazards were {1 / winner.factor:.0f} times too extreme out of fold, and were divided by that: "
            "over-trained, or little was learned that holds for new cases"
        )
    if slope < LOW_SLOPE:
        warnings.append(low_slope(slope))
    cut_offs = winner.cut_offs
    return DistillResult(
        n_cases=len(cases.case_ids),
        n_events=int(cases.event.sum()),
        n_reports=int(reported.sum()) if _guides(guidance) else 0,
        gate=guidance.gate,
        reports_told=subspaces.explained,
        directions=tuple(basis.shape[1] for basis in subspaces.bases or ()),
        winner=choice.winner,
        within=choice.within,
        concordance=choice.distilled if choice.winner == "distilled" else choice.plain,
        distilled_concordance=choice.distilled,
        plain_concordance=choice.plain,
        difference=between.value if between else None,
        difference_low=between.low if between else None,
        difference_high=between.high if between else None,
        warnings=tuple(warnings),
        low=cut_offs.low,
        high=cut_offs.high,
    )
