"""``wsisurv crossval`` as a person runs it, on a small simulated cohort."""

import io
import json
import os
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
import simulation

from wsisurv.cli.app import main
from wsisurv.cohort import Audit, Cohort, write_cohort
from wsisurv.formats.models import STUDENT_FILES, read_model
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace

FOLDS = ["--folds", "2", "--repeats", "1", "--device", "cpu", "--workers", "1", "--resamples", "100"]
TEACHER = TeacherSettings(hidden=8, epochs=4, text_epochs=10, repeats=1, folds=2, text_folds=2)
STUDENT = DistillSettings(hidden=8, epochs=4, pretrain_epochs=2, members=2)


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Workspace:
    """A trained cohort ``trial`` of 40 cases with a column age; not to be changed."""
    place = Workspace(tmp_path_factory.mktemp("taught") / "workspace")
    data = simulation.simulate(simulation.make_world(0, 8, 12), 40, 0, tiles=(8, 16), effect=1.5)
    drawn = simulation.save(place, data)
    cases = tuple(replace(case, covariates={"age": f"{60 + 5 * i % 7}"}) for i, case in enumerate(drawn.cases))
    cohort = Cohort("trial", cases, CohortSettings(site="site", covariates=("age",)))
    audit = Audit(40, 40, 20, 40, 40, 20, 46, 40, 6, "days", 100.0, {}, (), (), (), ())
    write_cohort(place.cohort("trial"), cohort, audit)
    train_teacher(place, cohort, TEACHER)
    distill(place, cohort, STUDENT)
    return place


@pytest.fixture
def workspace(taught, tmp_path) -> Workspace:
    """A copy of it."""
    return Workspace(shutil.copytree(taught.root, tmp_path / "workspace", copy_function=os.link))


@pytest.fixture(scope="module")
def judged(taught, tmp_path_factory) -> Workspace:
    """The same after a cross-validation of two folds, and out.txt of what it said; not to be changed."""
    place = tmp_path_factory.mktemp("judged") / "workspace"
    place = Workspace(shutil.copytree(taught.root, place, copy_function=os.link))
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(sys, "argv", ["wsisurv", "crossval", "-w", str(place.root), *FOLDS])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    (place.root / "out.txt").write_text(out.getvalue())
    return place


@pytest.fixture
def crossvalidated(judged, tmp_path) -> Workspace:
    """A copy of it."""
    return Workspace(shutil.copytree(judged.root, tmp_path / "workspace", copy_function=os.link))


def test_a_table_a_verdict_and_the_settings_of_the_trained_student(run, crossvalidated):
    workspace = crossvalidated
    words = ["crossval", "--workspace", workspace.root, *FOLDS]
    said = (workspace.root / "out.txt").read_text()
    assert "Concordance within folds (40 cases" in said
    assert "selected student − baseline" in said
    assert "AUC" in said
    assert "D-calibration" in said
    assert "the cohort's own Kaplan-Meier curve has 0." in " ".join(said.split())
    assert "to age here" in said
    assert "events were tested" in said
    assert "crossval: 2 folds · " in said
    record = json.loads((workspace.cohort("trial") / "evaluation" / "metrics.json").read_text())
    assert record["settings"]["teacher"] == TEACHER.model_dump(mode="json")
    assert record["settings"]["student"] == STUDENT.model_dump(mode="json")
    assert record["settings"]["crossval"]["covariates"] == ["age"]
    assert "crossval: 2 folds, 2 of them kept" in run(*words).out
    rows = {row["model"]: row for row in record["models"]}
    for model, file in STUDENT_FILES.items():
        card = read_model(workspace.cohort("trial") / file, "student")[0].card
        assert card.evaluation.own.concordance == rows[model]["concordance"]

    ended = run(*words, "--covariates", "")
    assert ended.code == 1
    assert "covariates: ['age'] → []" in ended.err
    ended = run(*words, "--covariates", "grade")
    assert ended.code == 1
    assert "no covariate grade; it has age" in ended.err


def test_distilling_says_which_of_its_figures_the_choice_has_flattered(run, workspace, judged):
    words = ["--workspace", workspace.root, "--device", "cpu"]
    settings = ["--hidden", 8, "--epochs", 4, "--pretrain-epochs", 2, "--members", 2]
    before = " ".join(run("distill", *words, *settings).out.replace("│", " ").split())
    assert "too high: it was selected by this figure" in before
    assert "wsisurv crossval" in before
    shutil.rmtree(workspace.root)
    shutil.copytree(judged.root, workspace.root, copy_function=os.link)
    record = json.loads((workspace.cohort("trial") / "evaluation" / "metrics.json").read_text())
    nested = next(row for row in record["models"] if row["model"] == "selected")
    after = " ".join(run("distill", *words, *settings).out.replace("│", " ").split())
    assert f"{nested['concordance']:.3f} (95 % interval {nested['low']:.3f} to {nested['high']:.3f}; cross-" in after
    assert "too high" not in after


def test_splits_that_leak_stop_with_the_cases_named(run, workspace, tmp_path):
    splits = tmp_path / "splits"
    splits.mkdir()
    rows = [f"{i},case{i:04d},case{(i + 19) if i < 10 else 39:04d}" for i in range(20)]
    (splits / "splits_0.csv").write_text(",train,val\n" + "\n".join(rows) + "\n")
    ended = run("crossval", "-w", workspace.root, "--splits", splits)
    assert ended.code == 1
    assert "1 leak(s)" in ended.err
    assert "case case0019 itself (fold 1-1)" in ended.err


def test_one_switch_at_a_time_against_the_folds_of_crossval(run, crossvalidated):
    workspace = crossvalidated
    words = ["--workspace", workspace.root, *FOLDS]
    stamp = (workspace.cohort("trial") / "crossval" / "1-1" / "risks.json").stat().st_mtime_ns
    ended = run("ablate", *words, "--switch", "mixup=risk", "--switch", "teacher.text_epochs=3")
    assert ended.code == 0, ended.err
    assert "ablate: 2 switches" in ended.out
    record = json.loads((workspace.cohort("trial") / "evaluation" / "ablation.json").read_text())
    assert [row["model"] for row in record["models"]] == ["default", "mixup=risk", "teacher.text_epochs=3"]
    assert [row["minus"] for row in record["differences"]] == ["default", "default"]
    assert [row["model"] for row in record["gains"]] == ["default", "mixup=risk", "teacher.text_epochs=3"]
    assert record["gains"][1]["minus"] == "mixup=risk, plain"
    assert record["settings"]["mixup=risk"]["student"]["mixup"] == "risk"
    assert record["settings"]["teacher.text_epochs=3"]["teacher"]["text_epochs"] == 3
    whole = json.loads((workspace.cohort("trial") / "evaluation" / "metrics.json").read_text())
    selected = next(row for row in whole["models"] if row["model"] == "selected")
    assert record["models"][0]["concordance"] == selected["concordance"]
    assert (workspace.cohort("trial") / "crossval" / "1-1" / "risks.json").stat().st_mtime_ns == stamp

    for switch, message in {
        "mixup=none": "that is how the default is already",
        "mixup": "NAME=VALUE is needed",
        "nonsense=1": "nonsense",
        "mixup=often": "mixup",
    }.items():
        ended = run("ablate", *words, "--switch", switch)
        assert ended.code == 2
        assert message in ended.err


def test_shares_of_an_ablation_are_those_of_each_variant(run, crossvalidated):
    words = ["ablate", "--workspace", crossvalidated.root, *FOLDS, "--switch", "mixup=risk"]
    record = crossvalidated.cohort("trial") / "evaluation" / "ablation.json"
    assert run(*words).code == 0
    alone = record.read_bytes()
    record.unlink()
    shutil.rmtree(crossvalidated.cohort("trial") / "ablation")
    assert 'TASK_ID + 1))/2"' in run("submit", "--dry-run", *words).out
    first = run(*words, "--shard", "2/2")
    assert first.code == 0, first.err
    assert "ablation/mixup=risk: the 1 folds of this share are done" in " ".join(first.out.split())
    assert not record.exists()
    assert "ablate: 1 switches" in run(*words, "--shard", "1/2").out
    assert record.read_bytes() == alone


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what distributed warns of is its own
def test_an_ablation_on_a_dask_cluster_is_that_of_this_machine(run, crossvalidated, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(crossvalidated.root.parent)  # workers have another working folder
    folder = crossvalidated.cohort("trial")
    words = ["ablate", "--workspace", crossvalidated.root.name, *FOLDS]
    words += ["--switch", "mixup=risk", "--switch", "teacher.text_epochs=3"]
    made = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        for more in ([], ["--engine", "dask", "--scheduler", cluster.scheduler_address]):
            ended = run(*words, *more)
            assert ended.code == 0, ended.err
            folds = sorted((folder / "ablation").rglob("risks.json"))
            assert len(folds) == 4
            made.append([path.read_bytes() for path in (folder / "evaluation" / "ablation.json", *folds)])
            shutil.rmtree(folder / "ablation")
    assert made[0] == made[1]


def test_a_teacher_that_is_the_same_is_not_trained_again(run, crossvalidated, monkeypatch):
    words = ["--workspace", crossvalidated.root, *FOLDS]
    import wsisurv.training.teacher as teacher

    def refuse(*_arguments, **_named):
        raise AssertionError("trained again")

    monkeypatch.setattr(teacher, "_train", refuse)
    assert run("ablate", *words, "--switch", "pretrain_epochs=0").code == 0
