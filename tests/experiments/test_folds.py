"""Folds: drawn, kept whole by site, and read from what others wrote."""

import json
from dataclasses import replace

import pytest

from wsisurv.cohort import Case, Cohort
from wsisurv.errors import CohortError, FormatError, MissingArtifactError
from wsisurv.experiments.folds import draw_folds, read_folds
from wsisurv.formats.splits import Fold, read_splits, write_splits
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId, SlideId


def cohort(n=40, sites=8, site_column=True):
    cases = tuple(
        Case(
            CaseId(f"TCGA-{i:02d}"),
            time=1.0 + i,
            event=i % 3 == 0,
            site=f"s{i % sites}" if site_column else None,
            slide_ids=(SlideId(f"TCGA-{i:02d}-DX1.AB-CD"),),
        )
        for i in range(n)
    )
    return Cohort("crc", cases, CohortSettings(site="site" if site_column else None))


def test_every_case_is_tested_once_a_repeat_and_never_trained_on_in_its_own_fold():
    folds = draw_folds(cohort(), n_folds=4, repeats=3, seed=1).folds
    assert len(folds) == 12
    for repeat in range(3):
        tested = [case for fold in folds if fold.repeat == repeat for case in fold.test]
        assert sorted(tested) == [f"TCGA-{i:02d}" for i in range(40)]
    assert all(not set(fold.train) & set(fold.test) and len(fold.train) + len(fold.test) == 40 for fold in folds)
    assert len({fold.test for fold in folds}) > 8
    assert folds == draw_folds(cohort(), n_folds=4, repeats=3, seed=1).folds
    assert folds != draw_folds(cohort(), n_folds=4, repeats=3, seed=2).folds


def test_sites_are_whole_and_events_balanced():
    place = cohort()
    site = {case.case_id: case.site for case in place.cases}
    event = {case.case_id: case.event for case in place.cases}
    for fold in draw_folds(place, n_folds=4, repeats=3, seed=0).folds:
        assert not {site[case] for case in fold.train} & {site[case] for case in fold.test}
        assert 2 <= sum(event[case] for case in fold.test) <= 5


def test_sites_that_can_not_be_whole_are_said_to_be_split():
    assert any(
        "can't be kept whole" in note for note in draw_folds(cohort(sites=2), n_folds=4, repeats=1, seed=0).notes
    )
    assert draw_folds(cohort(site_column=False), n_folds=4, repeats=1, seed=0).notes == ()


def test_cases_of_an_unknown_site_are_dealt_by_themselves_and_sites_stay_whole():
    place = cohort()
    cases = tuple(replace(case, site="" if i % 4 == 0 else case.site) for i, case in enumerate(place.cases))
    drawn = draw_folds(replace(place, cases=cases), n_folds=4, repeats=2, seed=0)
    site = {case.case_id: case.site for case in cases if case.site}
    for fold in drawn.folds:
        assert not {site.get(case) for case in fold.train} & {site.get(case) for case in fold.test} - {None}
    assert any(sum(case not in site for case in fold.test) not in (0, 10) for fold in drawn.folds)
    assert any("10 cases have no site" in note for note in drawn.notes)


@pytest.mark.parametrize("site_column", [True, False])
def test_cases_that_belong_together_stay_together(site_column):
    pairs = [("TCGA-00", "TCGA-01"), ("TCGA-01", "TCGA-02"), ("TCGA-10", "TCGA-31")]
    for fold in draw_folds(cohort(site_column=site_column), n_folds=4, repeats=5, seed=0, together=pairs).folds:
        for one, other in pairs:
            assert (one in fold.test) == (other in fold.test)


def test_too_few_events_for_the_folds():
    with pytest.raises(CohortError, match="2 events for 3 folds"):
        draw_folds(cohort(n=6), n_folds=3, repeats=1, seed=0)


def test_our_own_file_comes_back_and_a_damaged_line_is_named(tmp_path):
    folds = draw_folds(cohort(), n_folds=3, repeats=2, seed=0).folds
    path = tmp_path / "splits.jsonl"
    write_splits(path, folds)
    assert read_splits(path) == folds
    assert read_folds(path, cohort()).folds == folds
    lines = path.read_text().splitlines()
    changed = {**json.loads(lines[1]), "test": []}
    del changed["crc32"]
    lines[1] = json.dumps(changed)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(FormatError, match="line 2: test"):
        read_splits(path)
    with pytest.raises(MissingArtifactError, match="--splits"):
        read_splits(tmp_path / "none.jsonl")


def test_survpath_folders(tmp_path):
    for k in range(2):
        rows = [f"{i},TCGA-{i:02d},{f'TCGA-{20 + i:02d}' if i < 10 else ''}" for i in range(20)]
        (tmp_path / f"splits_{k}.csv").write_text(",train,val\n" + "\n".join(rows) + "\n")
    (tmp_path / "notes.csv").write_text("a\n1\n")
    read = read_folds(tmp_path, cohort())
    assert [(fold.repeat, fold.fold) for fold in read.folds] == [(0, 0), (0, 1)]
    assert read.folds[0].train == tuple(f"TCGA-{i:02d}" for i in range(20))
    assert read.folds[0].test == tuple(f"TCGA-{i:02d}" for i in range(20, 30))
    assert any("30 cases of the cohort are in no test fold" in note for note in read.notes)


def test_panther_folders_with_slide_ids_and_a_validation_part(tmp_path):
    for k in range(2):
        folder = tmp_path / f"TCGA_CRC_overall_survival_k={k}"
        folder.mkdir()
        for side, start, stop in (("train", 0, 20), ("val", 20, 25), ("test", 25, 41)):
            rows = "\n".join(f"TCGA-{i:02d}-DX1.AB-CD,5" for i in range(start, stop))
            (folder / f"{side}.csv").write_text(f"slide_id,os_days\n{rows}\n")
    read = read_folds(tmp_path, cohort())
    assert len(read.folds) == 2
    assert read.folds[1].test == tuple(f"TCGA-{i:02d}" for i in range(25, 40))
    assert not set(read.folds[1].train) & {f"TCGA-{i:02d}" for i in range(20, 25)}
    assert any("5 validation rows are not used" in note for note in read.notes)
    assert any("1 ids" in note and "TCGA-40" in note for note in read.notes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no splits_0.csv"),
        ({"splits_0.csv": "train,val\nTCGA-01,\n"}, "no cases to test"),
        ({"splits_0.csv": "train,val\nA,B\n"}, "0 cases of cohort crc to train on and 0 to test; ids like 'A'"),
        ({"k=0/train.csv": "name\nTCGA-01\n"}, "no column case_id or slide_id"),
    ],
)
def test_a_folder_without_usable_splits(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(CohortError, match=message):
        read_folds(tmp_path, cohort())


def test_a_fold_given_twice(tmp_path):
    fold = Fold(repeat=0, fold=0, train=("TCGA-01",), test=("TCGA-02",))
    write_splits(tmp_path / "s.jsonl", [fold, fold])
    with pytest.raises(CohortError, match="fold 1-1 .* twice"):
        read_folds(tmp_path / "s.jsonl", cohort())


def test_a_case_that_was_left_out_puts_no_other_on_its_side(tmp_path):
    """P1-2 is in the clinical table and not in the cohort: what the split says of it is not said of P1."""
    cases = tuple(Case(CaseId(name), time=1.0, event=True) for name in ("P1", "P3", "P4"))
    (tmp_path / "splits_0.csv").write_text("train,val\nP1-2,P1.svs\nP3,P1-2_a\nfolder/P4.svs,\n")
    place = Cohort("crc", cases, CohortSettings())
    read = read_folds(tmp_path, place, others=["P1-2"])
    assert (read.folds[0].train, read.folds[0].test) == (("P3", "P4"), ("P1",))
    assert any("2 ids" in note and "P1-2" in note for note in read.notes)
