"""What training reads; tf-idf is fitted on the cases trained on, and on no others."""

import numpy as np

from wsisurv.formats.atomic import write_jsonl
from wsisurv.formats.statements import ReportRecord, Statement
from wsisurv.models.text import tfidf_vectors
from wsisurv.training.inputs import read_training_cases


def record(case_id: str, *texts: str) -> dict[str, object]:
    statements = tuple(
        Statement(
            statement_id=f"{case_id}/{number}",
            category="necrosis",
            polarity="present",
            text=text,
            evidence=text,
            start=0,
            end=len(text),
            match="exact",
        )  # fmt: skip
        for number, text in enumerate(texts, start=1)
    )
    return ReportRecord(case_id=case_id, fingerprint=case_id, report_sha256="", statements=statements).model_dump()


def test_tfidf_knows_no_word_of_a_case_that_is_not_trained_on(make_trial):
    trial = make_trial()
    inside, other, silent = (str(case.case_id) for case in trial.cohort.cases[:3])
    records = [
        record(inside, "focal necrosis", "extensive necrosis"),
        record(other, "focal necrosis"),
        record(silent),
        record("held-out", "zebra necrosis", "zebra stripes", "zebra"),
    ]
    write_jsonl(trial.workspace.statements, records)
    cases = read_training_cases(
        trial.workspace, trial.cohort, encoder="histomics", text_encoder="tfidf", allow_random_weights=False
    )
    assert cases.tfidf is not None
    assert "focal" in cases.tfidf.vocabulary
    assert not any("zebra" in term for term in cases.tfidf.vocabulary)
    spoken = [case_id for case_id, vectors in zip(cases.case_ids, cases.statements, strict=True) if vectors is not None]
    assert spoken == sorted([inside, other])
    first = cases.statements[cases.case_ids.index(inside)]
    assert first is not None
    assert first.shape == (2, len(cases.tfidf.vocabulary))
    np.testing.assert_array_equal(tfidf_vectors(cases.tfidf, ["unknown words"]), 0)


def test_tfidf_without_any_statement_trains_without_reports(make_trial):
    trial = make_trial()
    cases = read_training_cases(
        trial.workspace, trial.cohort, encoder="histomics", text_encoder="tfidf", allow_random_weights=False
    )
    assert cases.tfidf is None
    assert not cases.has_report.any()
