import errno
import os
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

from wsisurv.errors import DuplicateSlideError, NoSlidesError, SlideError
from wsisurv.slides.dicom import instances
from wsisurv.slides.find import ENDINGS, find_slides, slide_fingerprint


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_dicom(path: Path, series: str) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = series
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending != ".dcm"])
def test_every_ending_is_found_at_any_depth_in_any_case(tmp_path: Path, ending: str) -> None:
    path = put(tmp_path / "a" / "b" / f"S-1.x{ending.upper()}")
    assert find_slides([tmp_path]) == {"S-1.x": path}


def test_what_is_hidden_or_no_slide_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / "._a.svs")
    put(tmp_path / ".trash" / "b.svs")
    put(tmp_path / "notes.txt")
    put(tmp_path / "c.svs")
    assert list(find_slides([tmp_path])) == ["c"]


def test_a_file_named_explicitly_is_taken_whatever_its_ending(tmp_path: Path) -> None:
    path = put(tmp_path / "odd.slide")
    assert find_slides([path]) == {"odd": path}


def test_the_order_is_that_of_the_ids(tmp_path: Path) -> None:
    for name in ("z/a", "a/z", "m/k"):
        put(tmp_path / f"{name}.svs")
    assert list(find_slides([tmp_path])) == ["a", "k", "z"]


def test_no_slide_says_where_it_looked_and_for_what(tmp_path: Path) -> None:
    with pytest.raises(NoSlidesError) as caught:
        find_slides([tmp_path])
    assert str(tmp_path) in str(caught.value)
    assert ".mrxs" in str(caught.value)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.svs")
    with pytest.raises(NoSlidesError, match=r"gone\.svs"):
        find_slides([tmp_path, tmp_path / "gone.svs"])


def test_two_files_of_one_id_are_both_named(tmp_path: Path) -> None:
    first, second = put(tmp_path / "x" / "a.svs"), put(tmp_path / "y" / "a.tif", b"y")
    with pytest.raises(DuplicateSlideError) as caught:
        find_slides([tmp_path])
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_one_file_reached_in_several_ways_is_one_slide(tmp_path: Path) -> None:
    path = put(tmp_path / "in" / "a.svs")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    assert list(find_slides([path, tmp_path, tmp_path / "link"])) == ["a"]


def test_a_dicom_series_is_one_slide_named_after_its_folder(tmp_path: Path) -> None:
    for number in (2, 1, 3):
        put_dicom(tmp_path / "S-7" / f"{number}.dcm", "1.2.3")
    first = tmp_path / "S-7" / "1.dcm"
    assert find_slides([tmp_path]) == {"S-7": first}
    assert find_slides(sorted((tmp_path / "S-7").iterdir(), reverse=True)) == {"S-7": first}


def test_several_dicom_series_in_a_folder_are_several_slides(tmp_path: Path) -> None:
    for name, series in (("a1", "1.2"), ("a2", "1.2"), ("b1", "1.3")):
        put_dicom(tmp_path / f"{name}.dcm", series)
    assert list(find_slides([tmp_path])) == ["a1", "b1"]
    assert instances(tmp_path / "a2.dcm") == [tmp_path / "a1.dcm", tmp_path / "a2.dcm"]


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    first = slide_fingerprint(put(tmp_path / "a.svs", content))
    assert slide_fingerprint(put(tmp_path / "elsewhere" / "b.svs", content)) == first
    for position in (0, len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        assert slide_fingerprint(put(tmp_path / "c.svs", bytes(changed))) != first
    assert slide_fingerprint(put(tmp_path / "c.svs", content + b"\0")) != first


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 2 << 20])
def test_every_byte_of_a_small_file_counts(tmp_path: Path, size: int) -> None:
    content = bytearray(size)
    first = slide_fingerprint(put(tmp_path / "a.svs", content))
    for position in {0, size // 2, size - 1} if size else ():
        content[position] ^= 1
        assert slide_fingerprint(put(tmp_path / "a.svs", content)) != first
        content[position] ^= 1


def test_the_fingerprint_of_mirax_sees_its_folder(tmp_path: Path) -> None:
    path = put(tmp_path / "a.mrxs")
    put(tmp_path / "a" / "Data0000.dat", b"12")
    first = slide_fingerprint(path)
    put(tmp_path / "a" / "Data0000.dat", b"123")
    assert slide_fingerprint(path) != first


def test_a_file_that_cannot_be_read_is_a_slide_error(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs"):
        slide_fingerprint(tmp_path / "gone.svs")


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "S.svs").touch()
    scan = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scan(folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(SlideError, match="locked: the folder can't be read"):
        find_slides([tmp_path])
