"""`wsisurv status`: what is done, stale, missing, failed, running, and the next command."""

import json
import os
import shutil
import socket
from dataclasses import replace

import pytest

from wsisurv.errors import StorageError
from wsisurv.formats.features import read_features, write_features
from wsisurv.pipeline.status import status
from wsisurv.workspace.claims import ItemClaim
from wsisurv.workspace.index import FILE
from wsisurv.workspace.ledger import make_failure, record_failure
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def place(tmp_path, make_slide, run) -> Workspace:
    """Two slides, tiled."""
    for name, size in (("a", (900, 700)), ("b", (800, 700))):
        make_slide(tmp_path / "slides" / f"{name}.tiff", size)
    assert run("tile", tmp_path / "slides", "-w", tmp_path / "ws").code == 0
    return Workspace(tmp_path / "ws")


def step(place, name):
    return next(one for one in status(place).steps if one.step == name)


def test_what_is_not_embedded_yet_is_missing_and_embed_comes_next(run, place):
    assert (step(place, "tile").done, step(place, "embed").missing) == (2, 2)
    assert status(place).next_command == "wsisurv embed"
    run("embed", "-w", place.root)
    assert (step(place, "embed histomics").done, step(place, "embed histomics").missing) == (2, 0)
    place.features("histomics", "b").unlink()
    assert (step(place, "embed histomics").done, step(place, "embed histomics").missing) == (1, 1)
    assert status(place).next_command == "wsisurv embed --encoder histomics"


def test_features_of_tiles_that_were_made_anew_are_stale_and_the_command_that_is_named_mends_it(run, place):
    run("embed", "-w", place.root)
    run("tile", place.root.parent / "slides", "-w", place.root, "--overlap-px", "16", "--redo")
    assert step(place, "embed histomics").stale == {"tiles made anew since": 2}
    command = status(place).next_command.removeprefix("wsisurv ").split()
    assert command[0] == "embed"
    assert run(*command, "-w", place.root).code == 0
    assert not step(place, "embed histomics").stale


def test_an_item_of_other_settings_than_most_names_the_setting(run, place, make_slide, tmp_path):
    make_slide(tmp_path / "more" / "c.tiff", (900, 700), seed=3)
    run("tile", tmp_path / "more", "-w", place.root, "--overlap-px", "16")
    (why,) = step(place, "tile").stale
    assert "overlap_px: 16 → 0" in why
    assert status(place).next_command.endswith("--redo")


def test_a_failure_is_counted_by_its_kind_until_the_item_is_done(place):
    for slide_id in ("c", "d", "d"):
        record_failure(place, "tile", make_failure(slide_id, place.root / slide_id, ValueError("no"), ""))
    assert step(place, "tile").failed == {"ValueError": 2}


def test_failures_are_told_by_cause_and_are_of_their_encoder_and_do_not_hold_up_what_comes_next(place, run, tmp_path):
    run("embed", "-w", place.root)
    for slide_id in "ab":
        (tmp_path / "slides" / f"{slide_id}.tiff").rename(tmp_path / f"{slide_id}.tiff")
        place.features("histomics", slide_id).unlink()
    os.link(tmp_path / "a.tiff", tmp_path / "slides" / "a.tiff")
    assert run("embed", "-w", place.root).code == 1
    seen = step(place, "embed histomics")
    assert (seen.done, seen.missing, seen.failed) == (1, 0, {"SlideError": 1})
    ((cause, n),) = seen.causes.items()
    assert (cause.startswith("the slide is no longer there"), n) == (True, 1)
    assert cause in " ".join(run("status", place.root).err.split())
    assert status(place).next_command.startswith("wsisurv extract-report")
    features, header = read_features(place.features("histomics", "a"))
    write_features(place.features("other", "a"), features, replace(header, settings={"encoder": "other"}))
    assert (step(place, "embed other").missing, step(place, "embed other").failed) == (1, {})


def test_a_file_that_cannot_be_read_is_named(place, run):
    place.tiles("a").write_bytes(b"nothing")
    assert step(place, "tile").done == 1
    ended = run("status", place.root)
    assert ended.code == 0
    assert str(place.tiles("a")) in ended.err


def test_the_index_is_a_help_only(place):
    whole = status(place)
    assert (place.root / FILE).exists()
    assert status(place) == whole
    (place.root / FILE).write_bytes(b"no index at all")
    assert status(place) == whole
    (place.root / FILE).unlink()
    (place.root / FILE).mkdir()  # nothing can be written there
    assert status(place) == whole


def test_a_file_that_was_replaced_is_opened_again(place):
    assert step(place, "tile").done == 2
    shutil.copy(place.tiles("b"), place.tiles("b").with_suffix(".new"))
    with place.tiles("b").with_suffix(".new").open("ab") as file:
        file.truncate(900)
    os.replace(place.tiles("b").with_suffix(".new"), place.tiles("b"))
    assert step(place, "tile").done == 1


def test_who_is_at_a_step_is_told(place, run, monkeypatch):
    def refuse(*_args, **_named):
        raise StorageError("of another user")

    assert not status(place).running
    with place.claim_settings("embed/histomics", {"encoder": "histomics"}):
        (one,) = status(place).running
        assert (one.what, one.here) == ("embed/histomics", True)
        assert one.where == f"{socket.gethostname()}, process {os.getpid()}"
    with place.claim_alone("distill", "crc", "distilling", {"epochs": 1}):
        (one,) = status(place).running
        assert one.what == "distill crc"
        assert "running: distill crc" in run("status", place.root).out
        monkeypatch.setattr(ItemClaim, "take", refuse)
        assert [one.what for one in status(place).running] == ["distill crc"]
    assert not status(place).running  # asked without writing, and what distill said is still there


def test_a_run_that_was_killed_on_another_machine_runs_no_more(place):
    claims = place.root / ".claims" / "tile.settings"
    for end in ("json", "lock"):
        (claims / f"0badcafe-1-00000000.{end}").write_text("{}")
    assert not status(place).running


def test_the_parts_of_a_cohort_lead_to_the_next(trained, tmp_path, run):
    place = Workspace(tmp_path / "ws")
    shutil.copytree(trained / "workspace", place.root, copy_function=os.link)
    (cohort,) = status(place).cohorts
    assert cohort.cases > 0
    assert (cohort.parts["train-teacher"], cohort.parts["distill"], cohort.parts["crossval"]) == (
        "done",
        "done",
        "missing",
    )
    assert cohort.next_command == f"wsisurv crossval --cohort {cohort.name}"
    folder = place.cohort(cohort.name)
    (folder / "student.h5").unlink()
    assert status(place).next_command == f"wsisurv distill --cohort {cohort.name}"
    slide_id = place.embedded_slides("histomics")[0]
    run("tile", trained / "data" / "slides", "-w", place.root, "--tile-mpp", "2", "--no-preview", "--redo")
    assert status(place).next_command == "wsisurv embed --encoder histomics --redo"
    place.features("histomics", slide_id).unlink()
    assert run("embed", "-w", place.root, "--redo").code == 0
    assert status(place).cohorts[0].parts["train-teacher"] == "stale: features made anew since"


def test_the_command_prints_json_and_names_a_workspace_that_is_not_there(run, place, tmp_path):
    seen = json.loads(run("status", place.root, "--json").out)
    assert seen["steps"][0]["step"] == "tile"
    assert seen["next_command"] == "wsisurv embed"
    ended = run("status", tmp_path / "nowhere")
    assert ended.code == 1
    assert "nowhere: no such workspace" in ended.err


def test_an_empty_workspace_is_told_to_begin_with_tiles(run, tmp_path):
    (tmp_path / "ws").mkdir()
    assert "next: wsisurv check SLIDES" in run("status", tmp_path / "ws").out


def test_what_can_not_be_read_or_failed_is_never_all_done(trained, tmp_path, run):
    place = Workspace(tmp_path / "ws")
    shutil.copytree(trained / "workspace", place.root, copy_function=os.link)
    folder = place.cohort(place.the_cohort(None))
    (folder / "audit.json").unlink()
    (folder / "audit.json").write_text("[]")
    assert status(place).next_command == f"wsisurv cohort {folder.name} --clinical FILE --redo"
    place.statements.unlink()
    place.statements.write_text("[]\n")
    assert status(place).next_command == "wsisurv extract-report REPORTS --redo"
    shutil.rmtree(place.root / "cohorts")
    (folder / "evaluation").mkdir(parents=True)
    place.statements.unlink()
    record_failure(place, "tile", make_failure("z", place.root / "z", ValueError("no"), ""))
    assert "all is done" not in run("status", place.root).out
