"""``submit``: the script of a job array, run by bash with a SLURM of a few lines; on a real one in tests/slurm."""

import os
import shlex
import shutil
import signal
import subprocess
import time

import pytest

from wsisurv.cohort import read_cohort
from wsisurv.engine import slurm
from wsisurv.engine.slurm import arrays
from wsisurv.errors import BackendError, SettingsError
from wsisurv.formats.splits import Fold, write_splits
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """``fake("sbatch", "exit 3")`` puts a program on the path; what it was called with and given is returned."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str):
        said = tmp_path / f"{name}.txt"
        (folder / name).write_text(f'#!/bin/bash\necho "$@" >>{said}\n{script}\n')
        (folder / name).chmod(0o755)
        return said

    return put


@pytest.fixture
def reports(tmp_path):
    folder = tmp_path / "reports of one"
    folder.mkdir()
    for number in range(45):
        (folder / f"c{number}.txt").write_text("Adenocarcinoma.")
    return folder


def test_tasks_have_shares_and_arrays_are_no_larger_than_allowed(run, reports, tmp_path, fake):
    fake("scontrol", "echo 'MaxArraySize            = 2'")
    sent = fake("sbatch", f"cat >{tmp_path}/script.$PPID.$$; echo '7;cluster'")
    words = ["--each", 9, "--at-once", 3, "--sbatch=--partition=gpu", "extract-report", reports, "-w", tmp_path / "w"]
    shown = run("submit", "--dry-run", *words)
    assert shown.code == 0, shown.err
    assert not sent.exists()
    ended = run("submit", *words)
    assert "45 items in 5 tasks, job 7, 7, 7" in ended.out
    scripts = sorted(
        (path.read_text() for path in tmp_path.glob("script.*")), key=lambda one: one.partition("# Share")[2]
    )
    assert shown.out == "".join(f"{script}\n" for script in scripts)
    assert [script.count("#SBATCH --array=0-1%3\n") for script in scripts] == [1, 1, 0]
    last = scripts[-1]
    assert "#SBATCH --array=0-0%3\n" in last
    assert "#SBATCH --partition=gpu\n" in last
    assert 'SLURM_ARRAY_TASK_ID + 5))/5"' in last
    assert shlex.quote(str(reports)) in last
    assert (tmp_path / "w" / "slurm").is_dir()
    assert run(*ended.out.rpartition("wsisurv ")[2].split()).code == 0  # the command that it names
    assert not (tmp_path / "w" / "reports").exists()


def test_what_can_never_run_is_told_before_anything_is_sent(run, reports, tmp_path, fake, monkeypatch):
    sent = fake("sbatch", "echo no such partition >&2; exit 1")
    where = ["extract-report", reports, "-w", tmp_path / "w"]
    for words, said in {
        ("distill",): "distill",
        (*where, "--shard", "1/2"): "--shard",
        (*where, "--no-such-option"): "--no-such-option",
        ("extract-report",): "REPORTS",
    }.items():
        ended = run("submit", *words)
        assert ended.code == 2
        assert said.lower() in ended.err.lower()
    assert "no such workspace" in run("submit", "embed", "-w", tmp_path / "nowhere").err
    (tmp_path / "none").mkdir()
    assert run("submit", "extract-report", tmp_path / "none", "-w", tmp_path / "w").code == 1
    assert "option of sbatch" in " ".join(run("submit", "--sbatch=--array=1-3", *where).err.split())
    assert not sent.exists()
    assert "no such partition" in run("submit", *where).err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch: not on this machine" in " ".join(run("submit", *where).err.split())


def test_an_array_that_is_refused_after_another_was_sent_tells_of_that(run, reports, tmp_path, fake):
    fake("scontrol", "echo 'MaxArraySize            = 2'")
    once = tmp_path / "once"
    fake("sbatch", f"[ ! -e {once} ] || {{ echo QOSMaxSubmitJobPerUserLimit >&2; exit 1; }}\n>{once}; echo 41")
    ended = run("submit", "--each", 9, "extract-report", reports, "-w", tmp_path / "w")
    assert ended.code == 1
    assert "QOSMaxSubmit" in ended.err
    assert "Job 41 was sent before" in " ".join(ended.err.split())


def test_files_folds_and_cases_are_looked_at_before_anything_is_sent(run, trained, tmp_path, fake):
    place = Workspace(shutil.copytree(trained / "workspace", tmp_path / "w", copy_function=os.link))
    sent = fake("sbatch", "echo 7")
    known = [str(case.case_id) for case in read_cohort(place.cohort("demo"))[0].cases]
    splits, strange = tmp_path / "splits.jsonl", tmp_path / "strange.jsonl"
    folds = [Fold(repeat=0, fold=number, train=tuple(known[3:]), test=(known[number],)) for number in range(3)]
    write_splits(splits, folds)
    write_splits(strange, [fold.model_copy(update={"test": ("nobody",)}) for fold in folds])
    (tmp_path / "map.csv").write_text("slide,case\na,b\n")
    gone = tmp_path / "gone.csv"
    for words, said in (
        (("crossval", "--splits", gone), "gone.csv: no such file or folder (--splits)"),
        (("crossval", "--splits", strange), "fold 1-1 has"),
        (("ablate", "--splits", strange), "fold 1-1 has"),
        (("heatmap", known[0], "nobody"), "no case 'nobody'"),
        (("heatmap", known[0], "--finding", "no such"), "findings.h5"),
        (("predict", "--student", gone), "gone.csv"),
        (("predict", "--student", place.cohort("demo") / "student.h5", "--slide-map", tmp_path / "map.csv"), "map.csv"),
        (("tile", trained / "data" / "slides", "--mpp-table", gone), "gone.csv"),
    ):
        ended = run("submit", *words, "-w", place.root)
        assert ended.code in (1, 2), words
        assert said in " ".join(ended.err.replace("│", " ").split()), (words, ended.err)
    assert not sent.exists()
    for words, tasks in (
        (("crossval", "--splits", splits), 3),
        (("crossval", "--folds", "4", "--repeats", "2"), 8),
        (("--each", "1", "heatmap", *known[:2]), 2),
    ):
        assert f'/{tasks}")' in run("submit", "--dry-run", *words, "-w", place.root).out, words


@pytest.mark.parametrize("value", ["two words", 'a "b"', "it's", "back\\slash", "a#b", "", "x  y"])
def test_values_of_sbatch_stand_quoted_in_the_script(tmp_path, value):
    (array,) = arrays("tile", ["x"], 2, logs=tmp_path, options=[f"--comment={value}"])
    (line,) = (one for one in array.script.splitlines() if "--comment" in one)
    assert shlex.split(line.removeprefix("#SBATCH ")) == [f"--comment={value}"]
    plain = next(arrays("tile", ["x"], 2, logs=tmp_path, options=["--time=1-02:00:00", "-p", "--mail=a@b.c"]))
    assert "#SBATCH --time=1-02:00:00\n#SBATCH -p\n#SBATCH --mail=a@b.c\n" in plain.script


def test_options_that_break_out_of_their_line_and_a_slurm_without_arrays_are_refused(tmp_path, fake):
    with pytest.raises(SettingsError, match="option of sbatch"):
        list(arrays("tile", ["x"], 2, logs=tmp_path, options=["--time=1\ntouch x"]))
    fake("scontrol", "echo 'MaxArraySize = 0'")
    with pytest.raises(BackendError, match="takes no job arrays"):
        slurm.max_array_size()
    fake("scontrol", "exit 1")
    assert slurm.max_array_size() == 1001


@pytest.mark.parametrize(
    ("command", "told", "code", "again"),
    [
        ("exit 0", None, 0, False),
        ("exit 1", None, 1, False),
        ("exit 3", None, 3, True),  # another process was at a slide
        ("trap 'exit 130' TERM; echo begun; sleep 60 & wait", signal.SIGUSR1, 130, True),  # time is up
        ("trap 'exit 130' TERM; echo begun; sleep 60 & wait", signal.SIGTERM, 130, False),  # cancelled, pre-empted
        ("trap 'sleep 1; exit 0' TERM; echo begun; sleep 60 & wait", signal.SIGUSR1, 0, False),  # was just through
    ],
)
@pytest.mark.parametrize("restarts", ["", "3"])
def test_the_script_ends_as_its_command_and_asks_to_be_begun_again(
    command, told, code, again, restarts, tmp_path, fake, monkeypatch
):
    requeued = fake("scontrol", "")
    work = fake("work", command)
    for name, value in {"SLURM_ARRAY_TASK_ID": "4", "SLURM_JOB_ID": "99", "SLURM_RESTART_COUNT": restarts}.items():
        monkeypatch.setenv(name, value)
    (array,) = arrays("tile", ["work", "a b"], 8, logs=tmp_path)
    requeued.unlink()  # the size of arrays was asked
    with subprocess.Popen(["bash", "-c", array.script], stdout=subprocess.PIPE, text=True) as running:
        if told:
            assert running.stdout is not None
            assert running.stdout.readline() == "begun\n"
            time.sleep(0.1)
            running.send_signal(told)
    assert running.returncode == code
    assert work.read_text() == "a b --shard 5/8\n"
    assert requeued.exists() == (again and not restarts)
    if again and not restarts:
        assert requeued.read_text() == "requeue 99\n"


@pytest.mark.parametrize("limit", ["--time=2", "-t1", "-t=1:59", "--time=0:2:0", "--time=0-0:2"])
def test_less_time_than_a_task_is_warned_before_is_refused(tmp_path, limit):
    with pytest.raises(SettingsError, match="stopped 120 s before"):
        list(arrays("tile", ["true"], 3, logs=tmp_path, options=[limit]))


@pytest.mark.parametrize("limit", ["--time=3", "-t=2:01", "--time=1:0:0", "--time=1-0", "--time=0-0:3", "--time=5:0"])
def test_more_time_is_taken(tmp_path, limit):
    (array,) = arrays("tile", ["true"], 3, logs=tmp_path, options=[limit])
    assert limit in array.script
