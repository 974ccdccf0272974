"""Models of a fold that read reports and no slide: what reports say beside age and stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case, entry_of
from wsisurv.engine.progress import no_progress
from wsisurv.errors import MetricError
from wsisurv.experiments.fold_models import FoldRisks, beside_covariates
from wsisurv.experiments.model_names import (
    COVARIATES,
    FULL_TEXT,
    FULL_TEXT_COMBINED,
    TEXT,
    TEXT_COMBINED,
    WORDS,
    WORDS_COMBINED,
)
from wsisurv.formats.statements import Statement
from wsisurv.models.findings import finding_values, text_values
from wsisurv.models.report_ridge import fit_report_ridge
from wsisurv.models.text import fit_tfidf, statement_terms, tfidf_vectors
from wsisurv.settings.training import TeacherSettings
from wsisurv.survival.covariates import fit_covariates
from wsisurv.survival.follow_up import one_after_another
from wsisurv.survival.ridge import cross_fit_ridge
from wsisurv.survival.splits import hospital_strata
from wsisurv.training.crossfit import ReportedCases, cross_fit_text
from wsisurv.training.loop import Log

_FEW = 2


@dataclass(frozen=True)
class ReportInputs:
    """What all folds read.

    Attributes:
        statements: case_id → statements; none of a report that gave none.
        vectors: case_id → float32 (n_statements, n_dimensions); empty for ``tfidf``, which is fitted in each fold.
        full_text: case_id → the whole report; empty leaves it out.
    """

    statements: Mapping[str, Sequence[Statement]]
    vectors: Mapping[str, NDArray[np.float32]]
    full_text: Mapping[str, str]

    @property
    def case_ids(self) -> frozenset[str]:
        """Cases that have a report, even one that gave no statement."""
        return frozenset(self.statements.keys() | self.full_text.keys())


@dataclass(frozen=True)
class _ReportRisk:
    """Log hazards of the training cases out of fold, and of the tested cases; NaN without a report."""

    seen: NDArray[np.float64]
    new: NDArray[np.float64]

    @classmethod
    def unknown(cls, train: Sequence[Case], test: Sequence[Case]) -> "_ReportRisk":
        """Risks before anything is known of any case."""
        return cls(np.full(len(train), np.nan), np.full(len(test), np.nan))


def score_report_fold(
    inputs: ReportInputs,
    train: Sequence[Case],
    test: Sequence[Case],
    *,
    teacher: TeacherSettings,
    covariates: Sequence[str],
    repeat: int,
) -> FoldRisks:
    """Fit covariates, statements and full text on the training cases, and score the tested ones.

    Args:
        inputs: the reports.
        train: the training cases.
        test: the tested cases.
        teacher: of which the text branch and its settings are taken: ``ridge`` on words and findings, or the teacher's
            ``attention`` over statements.
        covariates: columns of the clinical model; none leaves it out.
        repeat: which division of the cohort, a seed.

    Raises:
        MetricError: the training cases can't give a clinical model (no comparable pair).
    """
    risks: dict[str, NDArray[np.float64]] = {}
    warnings: list[str] = []
    if covariates:
        risks[COVARIATES] = fit_covariates(train, covariates).log_hazard(test)
    if teacher.text_branch == "attention":
        rows = [(TEXT, TEXT_COMBINED, _attention_risk(inputs, train, test, teacher, repeat))]
    else:
        rows = [(WORDS, WORDS_COMBINED, _statements_risk(inputs, train, test, teacher, repeat))]
    if inputs.full_text:
        findings = {case_id: text_values(text) for case_id, text in inputs.full_text.items()}
        rows.append((FULL_TEXT, FULL_TEXT_COMBINED, _ridge_risk(inputs.full_text, None, findings, train, test, repeat)))
    for name, combined, found in rows:
        if found is None:
            warnings.append("too few training cases with both a report and an event: reports count as unknown here")
        risk = found or _ReportRisk.unknown(train, test)
        risks[name] = np.nan_to_num(risk.new)
        if covariates:
            risks[combined] = beside_covariates(covariates, train, risk.seen, test, risk.new)
    return FoldRisks(tuple(str(case.case_id) for case in test), risks, None, tuple(warnings))


def _statements_risk(
    inputs: ReportInputs, train: Sequence[Case], test: Sequence[Case], teacher: TeacherSettings, repeat: int
) -> _ReportRisk | None:
    """By ridge on the words of statements, or on their mean vector, and on findings."""
    said = {case_id: statements for case_id, statements in inputs.statements.items() if statements}
    texts = {case_id: "\n".join(statement_terms(one) for one in statements) for case_id, statements in said.items()}
    means = {case_id: rows.mean(axis=0) for case_id, rows in inputs.vectors.items() if len(rows)}
    findings = {case_id: finding_values(statements) for case_id, statements in said.items()}
    return _ridge_risk(texts, means if teacher.text_encoder != "tfidf" else None, findings, train, test, repeat)


def _attention_risk(
    inputs: ReportInputs, train: Sequence[Case], test: Sequence[Case], teacher: TeacherSettings, repeat: int
) -> _ReportRisk | None:
    """By the teacher's own text branch; its history is not kept."""
    vectors = inputs.vectors
    if teacher.text_encoder == "tfidf":
        terms = {case_id: [statement_terms(one) for one in said] for case_id, said in inputs.statements.items() if said}
        seen = [str(case.case_id) for case in train if case.case_id in terms]
        tfidf = fit_tfidf([text for case_id in seen for text in terms[case_id]])
        vectors = {case_id: tfidf_vectors(tfidf, texts) for case_id, texts in terms.items()}
    rows = _with_report(train, vectors)
    if rows is None:
        return None
    cases = [train[row] for row in rows]
    reports = ReportedCases(
        statements=[vectors[str(case.case_id)] for case in cases],
        time=np.array([case.time for case in cases], dtype=np.float64),
        event=np.array([case.event for case in cases], dtype=np.bool_),
        site=[case.site for case in cases],
        entry=entry_of(cases),
    )
    with TemporaryDirectory() as folder:
        log = Log(Path(folder) / "history.jsonl", "crossval", no_progress, total=teacher.text_epochs)
        fitted = cross_fit_text(reports, teacher, seed=teacher.seed + repeat, part="text", log=log)
    risk = _ReportRisk.unknown(train, test)
    risk.seen[rows] = fitted.risk
    for number, case in enumerate(test):
        if case.case_id in vectors:
            risk.new[number] = fitted.text.log_hazard(vectors[str(case.case_id)])
    return risk


def _ridge_risk(
    texts: Mapping[str, str],
    vectors: Mapping[str, NDArray[np.float32]] | None,
    findings: Mapping[str, NDArray[np.float64]],
    train: Sequence[Case],
    test: Sequence[Case],
    seed: int,
) -> _ReportRisk | None:
    have = texts if vectors is None else vectors
    rows = _with_report(train, have)
    if rows is None:
        return None
    new = [number for number, case in enumerate(test) if case.case_id in have]
    cases = [train[row] for row in rows]
    seen_ids, new_ids = [str(case.case_id) for case in cases], [str(test[number].case_id) for number in new]
    if vectors is None:
        tfidf = fit_tfidf([texts[case_id] for case_id in seen_ids])
        words, new_words = (tfidf_vectors(tfidf, [texts[case_id] for case_id in ids]) for ids in (seen_ids, new_ids))
    else:
        empty = np.zeros((0, len(vectors[seen_ids[0]])), np.float32)
        words = np.stack([vectors[case_id] for case_id in seen_ids])
        new_words = np.stack([vectors[case_id] for case_id in new_ids]) if new else empty
    numbers = [np.stack([findings[case_id] for case_id in ids]) for ids in (seen_ids, new_ids) if ids]
    time, event = np.array([case.time for case in cases]), np.array([case.event for case in cases])
    site, entry = [case.site for case in cases], entry_of(cases)
    try:
        model = fit_report_ridge(
            words=words, findings=numbers[0], time=time, event=event, entry=entry, site=site, seed=seed
        )
        variables = model.scaling(words, numbers[0])
        at, entry = one_after_another(time, hospital_strata(site), entry)
        seen = cross_fit_ridge(variables=variables, time=at, event=event, entry=entry, site=site, seed=seed)
    except MetricError:
        return None
    risk = _ReportRisk.unknown(train, test)
    risk.seen[rows] = seen
    if new:
        risk.new[new] = model.log_hazard(new_words, numbers[1])
    return risk


def _with_report(cases: Sequence[Case], have: Mapping[str, Any]) -> list[int] | None:
    """Numbers of the cases that have one; None where fewer than two of them have an event."""
    rows = [number for number, case in enumerate(cases) if case.case_id in have]
    return rows if sum(cases[row].event for row in rows) >= _FEW else None
