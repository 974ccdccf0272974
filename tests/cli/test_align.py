"""``wsisurv align``, and ``--alignment``, ``--experts`` and ``--warm-start`` of distill and crossval."""

import json
import os
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import simulation

from wsisurv.cohort import Audit, Cohort, read_cohort, write_cohort
from wsisurv.formats.alignment import read_alignment
from wsisurv.formats.guidance import read_guidance, write_guidance
from wsisurv.formats.models import read_model
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training import alignment as aligned
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher
from wsisurv.units import CaseId
from wsisurv.workspace.paths import Workspace

TEACHER = TeacherSettings(hidden=8, epochs=2, text_epochs=5, repeats=1, folds=2, text_folds=2)
STUDENT = DistillSettings(hidden=8, epochs=2, members=2)
SHORT = ["--hidden", 8, "--epochs", 2, "--members", 2, "--device", "cpu"]


def drawn(place: Workspace, seed: int, *, embed: EmbedSettings | None = None, n: int = 40) -> Cohort:
    """A cohort whose mean tile tells its report, of four hospitals, as the steps before would have left it."""
    data = simulation.simulate(simulation.make_world(1, 8, 12), n, seed, tiles=(8, 16), effect=1.5)
    means = [bag.mean(0, dtype=np.float32) for bag in data.bags]
    data = replace(data, reports=[np.stack([mean, mean * 2]) for mean in means])
    saved = simulation.save(place, data, embed=embed)
    cases = tuple(replace(case, site=f"H{row % 4}") for row, case in enumerate(saved.cases))
    cohort = Cohort("trial", cases, CohortSettings(site="site"))
    audit = Audit(n, n, 20, n, n, 20, 46, n, 6, "days", 100.0, {}, (), (), (), ())
    write_cohort(place.cohort("trial"), cohort, audit)
    return cohort


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Two workspaces: one of a trained cohort whose teacher is listened to, one without any cohort."""
    root = tmp_path_factory.mktemp("taught")
    one, other = Workspace(root / "one"), Workspace(root / "other")
    cohort = drawn(one, 0)
    sites = root / "sites.csv"
    cases = drawn(other, 1).cases
    sites.write_text("case_id,site\n" + "".join(f"{case.case_id},{case.site}\n" for case in cases))
    shutil.rmtree(other.root / "cohorts")
    train_teacher(one, cohort, TEACHER)
    path = one.cohort("trial") / "guidance.h5"
    guidance, header = read_guidance(path)
    write_guidance(path, replace(guidance, gate=1.0, gate_without=np.ones_like(guidance.gate_without)), header)
    distill(one, cohort, STUDENT)
    return root


@pytest.fixture
def place(taught, tmp_path):
    """A copy of it."""
    return shutil.copytree(taught, tmp_path / "place", copy_function=os.link)


def words(text) -> str:
    return " ".join(text.split())


def test_workspaces_with_and_without_follow_up_are_aligned(run, place):
    out = place / "alignment.h5"
    command = ["align", place / "one", place / "other", "--sites", place / "sites.csv", "--output", out]
    ended = run(*command)
    assert ended.code == 0, ended.err
    file, header = read_alignment(out)
    assert (file.encoder, file.text_encoder, len(file.pairs.case_ids)) == ("histomics", "hashing", 80)
    assert set(file.pairs.cohorts) == {"one", "other"}
    assert set(file.pairs.hospitals) == {"H0", "H1", "H2", "H3"}
    mean = np.concatenate([read(place / "one" / "features" / "histomics" / f"case0000-{n}.h5") for n in (0, 1)])
    row = file.pairs.case_ids.index("case0000")
    np.testing.assert_allclose(file.pairs.slides[row, :8], mean.mean(0), atol=1e-5)
    np.testing.assert_allclose(file.pairs.slides[row, 8:], mean.std(0), atol=1e-5)
    assert header.settings["encoder"] == "histomics"
    before = out.read_bytes()
    again = run(*command)
    assert (again.code, "align: kept" in again.out) == (0, True)
    assert out.read_bytes() == before
    refused = run("align", place / "one", "--output", out)
    assert refused.code == 1
    assert "--redo" in refused.err
    assert run("verify", place).code == 0


def read(path):
    with h5py.File(path) as file:
        return file["features"][()].astype(np.float64)


def test_distill_looks_along_it_and_crossval_leaves_the_tested_out(run, place, monkeypatch):
    out = place / "alignment.h5"
    sources = [place / "one" / "cohorts" / "trial", place / "other"]
    assert run("align", *sources, "--sites", place / "sites.csv", "--output", out).code == 0
    words_ = ["distill", "-w", place / "one", "--alignment", out, *SHORT]
    assert "--redo" in run(*words_).err
    ended = run(*words_, "--redo")
    assert ended.code == 0, ended.err
    student, header = read_model(place / "one" / "cohorts" / "trial" / "student_distilled.h5", "student")
    assert header.inputs["alignment"] == read_alignment(out)[1].fingerprint
    assert student.card.result.directions
    left: list[tuple[set[str], set[str]]] = []
    without = aligned.Alignment.without

    def watched(self, tested, trained):
        unseen = without(self, tested, trained)
        left.append(({str(case.case_id) for case in tested}, set(unseen.file.pairs.case_ids)))
        return unseen

    monkeypatch.setattr(aligned.Alignment, "without", watched)
    judged = run(
        "crossval",
        "-w",
        place / "one",
        "--folds",
        2,
        "--repeats",
        1,
        "--alignment",
        out,
        "--device",
        "cpu",
        "--workers",
        1,
        "--resamples",
        100,
    )
    assert judged.code == 0, judged.err
    assert len(left) >= 2
    for tested, kept in left:
        assert tested
        assert not tested & kept
    metrics = json.loads((place / "one" / "cohorts" / "trial" / "evaluation" / "metrics.json").read_text())
    assert metrics["settings"]["alignment"] == {"fingerprint": read_alignment(out)[1].fingerprint}
    card = read_model(place / "one" / "cohorts" / "trial" / "student.h5", "student")[0].card
    assert card.evaluation is not None
    without_it = run("crossval", "-w", place / "one", "--folds", 2, "--repeats", 1, "--device", "cpu")
    assert "--redo" in without_it.err


def test_unlike_encoders_and_text_encoders_are_named(run, place, tmp_path):
    drawn(Workspace(tmp_path / "odd"), 2, embed=EmbedSettings(encoder="uni", weights="imported"))
    ended = run("align", place / "one", tmp_path / "odd")
    assert ended.code == 1
    assert (
        f"{tmp_path / 'odd'}: no case has both a report and features of histomics (there are features of uni"
        in words(ended.err)
    )
    drawn(Workspace(tmp_path / "coarse"), 2, embed=EmbedSettings(half_scale=True))
    ended = run("align", place / "one", tmp_path / "coarse")
    assert ended.code == 1
    assert "were made in different ways (half_scale" in words(ended.err)
    assert str(tmp_path / "coarse") in words(ended.err)
    ended = run("align", place / "one", "--text-encoder", "st:other")
    assert ended.code == 1
    assert "no vectors of st:other" in words(ended.err)
    assert "there are hashing" in words(ended.err)
    assert not (tmp_path / "alignment.h5").exists()


def test_one_hospital_or_none_is_refused_with_the_way_out(run, place, tmp_path):
    ended = run("align", place / "other", "--output", tmp_path / "a.h5")
    assert ended.code == 1
    assert "0 hospital(s)" in ended.err
    assert "--sites" in ended.err
    one = tmp_path / "one.csv"
    one.write_text("case_id,site\n" + "".join(f"case{row:04d},H\n" for row in range(40)))
    ended = run("align", place / "other", "--sites", one, "--output", tmp_path / "a.h5")
    assert ended.code == 1
    assert "1 hospital(s)" in ended.err
    assert not (tmp_path / "a.h5").exists()
    more = run("align", place / "one", place / "other", "--sites", one, "--output", tmp_path / "a.h5")
    assert more.code == 0, more.err
    assert "are of one hospital" in words(more.err)


def test_an_alignment_of_the_tested_alone_is_refused(run, place):
    """Made on this very cohort: once the tested and their hospitals are left out, too little is there."""
    out = place / "alignment.h5"
    assert run("align", place / "one", "--output", out).code == 0
    table = place / "splits.jsonl"
    cases = [f"case{row:04d}" for row in range(40)]
    folds = [[case for row, case in enumerate(cases) if (row % 4 < 3) == first] for first in (True, False)]
    lines = [{"repeat": 0, "fold": k, "train": folds[1 - k], "test": folds[k]} for k in (0, 1)]
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = run("crossval", "-w", place / "one", "--splits", table, "--alignment", out, "--device", "cpu", "--redo")
    assert ended.code == 1
    said = words(ended.err)
    assert str(out) in said
    assert "tested" in said
    assert "without --alignment" in said


UNI = EmbedSettings(encoder="uni", weights="imported")


@pytest.mark.parametrize(
    ("made", "words_of_it"),
    [(UNI, "uni, not histomics"), (EmbedSettings(of_tiles=UNI), "weights of the tiles imported, not None")],
)
def test_an_alignment_of_other_features_is_refused(run, place, tmp_path, made, words_of_it):
    other = Workspace(tmp_path / "uni")
    drawn(other, 3, embed=made)
    out = tmp_path / "uni.h5"
    assert run("align", other.root, "--encoder", made.folder, "--output", out).code == 0
    ended = run("distill", "-w", place / "one", "--alignment", out, *SHORT, "--redo")
    assert ended.code == 1
    assert f"{out}: an alignment of" in words(ended.err)
    assert words_of_it in words(ended.err)


def train(place, cohort, audit):
    write_cohort(place.cohort("trial"), cohort, audit)
    train_teacher(place, cohort, TEACHER, redo=True)
    distill(place, cohort, STUDENT, redo=True)


def test_a_student_of_another_cohort_is_an_expert_where_it_saw_nobody_who_is_tested(run, place):
    folder = place / "one" / "cohorts" / "trial"
    elsewhere = Workspace(place / "elsewhere")
    cohort = drawn(elsewhere, 5)
    cases = tuple(replace(case, case_id=CaseId(f"E{case.case_id}"), site=f"E{case.site}") for case in cohort.cases)
    cohort = replace(cohort, cases=cases)
    train(elsewhere, cohort, read_cohort(folder)[1])
    expert = elsewhere.cohort("trial") / "student_plain.h5"
    words_ = ["distill", "-w", place / "one", "--experts", expert, "--warm-start", expert, *SHORT]
    assert "students of other cohorts" in run(*words_).err
    ended = run(*words_, "--redo")
    assert ended.code == 0, ended.err
    assert "weight of the expert of trial" in words(ended.out)
    judging = ["crossval", "-w", place / "one", "--folds", 2, "--repeats", 1, "--device", "cpu", "--workers", 1]
    judging += ["--resamples", 100, "--experts", expert, "--warm-start", expert]
    judged = run(*judging)
    assert judged.code == 0, judged.err
    assert "saw tested patients" not in judged.err
    assert read_model(folder / "student.h5", "student")[0].card.evaluation is not None
    seen = read_cohort(folder)[0].cases[0].case_id
    train(elsewhere, replace(cohort, cases=(replace(cases[0], case_id=seen), *cases[1:])), read_cohort(folder)[1])
    for command in (words_, judging):
        refused = run(*command, "--redo")
        assert f"it was trained on 1 case(s) of this cohort ({seen})" in words(refused.err)
    train(elsewhere, replace(cohort, cases=(replace(cases[0], site="H0"), *cases[1:])), read_cohort(folder)[1])
    judged = run(*judging, "--redo")
    assert judged.code == 0, judged.err
    assert "in 2 of 2 folds: students of other cohorts left out" in words(judged.err)
    assert run("crossval", "-w", place / "one", "--reports-only", "--experts", expert).code == 2
