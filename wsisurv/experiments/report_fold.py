"""A fold without slides: what reports say beside age and stage, from cases that have follow-up and a report."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case, Cohort
from wsisurv.engine.progress import Progress
from wsisurv.errors import MetricError, MissingArtifactError
from wsisurv.experiments.fold_models import FoldRisks, Inputs, beside_covariates
from wsisurv.experiments.model_names import COVARIATES, FULL_TEXT, FULL_TEXT_COMBINED, TEXT, TEXT_COMBINED
from wsisurv.formats.splits import Fold
from wsisurv.formats.statements import Statement, read_statements
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.models.findings import finding_values, text_values
from wsisurv.models.report_ridge import cross_fit_reports, fit_report_ridge
from wsisurv.models.text import fit_tfidf, statement_terms, tfidf_vectors
from wsisurv.settings.base import canonical_json
from wsisurv.survival.covariates import fit_covariates
from wsisurv.workspace.paths import Workspace

Branch = Literal["ridge", "attention"]
REPORTS_VERSION = 2
"""Raised when what is read from reports, or how it is fitted, changes: folds scored before are then stale."""
_FEW = 2


class FittedText(Protocol):
    """A text branch fitted on some cases: their risks out of fold, and the risk of a new report."""

    @property
    def risk(self) -> NDArray[np.float64]:
        """Log hazard of each case, float64 (n_cases,), by models that have not seen it."""
        ...

    def log_hazard(self, statements: NDArray[np.float32]) -> float:
        """Log hazard of a report with statements (n_statements, n_dimensions)."""
        ...


FitAttention = Callable[[Sequence[NDArray[np.float32]], Sequence[Case], int], FittedText]
"""Statements' vectors of each case, the cases, a seed → the teacher's text branch, cross-fitted."""


@dataclass(frozen=True)
class ReportTraining:
    """How the models that read a report, and no slide, are trained in a fold.

    Attributes:
        settings: all that decides what it does, as a JSON object.
        text_encoder: of the statements' vectors, or ``tfidf``.
        branch: ``ridge`` on words and findings, or the teacher's ``attention`` over statements.
        statements: case_id → statements, of reports that gave any.
        vectors: case_id → float32 (n_statements, n_dimensions); empty for ``tfidf``, which is fitted in each fold.
        full_text: case_id → the whole report; empty leaves it out.
        attention: fits the other branch.
    """

    settings: Mapping[str, Any]
    text_encoder: str
    branch: Branch
    statements: Mapping[str, Sequence[Statement]]
    vectors: Mapping[str, NDArray[np.float32]]
    full_text: Mapping[str, str] = field(default_factory=dict)
    attention: FitAttention | None = None

    encoder: ClassVar[None] = None

    @property
    def case_ids(self) -> frozenset[str]:
        """Cases that have a report, even one that gave no statement."""
        return frozenset(self.statements.keys() | self.full_text.keys())

    def score(self, inputs: Inputs, trained: Cohort, fold: Fold, progress: Progress) -> FoldRisks:
        """Fit covariates, statements and full text on the training cases, and score the tested ones.

        Raises:
            MetricError: the training cases can't give a clinical model (no comparable pair).
        """
        progress(0, 1, "reports")
        train, test = list(trained.cases), [inputs.cases[case_id] for case_id in fold.test]
        risks: dict[str, NDArray[np.float64]] = {}
        warnings: list[str] = []
        if inputs.covariates:
            risks[COVARIATES] = fit_covariates(train, inputs.covariates).log_hazard(test)
        rows = [(TEXT, TEXT_COMBINED, self._statements_risk)]
        if self.full_text:
            rows.append((FULL_TEXT, FULL_TEXT_COMBINED, self._full_text_risk))
        for name, combined, fit in rows:
            told = fit(train, test, fold.repeat)
            if told is None:
                warnings.append("too few training cases with both a report and an event: reports count as unknown here")
                told = _Told(np.full(len(train), np.nan), np.full(len(test), np.nan))
            risks[name] = np.nan_to_num(told.new)
            if inputs.covariates:
                risks[combined] = beside_covariates(inputs.covariates, train, told.seen, test, told.new)
        return FoldRisks(tuple(fold.test), risks, None, tuple(warnings))

    def _statements_risk(self, train: Sequence[Case], test: Sequence[Case], seed: int) -> "_Told | None":
        said = {case_id: statements for case_id, statements in self.statements.items() if statements}
        if self.branch == "attention":
            return self._attention_risk(train, test, seed)
        texts = {case_id: "\n".join(statement_terms(one) for one in statements) for case_id, statements in said.items()}
        means = {case_id: rows.mean(axis=0) for case_id, rows in self.vectors.items() if len(rows)}
        findings = {case_id: finding_values(statements) for case_id, statements in said.items()}
        return _ridge_risk(texts, means if self.text_encoder != "tfidf" else None, findings, train, test, seed)

    def _full_text_risk(self, train: Sequence[Case], test: Sequence[Case], seed: int) -> "_Told | None":
        findings = {case_id: text_values(text) for case_id, text in self.full_text.items()}
        return _ridge_risk(self.full_text, None, findings, train, test, seed)

    def _attention_risk(self, train: Sequence[Case], test: Sequence[Case], seed: int) -> "_Told | None":
        if self.attention is None:
            raise ValueError("a text branch with attention needs the training that fits it")
        vectors = self.vectors
        if self.text_encoder == "tfidf":
            terms = {
                case_id: [statement_terms(one) for one in said] for case_id, said in self.statements.items() if said
            }
            seen = [str(case.case_id) for case in train if case.case_id in terms]
            tfidf = fit_tfidf([text for case_id in seen for text in terms[case_id]])
            vectors = {case_id: tfidf_vectors(tfidf, texts) for case_id, texts in terms.items()}
        rows = _with_report(train, vectors)
        if rows is None:
            return None
        fitted = self.attention([vectors[str(train[row].case_id)] for row in rows], [train[row] for row in rows], seed)
        told = _Told(np.full(len(train), np.nan), np.full(len(test), np.nan))
        told.seen[rows] = fitted.risk
        for number, case in enumerate(test):
            if case.case_id in vectors:
                told.new[number] = fitted.log_hazard(vectors[str(case.case_id)])
        return told


@dataclass(frozen=True)
class _Told:
    """Log hazards of the training cases out of fold, and of the tested cases; NaN without a report."""

    seen: NDArray[np.float64]
    new: NDArray[np.float64]


def _ridge_risk(
    texts: Mapping[str, str],
    vectors: Mapping[str, NDArray[np.float32]] | None,
    findings: Mapping[str, NDArray[np.float64]],
    train: Sequence[Case],
    test: Sequence[Case],
    seed: int,
) -> _Told | None:
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
    site = [case.site for case in cases]
    try:
        model = fit_report_ridge(words=words, findings=numbers[0], time=time, event=event, site=site, seed=seed)
        seen = cross_fit_reports(words=words, findings=numbers[0], time=time, event=event, site=site, seed=seed)
    except MetricError:
        return None
    told = _Told(np.full(len(train), np.nan), np.full(len(test), np.nan))
    told.seen[rows] = seen
    if new:
        told.new[new] = model.log_hazard(new_words, numbers[1])
    return told


def _with_report(cases: Sequence[Case], have: Mapping[str, Any]) -> list[int] | None:
    """Numbers of the cases that have one; None where fewer than two of them have an event."""
    rows = [number for number, case in enumerate(cases) if case.case_id in have]
    return rows if sum(cases[row].event for row in rows) >= _FEW else None


def read_report_training(
    workspace: Workspace,
    text_encoder: str,
    branch: Branch,
    *,
    settings: Mapping[str, Any],
    full_text: Mapping[str, str] | None = None,
    attention: FitAttention | None = None,
) -> ReportTraining:
    """Read the statements of all reports, and their vectors where these are not ``tfidf``.

    Args:
        workspace: holds reports/.
        text_encoder: of the statements' vectors, or ``tfidf``.
        branch: ``ridge`` or ``attention``.
        settings: of the attention's training, where that is the branch.
        full_text: case_id → the whole report, for a model of its own.
        attention: fits that branch.

    Raises:
        MissingArtifactError: no statements, or no vectors of this text encoder.
        FormatError: they are damaged.
    """
    records = read_statements(workspace.statements)
    vectors: Mapping[str, NDArray[np.float32]] = {}
    if text_encoder != "tfidf":
        path = workspace.vectors(text_encoder)
        if not path.exists():
            raise MissingArtifactError(f"{path}: not there. Name vectors that are with --text-encoder, or tfidf.")
        vectors = read_text_vectors(path)[0].by_case()
    texts = dict(full_text or {})
    digest = hashlib.sha256(canonical_json(texts).encode()).hexdigest() if texts else None
    text = {"branch": branch, "text_encoder": text_encoder, "full_text": digest, "version": REPORTS_VERSION}
    return ReportTraining(
        settings={**settings, "text": text},
        text_encoder=text_encoder,
        branch=branch,
        statements={case_id: record.statements for case_id, record in records.items()},
        vectors=vectors,
        full_text=texts,
        attention=attention,
    )
