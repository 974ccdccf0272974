"""Interrupted training goes on where it was, and ends with the files of a training that nothing disturbed."""

import json
from contextlib import suppress

import pytest
import torch

from wsisurv.formats.header import make_header
from wsisurv.settings.training import DistillSettings
from wsisurv.training import tuning
from wsisurv.training.checkpoints import FORMAT, Checkpoints, FitState
from wsisurv.training.distill import distill
from wsisurv.training.loop import Log, minimise, seeded
from wsisurv.training.teacher import train_teacher

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


class Stopped(Exception):
    """What a progress raises in place of a kill."""


def stop_at(epoch):
    """A progress that counts epochs and stops the process's work after so many."""
    seen = []

    def progress(_done, _total, what):
        seen.append(what)
        if len(seen) == epoch:
            raise Stopped

    return progress, seen


def fit(folder, progress, checkpoints, epochs=12, device="cpu"):
    """A small net with dropout, whose loss also draws from a generator of its own."""
    log = Log(folder / "history.jsonl", "fit", progress, checkpoints, total=epochs)
    with seeded(3, torch.device(device)) as generator:
        net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)).to(device)
        data = torch.randn(20, 6, device=device)

        def loss():
            rows = torch.randperm(20, generator=generator)[:11]
            return (net(data[rows]).squeeze(1) - data[rows, 0]).square().mean()

        settings = DistillSettings(epochs=epochs, learning_rate=0.05, weight_decay=1e-3)
        minimise(net, loss, settings, part="a fit", log=log, generator=generator)
    return net.state_dict()


def checkpoints_in(folder, settings=None, every_s=0.0):
    return Checkpoints(folder / "checkpoints", make_header(FORMAT, settings or {"a": 1}, {}), every_s)


def assert_equal(one, other):
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("epoch", [1, 5, 12])
def test_a_fit_goes_on_from_the_epoch_it_was_stopped_after(tmp_path, epoch, device):
    undisturbed = fit(tmp_path / "whole", lambda *_: None, None, device=device)
    progress, _ = stop_at(epoch)
    with pytest.raises(Stopped):
        fit(tmp_path, progress, checkpoints_in(tmp_path), device=device)
    progress, seen = stop_at(1000)
    assert_equal(fit(tmp_path, progress, checkpoints_in(tmp_path), device=device), undisturbed)
    assert len(seen) == 12 - epoch
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    resumed = {"step": "fit", "part": "a fit", "resumed_after_epoch": epoch}
    assert any(resumed.items() <= line.items() for line in history)


@pytest.mark.parametrize("why", ["other settings", "damaged"])
def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(tmp_path, why):
    undisturbed = fit(tmp_path / "whole", lambda *_: None, None)
    progress, _ = stop_at(5)
    with pytest.raises(Stopped):
        fit(tmp_path, progress, checkpoints_in(tmp_path, {"a": 2} if why == "other settings" else None))
    (written,) = (tmp_path / "checkpoints").iterdir()
    if why == "damaged":
        written.write_bytes(written.read_bytes()[:1000])
    progress, seen = stop_at(1000)
    assert_equal(fit(tmp_path, progress, checkpoints_in(tmp_path)), undisturbed)
    assert len(seen) == 12


def test_finished_fits_wait_until_it_is_time_to_write(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("wsisurv.training.checkpoints.time.monotonic", lambda: now[0])
    checkpoints = checkpoints_in(tmp_path, every_s=10)
    checkpoints.keep("first, reports", FitState(7, {}))
    assert not (tmp_path / "checkpoints").exists()
    now[0] += 11
    checkpoints.keep("second", FitState(2, {}))
    assert checkpoints.find("first, reports").epoch == 7
    assert checkpoints.find("second").epoch == 2
    assert checkpoints.find("third") is None
    checkpoints.remove()
    assert not (tmp_path / "checkpoints").exists()


TUNED = {name: DistillSettings.model_fields[name].default for name in tuning._LONG}
MANY = {"aggregator": "selfattention", "loss": "discrete", "filter": "soft", "ema": True, "merge_duplicates": True}


@pytest.mark.parametrize(
    ("share", "teacher", "switches"),
    [(0.3, "late", {}), (0.8, "late", TUNED), (0.6, "cross-attention", MANY)],
)
def test_both_steps_stopped_and_run_again_give_the_files_of_an_undisturbed_run(
    make_trial, teacher_settings, distill_settings, share, teacher, switches, monkeypatch
):
    """Every epoch is done once and only once, whichever fit of the run was stopped."""
    monkeypatch.setattr(tuning, "_LONG", {**tuning._LONG, "epochs": 30})
    teacher_settings = teacher_settings.model_copy(update={"teacher": teacher})
    distill_settings = distill_settings.model_copy(update=switches)
    whole, stopped = make_trial(24, folder="whole"), make_trial(24, folder="stopped")
    for step, settings in ((train_teacher, teacher_settings), (distill, distill_settings)):
        progress, all_epochs = stop_at(10**6)
        step(whole.workspace, whole.cohort, settings, progress=progress)
        progress, before = stop_at(int(share * len(all_epochs)))
        with pytest.raises(Stopped):
            step(stopped.workspace, stopped.cohort, settings, progress=progress, checkpoint_s=0)
        assert list(stopped.path(".training").rglob("*.h5"))
        progress, after = stop_at(10**6)
        step(stopped.workspace, stopped.cohort, settings, progress=progress, checkpoint_s=0)
        assert before + after == all_epochs
        assert not stopped.path(".training").exists()
    for name in ("teacher.h5", "guidance.h5", "student.h5", "student_distilled.h5", "student_plain.h5"):
        assert whole.path(name).read_bytes() == stopped.path(name).read_bytes(), name


def test_students_along_directions_go_on_to_the_same_file(make_trial, teacher_settings, distill_settings):
    """One run, stopped twice: in the pre-training of a student, and when all are trained on."""
    whole, stopped = (
        make_trial(150, folder=folder, clear=True, taught=teacher_settings) for folder in ("whole", "stopped")
    )
    progress, all_epochs = stop_at(10**6)
    assert distill(whole.workspace, whole.cohort, distill_settings, progress=progress).directions
    seen = []
    # 4 epochs of plain students, 3 of pre-training of each along directions, and theirs
    for epoch, part in (9, "distilled students, 2 of 3, reports"), (15, "distilled students"):
        progress, before = stop_at(epoch - len(seen))
        with pytest.raises(Stopped):
            distill(stopped.workspace, stopped.cohort, distill_settings, progress=progress, checkpoint_s=0)
        assert before[-1] == part
        seen += before
    progress, after = stop_at(10**6)
    distill(stopped.workspace, stopped.cohort, distill_settings, progress=progress)
    assert seen + after == all_epochs
    assert whole.path("student_distilled.h5").read_bytes() == stopped.path("student_distilled.h5").read_bytes()


@pytest.mark.parametrize("every_s", [0.0, 1000.0])
def test_a_history_has_no_line_twice_after_kills(tmp_path, every_s):
    for epoch in (3, 7, 9, 1000):
        progress, _ = stop_at(epoch)
        with suppress(Stopped):
            fit(tmp_path, progress, checkpoints_in(tmp_path, every_s=every_s))
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    epochs = [line["epoch"] for line in lines if "epoch" in line]
    fit(tmp_path / "whole", lambda *_: None, checkpoints_in(tmp_path / "whole"))
    whole = [json.loads(line) for line in (tmp_path / "whole" / "history.jsonl").read_text().splitlines()]
    assert epochs == sorted(set(epochs))
    assert set(epochs) <= {line["epoch"] for line in whole}
    assert epochs[-1] == 12


def test_another_run_has_a_history_of_its_own(tmp_path):
    for settings in ({"a": 1}, {"a": 2}):
        fit(tmp_path, lambda *_: None, checkpoints_in(tmp_path, settings))
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len({line["run"] for line in lines}) == 2
    assert [line["epoch"] for line in lines[: len(lines) // 2]] == [line["epoch"] for line in lines[len(lines) // 2 :]]
