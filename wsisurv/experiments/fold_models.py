"""Log hazards of one fold's cases, by every model of the table, each fitted on the fold's training cases alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.bags.cases import CaseRead, find_bags, read_cases, whole
from wsisurv.cohort import Case, Cohort
from wsisurv.experiments.finding_risk import risk_from_findings
from wsisurv.experiments.model_names import (
    COMBINED,
    COVARIATES,
    DISTILLED,
    FINDINGS,
    MEAN_POOL,
    PLAIN,
    SELECTED,
    TEACHER,
    TEXT,
    TEXT_COMBINED,
)
from wsisurv.formats.cards import TeacherCard
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import read_model
from wsisurv.formats.statements import read_statements
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.models.ensemble import Ensemble, load_student
from wsisurv.models.teacher import load_teacher
from wsisurv.models.text import Tfidf, statement_terms, tfidf_vectors
from wsisurv.settings.findings import FindingsSettings
from wsisurv.survival.covariates import fit_covariates
from wsisurv.survival.ridge import choose_ridge
from wsisurv.workspace.paths import Workspace

SCORING_VERSION = 4
"""Raised when the models of the table change, so that folds scored before are not taken for the same."""
_RISK = "(out-of-fold risk)"
_POOLED_DIRECTIONS = 16


@dataclass(frozen=True)
class FoldRisks:
    """Log hazards of the tested cases of one fold."""

    case_ids: tuple[str, ...]  # the tested cases
    risks: Mapping[str, NDArray[np.float64]]  # model → float64 (n_test,)
    gate: float | None  # of the teacher trained on this fold's training cases; None where none was
    warnings: tuple[str, ...]  # what went another way than asked
    # the student that distilling selected by these training cases; None where none was trained
    selected: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What all folds share."""

    workspace: Workspace  # features and statements are read from it
    cases: Mapping[str, Case]  # case_id → case; all with a tile, where slides are read
    # case_id → mean tile, float64 (n_features,); empty where no slide is read
    mean_tiles: Mapping[str, NDArray[np.float64]]
    covariates: tuple[str, ...]  # columns of the clinical model; none leaves it out
    with_reports: bool  # whether any case has statements; without, the models that read reports are left out
    findings: FindingsSettings | None = None  # of the model that reads predicted findings alone; None leaves it out


def score_fold(
    inputs: Inputs,
    trained: Cohort,
    test: Sequence[str],
    *,
    encoder: str,
    text_encoder: str,
    seen: Mapping[str, float] | None = None,
    memory_gib: float | None = None,
) -> FoldRisks:
    """Score the tested cases of a fold by all models.

    Args:
        inputs: what all folds share.
        trained: the fold's training cases; teacher.h5, guidance.h5, student_distilled.h5, student_plain.h5, and the one
            that was selected of them as student.h5, lie in its folder.
        test: ids of the tested cases.
        encoder: folder of the features.
        text_encoder: of the statements' vectors.
        memory_gib: what features may take in memory; None for half of the machine's.
        seen: log hazard of each training case by the members of the selected student that did not see it; None scores
            them anew.

    Raises:
        MissingArtifactError, FormatError: a file is missing or damaged.
        MetricError: the training cases can't give a clinical model (no comparable pair).
    """
    folder = inputs.workspace.cohort(trained.name)
    cases = [inputs.cases[case_id] for case_id in test]
    warnings: list[str] = []
    students = {PLAIN: _student(folder / "student_plain.h5")}
    if inputs.with_reports:
        students[DISTILLED] = _student(folder / "student_distilled.h5")
    winner = read_model(folder / "student.h5", "student")[0].card.result.winner
    selected = winner if winner in students else PLAIN  # without any report both are the same
    risks: dict[str, NDArray[np.float64]] = {
        MEAN_POOL: _mean_pool(trained.cases, cases, inputs.mean_tiles),
        **{name: np.zeros(len(cases)) for name in students},
    }
    teacher_file, _ = read_model(folder / "teacher.h5", "teacher")
    teacher, vectors = load_teacher(teacher_file), _statements(inputs, teacher_file.card, text_encoder)
    if inputs.with_reports:
        risks |= {TEXT: np.zeros(len(cases)), TEACHER: np.zeros(len(cases))}
        if teacher.text is None:
            warnings.append("too few training cases with both a report and an event: reports count as unknown here")
    by_report = np.full(len(cases), np.nan)  # unknown where there is none
    for number, read in enumerate(_read(inputs, encoder, test)):
        tiles = read.tiles
        for name, (student, _) in students.items():
            risks[name][number] = student.log_hazard(tiles)
        if inputs.with_reports:
            statements = vectors.get(read.case_id)
            risks[TEACHER][number] = teacher.log_hazard(tiles, statements)
            if teacher.text is not None and statements is not None:
                by_report[number] = teacher.text.log_hazard(statements)
                risks[TEXT][number] = by_report[number]
    if inputs.findings is not None:
        tested = {read.case_id: read.tiles for read in _read(inputs, encoder, test)}
        records = read_statements(inputs.workspace.statements)
        by_findings = risk_from_findings(inputs.workspace, trained, records, tested, inputs.findings, memory_gib)
        if by_findings is None:
            warnings.append("no finding has cases enough in training: the risk from findings is the same for all here")
        risks[FINDINGS] = np.zeros(len(cases)) if by_findings is None else by_findings
    risks[SELECTED] = risks[selected]
    guidance, _ = read_guidance(folder / "guidance.h5")
    if inputs.covariates:
        risks[COVARIATES] = fit_covariates(trained.cases, inputs.covariates).log_hazard(cases)
        fold_of = dict(zip(guidance.case_ids, guidance.fold.tolist(), strict=True))
        if seen is None:
            seen = {
                read.case_id: _unseen_risk(students[selected], read.tiles, fold_of[read.case_id])
                for read in _read(inputs, encoder, [*fold_of])
            }
        known = [inputs.cases[case_id] for case_id in fold_of]
        unseen = [seen[case_id] for case_id in fold_of]
        risks[COMBINED] = beside_covariates(inputs.covariates, known, unseen, cases, risks[SELECTED])
        if inputs.with_reports:
            risks[TEXT_COMBINED] = beside_covariates(inputs.covariates, known, guidance.text_risk, cases, by_report)
    return FoldRisks(tuple(test), risks, guidance.gate, tuple(warnings), selected)


def _read(inputs: Inputs, encoder: str, case_ids: Sequence[str]) -> Iterator[CaseRead]:
    """Tiles of cases, in their order."""
    slides = {case_id: inputs.cases[case_id].slide_ids for case_id in case_ids}
    return whole(read_cases(find_bags(inputs.workspace, encoder, slides)))


def _student(path: Path) -> tuple[Ensemble, NDArray[np.int64]]:
    """A student and the training fold that each of its members did not see."""
    model, _ = read_model(path, "student")
    return load_student(model), np.array(model.card.member_folds, dtype=np.int64)


def _unseen_risk(student: tuple[Ensemble, NDArray[np.int64]], tiles: NDArray[np.float16], fold: int) -> float:
    """Log hazard of a training case by the members that did not see it: its own would be too good to be true."""
    ensemble, member_folds = student
    return float(ensemble.members_log_hazard(tiles)[member_folds == fold].mean())


def beside_covariates(
    covariates: Sequence[str], known: Sequence[Case], seen: ArrayLike, new: Sequence[Case], risk: ArrayLike
) -> NDArray[np.float64]:
    """Log hazard of new cases by a Cox model of covariates and one risk, out of fold in training; NaN is unknown."""

    def with_risk(cases: Sequence[Case], values: ArrayLike) -> list[Case]:
        texts = ["" if np.isnan(value) else repr(float(value)) for value in np.asarray(values, dtype=np.float64)]
        pairs = zip(cases, texts, strict=True)
        return [replace(case, covariates={**case.covariates, _RISK: text}) for case, text in pairs]

    trained = with_risk(known, seen)
    if not any(case.covariates[_RISK] for case in trained):
        return fit_covariates(known, covariates).log_hazard(new)
    return fit_covariates(trained, [*covariates, _RISK]).log_hazard(with_risk(new, risk))


def _statements(inputs: Inputs, card: TeacherCard, text_encoder: str) -> Mapping[str, NDArray[np.float32]]:
    """Statements' vectors by case, float32 (n_statements, n_dimensions), by what the fold's teacher was trained on."""
    if not inputs.with_reports:
        return {}
    if text_encoder != "tfidf":
        return read_text_vectors(inputs.workspace.vectors(text_encoder))[0].by_case()
    if (words := card.tfidf) is None:
        return {}
    tfidf, records = (
        Tfidf(words.terms, np.array(words.idf, dtype=np.float32)),
        read_statements(inputs.workspace.statements),
    )
    return {
        case_id: tfidf_vectors(tfidf, [statement_terms(one) for one in records[case_id].statements])
        for case_id in inputs.cases
        if case_id in records and records[case_id].statements
    }


def _mean_pool(
    trained: Sequence[Case], test: Sequence[Case], mean_tiles: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The plainest image model: mean tile → principal directions → ridge Cox; all of it fitted on ``trained``.

    A baseline must be tuned as the student is, or the comparison flatters the student: so the ridge is chosen inside.
    """
    known = [case for case in trained if str(case.case_id) in mean_tiles]
    tiles = np.stack([mean_tiles[str(case.case_id)] for case in known])
    mean, sd = tiles.mean(0), tiles.std(0)
    sd[sd < 1e-9] = np.inf  # a column that is the same in all of training says nothing
    _, sizes, directions = np.linalg.svd((tiles - mean) / sd, full_matrices=False)
    kept = (sizes > 1e-6 * max(float(sizes[0]), 1e-12))[:_POOLED_DIRECTIONS]
    whitened = directions[: len(kept)][kept].T / sizes[: len(kept)][kept] * np.sqrt(len(known))
    fit = choose_ridge(
        variables=(tiles - mean) / sd @ whitened,
        time=[case.time for case in known],
        event=[case.event for case in known],
        entry=[case.entry for case in known],
        site=[case.site for case in known],
    )
    new = np.stack([mean_tiles[str(case.case_id)] for case in test])
    return fit.log_hazard((new - mean) / sd @ whitened)
