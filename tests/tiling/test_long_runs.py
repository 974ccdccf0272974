"""Many slides: threads, shards, two runs at once, and runs killed at any moment."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsisurv.errors import SettingsError
from wsisurv.settings import TileSettings
from wsisurv.tiling.step import Shard, parse_shard, tile
from wsisurv.workspace import Workspace, read_failures

MakeSlide = Callable[..., Path]
SLIDES = 12

RUN = """
import sys
from pathlib import Path
from wsisurv.settings import TileSettings
from wsisurv.tiling.step import tile
from wsisurv.workspace import Workspace
print("ready", flush=True)
tile(Workspace(Path(sys.argv[1])), [Path(sys.argv[2])], TileSettings(), workers=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def slides(make_slide: MakeSlide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(SLIDES):
        make_slide(folder / f"S-{number:02}.tiff", (900 + 16 * number, 800), seed=number)
    return folder


@pytest.fixture(scope="module")
def undisturbed(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("undisturbed")
    tile(Workspace(root), [slides], TileSettings())
    return made(root)


def made(root: Path) -> dict[str, bytes]:
    """Every file of a workspace but its locks, byte for byte."""
    files = (path for path in root.rglob("*") if path.is_file() and ".claims" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def start(root: Path, slides: Path, workers: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(root), str(slides), str(workers)], stdout=subprocess.PIPE, text=True
    )


def test_threads_make_the_same_files_and_report_in_order(
    slides: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for path in slides.iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    (tmp_path / "in" / "A-bad.svs").write_text("not a slide")
    (tmp_path / "in" / "S-05-bad.svs").write_text("not a slide")
    seen: list[tuple[int, int]] = []
    summary = tile(
        Workspace(tmp_path / "w"), [tmp_path / "in"], TileSettings(), workers=3,
        progress=lambda done, total, _what: seen.append((done, total)),
    )  # fmt: skip
    assert summary.done == [f"S-{number:02}" for number in range(SLIDES)]
    assert [failure.id for failure in summary.failed] == ["A-bad", "S-05-bad"]
    assert {failure.id for failure in read_failures(Workspace(tmp_path / "w"), "tile")} == {"A-bad", "S-05-bad"}
    assert seen == [(number, SLIDES + 2) for number in range(SLIDES + 3)]
    for number in range(SLIDES):
        name = f"preview/S-{number:02}.jpg"
        assert made(tmp_path / "w")[name] == undisturbed[name]


def test_shards_share_the_slides_and_together_do_all(
    slides: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    done: list[str] = []
    for number in range(1, 6):
        done += tile(Workspace(tmp_path), [slides], TileSettings(), shard=Shard(number, 5)).done
    assert sorted(done) == [f"S-{number:02}" for number in range(SLIDES)]
    assert made(tmp_path).keys() == undisturbed.keys()
    assert tile(Workspace(tmp_path), [slides], TileSettings(), shard=Shard(20, 20)).done == []


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "a/b", "3/8/1", "-1/8", "1/0"])
def test_a_shard_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="3/8"):
        parse_shard(text)
    assert parse_shard("3/8") == Shard(3, 8)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_then_rerun_is_as_if_undisturbed(slides: Path, tmp_path: Path) -> None:
    """Two runs on one workspace, one of them in threads, killed at random ten times; then one that ends."""
    root = tmp_path / "workspace"
    tile(Workspace(root), [slides], TileSettings())
    undisturbed = made(root)
    shutil.rmtree(root)
    dice = random.Random(0)
    for _ in range(10):
        both = [start(root, slides, workers) for workers in (1, 2)]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            time.sleep(dice.uniform(0, 0.1))
            process.kill()
        for process in both:
            process.communicate()
    assert tile(Workspace(root), [slides], TileSettings()).failed == []
    assert made(root) == undisturbed


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_in_threads_finishes_what_is_in_hand_and_starts_nothing_new(
    make_slide: MakeSlide, tmp_path: Path
) -> None:
    for number in range(16):
        make_slide(tmp_path / "in" / f"S-{number:02}.tiff", np.full((1200, 1200, 3), (200, 120, 170), np.uint8))
    process = start(tmp_path / "w", tmp_path / "in", workers=2)
    first = tmp_path / "w" / "tiles"
    while process.poll() is None and not list(first.glob("*.h5")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert 0 < len(list(first.glob("*.h5"))) < 16
    assert not [path for path in (tmp_path / "w").rglob("*.partial")]
    assert len(tile(Workspace(tmp_path / "w"), [tmp_path / "in"], TileSettings()).done) > 0
    assert len(list(first.glob("*.h5"))) == 16
