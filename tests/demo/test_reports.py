import re
from dataclasses import replace

import pytest

from wsisurv.demo.phrases import MORPHOLOGY_PHRASES
from wsisurv.demo.population import MORPHOLOGIES, DemoCase, simulate_population
from wsisurv.demo.reports import true_grade, write_report


@pytest.fixture(scope="module")
def cases() -> tuple[DemoCase, ...]:
    return simulate_population(400, seed=4)


def told_grade(report: str, name: str) -> int | None:
    """Grade of the sentence found in a report, whatever its line breaks, capitals and specks."""
    plain = _plain(report)
    found = [
        grade
        for grade, sentences in enumerate(MORPHOLOGY_PHRASES[name])  # type: ignore[index]
        for sentence in sentences
        if re.search(re.sub(r"\\\{\w+\\\}|xnumberx", r"\\d+", re.escape(_plain(sentence))), plain)
    ]
    assert len(found) <= 1
    return found[0] if found else None


def _plain(text: str) -> str:
    text = re.sub(r"\{\w+\}", "xnumberx", text)
    return re.sub(r"[\s.\-]+", "", text).lower()


def test_reports_grade_morphologies_mostly_rightly(cases: tuple[DemoCase, ...]) -> None:
    right = wrong = missing = 0
    for case in cases:
        report = write_report(case, seed=4)
        for morphology in MORPHOLOGIES:
            grade = told_grade(report, morphology.name)
            right += grade == true_grade(morphology, case.shares[morphology.name])
            missing += grade is None
            wrong += grade not in (None, true_grade(morphology, case.shares[morphology.name]))
    total = right + wrong + missing
    assert 0.05 < missing / total < 0.15
    assert 0.04 < wrong / total < 0.10


def test_every_grade_occurs(cases: tuple[DemoCase, ...]) -> None:
    for morphology in MORPHOLOGIES:
        assert {true_grade(morphology, case.shares[morphology.name]) for case in cases} == {0, 1, 2, 3}


def test_several_voices_and_no_two_reports_alike(cases: tuple[DemoCase, ...]) -> None:
    reports = [write_report(case, seed=4) for case in cases]
    assert len(set(reports)) == len(reports)
    openings = {report.split()[0] for report in reports}
    assert len(openings) >= 4


def test_reports_say_that_they_are_synthetic_and_leave_no_blank(cases: tuple[DemoCase, ...]) -> None:
    for case in cases:
        report = write_report(case, seed=4)
        assert "synthetic" in report.lower()
        assert case.case_id in report
        assert not re.search(r"[{}]|None", report)
        assert 700 < len(report) < 4000


def test_reports_do_not_tell_the_outcome(cases: tuple[DemoCase, ...]) -> None:
    for case in cases[:50]:
        other = replace(case, days=case.days + 100, event=not case.event, log_hazard=0.0)
        assert write_report(other, seed=4) == write_report(case, seed=4)


def test_another_seed_tells_it_otherwise(cases: tuple[DemoCase, ...]) -> None:
    assert write_report(cases[0], seed=4) != write_report(cases[0], seed=5)
