"""The leak check finds what is on both sides, and nothing where there is nothing."""

from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Cohort
from wsisurv.errors import CohortError
from wsisurv.experiments.leaks import digest_slides, find_links, mean_tiles, require_no_leak
from wsisurv.formats.atomic import write_jsonl
from wsisurv.formats.features import read_features, write_features
from wsisurv.formats.splits import Fold


def links_of(study):
    slides = digest_slides(study.workspace, study.cohort, "histomics")
    return find_links(study.workspace, study.cohort.cases, slides)


def fold(study, *tested):
    ids = [str(case.case_id) for case in study.cohort.cases]
    return Fold(repeat=0, fold=1, train=tuple(i for i in ids if i not in tested), test=tested)


def put_features(study, slide_id, change, of):
    features, header = read_features(study.workspace.features("histomics", of))
    path = study.workspace.features("histomics", slide_id)
    write_features(path, replace(features, slide_id=slide_id, values=change(features.values)), header)


def report(case_id, sha256, told=True):
    statement = {
        "statement_id": f"{case_id}/0",
        "category": "grade",
        "polarity": "present",
        "text": "grade 2",
        "evidence": "grade 2",
        "start": 0,
        "end": 7,
        "match": "exact",
    }
    said = [statement] if told else []
    return {"case_id": case_id, "fingerprint": "f", "report_sha256": sha256, "statements": said}


def test_a_clean_cohort_has_no_links(make_study):
    study = make_study(120)
    assert links_of(study) == ()
    require_no_leak([fold(study, "case0001", "case0002")], ())


def test_a_case_on_both_sides():
    both = Fold(repeat=1, fold=0, train=("case0001", "case0002"), test=("case0002", "case0003"))
    with pytest.raises(CohortError, match=r"case case0002 itself \(fold 2-1\)"):
        require_no_leak([both], ())


def test_one_slide_of_two_cases(make_study):
    study = make_study(20)
    cases = list(study.cohort.cases)
    cases[3] = replace(cases[3], slide_ids=(*cases[3].slide_ids, *cases[5].slide_ids))
    study.cohort = Cohort("trial", tuple(cases), study.cohort.settings)
    links = links_of(study)
    with pytest.raises(CohortError, match="cases case0003 and case0005: slide case0005-0 belongs to both"):
        require_no_leak([fold(study, "case0005")], links)
    require_no_leak([fold(study, "case0003", "case0005")], links)


def test_one_report_of_two_cases_but_not_a_blank_form(make_study):
    study = make_study(20)
    lines = [report("case0001", "aaa"), report("case0002", "bbb"), report("case0004", "aaa")]
    blank = [report("case0006", "ccc", told=False), report("case0007", "ccc", told=False)]
    write_jsonl(study.workspace.statements, lines + blank)
    (link,) = links_of(study)
    assert (link.one, link.other) == ("case0001", "case0004")
    with pytest.raises(CohortError, match=r"identical report \(sha256 aaa\).*--keep-together"):
        require_no_leak([fold(study, "case0004")], [link])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values, "identical features"),
        (lambda values: values[::-1], "nearly identical features"),
        (lambda values: values + np.float16(0.002), "nearly identical features"),
    ],
)
def test_one_tissue_under_two_names(make_study, change, words):
    study = make_study(40)
    put_features(study, "case0009-0", change, of="case0002-0")
    (link,) = links_of(study)
    assert (link.one, link.other) == ("case0002", "case0009")
    assert link.what == f"slides case0002-0 and case0009-0 have {words}"


def test_two_like_slides_of_one_case_are_no_leak(make_study):
    study = make_study(40)
    put_features(study, "case0007-1", lambda values: values, of="case0007-0")
    assert links_of(study) == ()


def test_the_mean_tile_is_over_all_slides_of_a_case(make_study):
    study = make_study(20)
    slides = digest_slides(study.workspace, study.cohort, "histomics")
    parts = [read_features(study.workspace.features("histomics", f"case0007-{k}"))[0].values for k in (0, 1)]
    np.testing.assert_allclose(mean_tiles(slides)["case0007"], np.concatenate(parts).astype(float).mean(0))
