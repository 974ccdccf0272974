"""Several devices: a process each, here on the CPU, where the same slide gives the same features."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import numpy as np
import pytest

from wsisurv.embedding.step import embed
from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import Tiles
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

AddSlide = Callable[..., Tiles]
HISTOMICS = EmbedSettings()
IDS = ["a", "b", "c", "d", "e"]


def children() -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child.name == "cpu"]


def test_two_processes_share_the_slides_and_say_together_what_became_of_them(
    workspace: Workspace, add_slide: AddSlide
) -> None:
    for slide_id in IDS:
        add_slide(slide_id, 0 if slide_id == "e" else 5)
    embed(workspace, HISTOMICS, slide_ids=["a"])
    torn = add_slide("torn")
    torn.slide_path.write_bytes(torn.slide_path.read_bytes()[:2000])
    with workspace.claim("embed", "b"):
        summary = embed(workspace, HISTOMICS, device="cpu,cpu")
    assert (summary.done, summary.kept, summary.elsewhere) == (["c", "d", "e"], ["a"], ["b"])
    assert [failure.id for failure in summary.failed] == ["torn"]
    assert [failure.id for failure in read_failures(workspace, "embed")] == ["torn"]
    assert summary.notes == ["e: no tiles, so no features"]
    several, _ = read_features(workspace.features("histomics", "c"))
    workspace.features("histomics", "c").unlink()
    embed(workspace, HISTOMICS, slide_ids=["c"])
    assert np.array_equal(several.values, read_features(workspace.features("histomics", "c"))[0].values)
    assert children() == []


def test_an_interrupt_ends_all_processes_and_the_same_command_goes_on(
    workspace: Workspace, add_slide: AddSlide
) -> None:
    for slide_id in IDS:
        add_slide(slide_id)
    told: list[str] = []

    def press(done: int, total: int, what: str) -> None:
        assert (done, total) <= (5, 5)
        told.append(what)
        if what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(workspace, HISTOMICS, device="cpu,cpu", batch_size=1, progress=press)
    assert len(told) == 2
    assert children() == []
    assert list((workspace.root / "features").rglob(".*")) == []
    summary = embed(workspace, HISTOMICS)
    assert sorted([*summary.done, *summary.kept]) == IDS


def test_processes_that_are_killed_leave_failures_that_the_same_command_mends(
    workspace: Workspace, add_slide: AddSlide
) -> None:
    """Opening the last slide never ends, so no process can be done before it is killed."""
    for slide_id in IDS:
        path = add_slide(slide_id).slide_path
    whole = path.read_bytes()
    path.unlink()
    os.mkfifo(path)

    def kill(done: int, total: int, what: str) -> None:
        del done, total
        if what:
            for child in children():
                os.kill(child.pid or 0, signal.SIGKILL)

    summary = embed(workspace, HISTOMICS, device="cpu,cpu", batch_size=1, progress=kill)
    assert sorted([*summary.done, *(failure.id for failure in summary.failed)]) == IDS
    assert "died" in {failure.id: failure for failure in summary.failed}["e"].message
    path.unlink()
    path.write_bytes(whole)
    again = embed(workspace, HISTOMICS)
    assert sorted([*again.done, *again.kept]) == IDS
    assert read_failures(workspace, "embed") == []
    assert list((workspace.root / "features").rglob(".*")) == []
