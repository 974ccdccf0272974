"""DICOM slides as a PACS gives them: files without ending, many in a folder, other series named in a file."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from dicom_writer import write_level
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid

from wsisurv.errors import DuplicateSlideError
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides import dicom
from wsisurv.slides.facts import read_facts
from wsisurv.slides.find import find_slides, slide_fingerprint
from wsisurv.slides.reader import Slide
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.check import check_slides


def write_series(
    paths: Sequence[Path],
    seed: int = 0,
    size: tuple[int, int] = (600, 400),
    steps: Sequence[int] = (1, 2, 4),
    **options: Any,
) -> NDArray[np.uint8]:
    """Write a slide of several files; returns what level 0 shows."""
    rng, series = np.random.default_rng(seed), generate_uid()
    small = rng.integers(60, 240, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    for path, step in zip(paths, steps, strict=True):
        level = np.asarray(Image.fromarray(image).resize((size[0] // step, size[1] // step), Image.Resampling.BOX))
        write_level(path, level, series, 0.25 * step, first=step == 1, **options)
    return image


@pytest.mark.parametrize("names", [("IM0", "IM1", "IM2"), ("1.2.8", "1.2.9", "1.2.10"), ("a.dcm", "b.dcm", "c.DCM")])
def test_a_slide_is_one_whatever_its_files_are_called_and_whichever_is_named(
    tmp_path: Path, names: Sequence[str]
) -> None:
    folder = tmp_path / "P7"
    image = write_series([folder / name for name in names])
    (folder / "notes").write_text("no DICOM")
    first = sorted(folder / name for name in names)[0]
    assert find_slides([folder]) == find_slides(sorted(folder.iterdir())[:-1]) == {"P7": first}
    prints = {slide_fingerprint(path) for path in dicom.instances(folder / names[1])[:1]}
    for name in names:
        assert find_slides([folder / name]) == {"P7": first}
        with Slide(folder / name) as slide:
            assert slide.level_downsamples == (1, 2, 4)
            assert np.abs(slide.pixels(0, 0, 0, 600, 400).astype(int) - image).mean() < 4
    assert prints == {slide_fingerprint(first)}


def test_numbers_behind_a_dot_are_no_ending(tmp_path: Path) -> None:
    """Two slides of one file each: 1.2.3 is not called 1.2, as 1.2.4 would be too."""
    for number in (3, 4):
        write_series([tmp_path / f"1.2.{number}"], number, steps=(1,))
    assert list(find_slides([tmp_path])) == ["1.2.3", "1.2.4"]


def test_one_series_in_two_folders_is_refused(tmp_path: Path) -> None:
    """A copy would be a second slide of its case, and a slide in two halves two slides."""
    for folder in "ab":
        (tmp_path / folder).mkdir()
    write_series([tmp_path / "a" / "0.dcm", tmp_path / "a" / "1.dcm"], 7, steps=(1, 2))
    (tmp_path / "b" / "1.dcm").write_bytes((tmp_path / "a" / "1.dcm").read_bytes())
    with pytest.raises(DuplicateSlideError, match=r"one DICOM series in two folders: \S*a/0.dcm and \S*b/1.dcm"):
        find_slides([tmp_path])
    assert list(find_slides([tmp_path / "a"])) == ["a"]


def test_another_series_that_a_file_names_is_not_its_own(tmp_path: Path) -> None:
    """Two slides that both refer to one third series, in an element that comes before their own."""
    for number in range(2):
        write_series([tmp_path / f"{number}{part}.dcm" for part in "abc"], number, refers_to="1.2.99")
    assert list(find_slides([tmp_path])) == ["0a", "1a"]
    assert dicom.instances(tmp_path / "1c.dcm") == [tmp_path / f"1{part}.dcm" for part in "abc"]


def test_a_slide_among_others_is_opened_without_a_look_at_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSlide is given a folder of this slide's files alone, which is gone when the slide is closed."""
    images = [write_series([tmp_path / f"{number}{part}" for part in "abc"], number) for number in range(3)]
    seen: list[list[str]] = []
    folders: list[Path] = []
    opening = openslide.OpenSlide.__init__

    def watch(self: Any, path: Path) -> None:
        seen.append(sorted(os.listdir(path.parent)))
        folders.append(path.parent)
        opening(self, path)

    monkeypatch.setattr(openslide.OpenSlide, "__init__", watch)
    for number, image in enumerate(images):
        with Slide(tmp_path / f"{number}b") as slide:
            assert [slide.pixels(level, 0, 0, 9, 9).shape for level in range(3)] == [(9, 9, 3)] * 3
            assert np.abs(slide.pixels(0, 0, 0, 600, 400).astype(int) - image).mean() < 4
    assert seen == [["0a", "0b", "0c"], ["1a", "1b", "1c"], ["2a", "2b", "2c"]]
    assert not any(folder.exists() for folder in folders)


def test_each_file_of_a_folder_is_read_a_few_times_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    reading = dicom._read
    for number in range(12):
        write_series([tmp_path / f"{number:02d}{part}" for part in "abc"], size=(128, 128))
    monkeypatch.setattr(dicom, "_read", lambda path, *rest: read.append(path) or reading(path, *rest))  # type: ignore[func-returns-value]
    slides = find_slides([tmp_path])
    for path in slides.values():
        slide_fingerprint(path)
    assert len(slides) == 12
    assert max(map(read.count, set(read))) <= 6


def test_a_file_that_comes_or_changes_is_seen(tmp_path: Path) -> None:
    write_series([tmp_path / f"0{part}" for part in "abc"])
    assert list(find_slides([tmp_path])) == [tmp_path.name]
    time.sleep(0.02)  # as the clock of a file system goes
    write_series([tmp_path / "1a"], 1, steps=(1,))
    assert list(find_slides([tmp_path])) == ["0a", "1a"]
    write_series([tmp_path / "0b"], 2, steps=(1,))  # another series in the place of a file
    assert dicom.instances(tmp_path / "0b") == [tmp_path / "0b"]


def test_a_filled_up_level_has_the_factor_of_its_spacing(tmp_path: Path) -> None:
    """2.5, which no whole number tells; and the file's word is taken where pixels say the same, or nothing."""
    rng, series, factor = np.random.default_rng(0), generate_uid(), 2.5
    small = rng.integers(60, 240, (60, 90, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((1100, 900), Image.Resampling.BICUBIC))
    level = np.asarray(Image.fromarray(image).resize((440, 360), Image.Resampling.BOX))
    level = np.pad(level, ((0, 24), (0, 72), (0, 0)), constant_values=243)
    write_level(tmp_path / "a", image, series, 0.25, first=True)
    write_level(tmp_path / "b", level, series, 0.25 * factor, first=False)
    with Slide(tmp_path / "a") as slide:
        assert slide.level_downsamples == (1, pytest.approx(2.5))
        assert slide.level_sizes[1] == (440, 360)


def test_what_is_no_slide_of_dicom_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\x04\x00\x00\x00")
    write_series([tmp_path / "S"], steps=(1,))
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID = generate_uid()
    report.SeriesInstanceUID = generate_uid()
    report.save_as(tmp_path / "report", enforce_file_format=True)
    assert find_slides([tmp_path]) == {"S": tmp_path / "S"}


def _write_short(folder: Path, short: dict[int, range], image: NDArray[np.uint8]) -> Path:
    """A slide of three levels as some converters write it: edge frames of a level end where the picture does."""
    series = generate_uid()
    for number in range(3):
        step = 2**number
        size = image.shape[1] // step, image.shape[0] // step
        level = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
        write_level(folder / f"{number}.dcm", level, series, 0.25 * step, first=number == 0, short=short.get(number))
    return folder / "0.dcm"


@pytest.mark.parametrize(("number", "left"), [(1, (1, 4)), (2, (1, 2)), (0, (1, 2, 4))])
def test_a_level_whose_edge_frames_are_short_is_left_out_and_the_cause_is_named(
    tmp_path: Path, draw_tissue: Callable[..., NDArray[np.uint8]], number: int, left: tuple[int, ...]
) -> None:
    image = draw_tissue(600, 400)
    with Slide(_write_short(tmp_path / "a", {number: range(100)}, image)) as slide:
        assert slide.level_downsamples == left
        what = "is left out" if number else "is used without its edges"
        assert f"level {number} ({600 >> number} × {400 >> number} pixels) {what}" in slide.notes[0]
        assert "Dimensional mismatch" in slide.notes[0]
        assert "edge frames are shorter than the file says" in slide.notes[0]
        assert np.abs(slide.view(1.0).astype(int) - image[::4, ::4]).mean() < 30


def test_check_reads_all_of_the_last_row(tmp_path: Path, draw_tissue: Callable[..., NDArray[np.uint8]]) -> None:
    """The second frame of the last row of level 1, 300 × 200: its ends are whole."""
    path = _write_short(tmp_path / "a", {1: range(4, 5)}, draw_tissue(600, 400))
    with Slide(path) as slide:
        assert not slide.notes
    assert read_facts(path).level_downsamples == (1, 4)
    found = check_slides([tmp_path], TileSettings(), GivenMpp()).slides[0]
    assert "level 1 (300 × 200 pixels) is left out" in found.notes[0]
