"""Risk read from predicted findings alone: what it learns, and that it sees no tested case."""

from dataclasses import replace

import numpy as np
import pytest
import simulation

from wsisurv.errors import StaleError
from wsisurv.experiments.finding_risk import findings_settings, risk_from_findings
from wsisurv.formats.atomic import write_jsonl
from wsisurv.formats.statements import ReportRecord, Statement, read_statements
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.survival.metrics import concordance

ONCE = CrossvalSettings(folds=2, repeats=1, resamples=100)


def with_reports(study, necrosis):
    """Reports that state necrosis of these cases, and tiles that show it."""
    rng = np.random.default_rng(0)
    records = []
    for number, case in enumerate(study.cohort.cases):
        case_id = str(case.case_id)
        said = Statement(
            statement_id=f"{case_id}/1",
            category="necrosis" if necrosis[number] else "grade",
            polarity="present",
            text="necrosis" if necrosis[number] else "graded",
            evidence="x",
            start=0,
            end=1,
            match="exact",
        )
        records.append(ReportRecord(case_id=case_id, fingerprint=case_id, report_sha256=case_id, statements=(said,)))
        for slide_id in case.slide_ids:
            tiles = rng.normal(size=(12, 10))
            tiles[:, 0] += 1.5 * necrosis[number]
            simulation.write_slide_features(study.workspace, slide_id, tiles.astype(np.float16), EmbedSettings())
    write_jsonl(study.workspace.statements, (record.model_dump(mode="json") for record in records))


@pytest.fixture
def study(make_study):
    """Seventy cases, of which those with necrosis die three times as early."""
    made = make_study(70)
    necrosis = np.random.default_rng(1).random(70) < 0.5
    cases = tuple(
        replace(case, time=float((10 if bad else 30) + number % 7), event=number % 3 > 0)
        for number, (case, bad) in enumerate(zip(made.cohort.cases, necrosis, strict=True))
    )
    made.cohort = replace(made.cohort, cases=cases)
    with_reports(made, necrosis)
    made.teacher = made.teacher.model_copy(update={"text_encoder": "tfidf"})
    return made


def tiles_of(study, cases):
    from wsisurv.bags.cases import find_bags, read_cases, whole

    slides = {str(case.case_id): case.slide_ids for case in cases}
    return {one.case_id: one.tiles for one in whole(read_cases(find_bags(study.workspace, "histomics", slides)))}


def test_it_finds_the_risk_that_a_finding_carries_and_reads_no_report_of_a_tested_case(study):
    trained = replace(study.cohort, cases=study.cohort.cases[:45])
    tested = study.cohort.cases[45:]
    settings = findings_settings(study.workspace, {str(case.case_id) for case in study.cohort.cases}, "histomics")
    records = read_statements(study.workspace.statements)
    tiles = tiles_of(study, tested)
    risk = risk_from_findings(study.workspace, trained, records, tiles, settings)
    time, event = [case.time for case in tested], [case.event for case in tested]
    assert concordance(log_hazard=risk, time=time, event=event) > 0.75
    seen = {case_id: record for case_id, record in records.items() if case_id not in tiles}
    assert np.array_equal(risk_from_findings(study.workspace, trained, seen, tiles, settings), risk)
    none = risk_from_findings(study.workspace, trained, {}, tiles, settings)
    assert none is None


def test_too_few_reports_leave_it_out(study):
    some = [str(case.case_id) for case in study.cohort.cases[:15]]
    assert findings_settings(study.workspace, some, "histomics") is None
    study.workspace.statements.unlink()
    assert findings_settings(study.workspace, some, "histomics") is None


def test_it_is_a_row_of_crossval_where_statements_are_there(study):
    result = study.crossval(ONCE)
    row = result.to_frame().loc["findings"]
    assert row["concordance"] > 0.7
    assert study.crossval(ONCE).kept == 2
    study.workspace.statements.unlink()
    with pytest.raises(StaleError, match="findings"):
        study.crossval(ONCE)
    assert "findings" not in study.crossval(ONCE, redo=True).to_frame().index
