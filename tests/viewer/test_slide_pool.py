"""Slides that are open: few at a time, the right pixels, and a sentence where a file is gone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg

from wsisurv.errors import InputError, SlideError
from wsisurv.slides.find import slide_fingerprint
from wsisurv.slides.reader import Slide
from wsisurv.viewer.slide_pool import SlideFile, SlidePool


@pytest.fixture
def files(tmp_path, make_slide) -> list[SlideFile]:
    made = []
    for number in range(4):
        path = make_slide(tmp_path / f"s{number}.tiff", (700, 500), mpp=0.5, seed=number)
        made.append(SlideFile(path.stem, path, slide_fingerprint(path), 0.5))
    return made


def test_many_threads_get_each_slides_own_pixels_with_few_slides_open(files, monkeypatch):
    opened, most, counting = 0, 0, threading.Lock()
    make, close = Slide.__init__, Slide.close

    def counted(self, *words, **how):
        nonlocal opened, most
        make(self, *words, **how)
        with counting:
            opened += 1
            most = max(most, opened)

    def closed(self):
        nonlocal opened
        close(self)
        with counting:
            opened -= 1

    monkeypatch.setattr(Slide, "__init__", counted)
    monkeypatch.setattr(Slide, "close", closed)
    pool = SlidePool(n_open=2, n_bytes=0)  # no picture is kept: every one is read
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: pool.tile(files[number % 4], 10, 0, 0), range(60)))
    expected = [pool.tile(file, 10, 0, 0) for file in files]
    assert len(set(expected)) == 4
    assert found == [expected[number % 4] for number in range(60)]
    assert most <= 4  # two that stay, and those that are about to be closed
    pool.close()
    assert opened == 0


def test_a_picture_is_kept_until_others_need_its_room(files, monkeypatch):
    pool = SlidePool(n_bytes=1 << 20)
    first = pool.tile(files[0], 10, 0, 0)
    monkeypatch.setattr(Slide, "reduced", lambda *_: pytest.fail("read again"))
    assert pool.tile(files[0], 10, 0, 0) == first
    monkeypatch.undo()
    small = SlidePool(n_bytes=len(first))
    for file in files:
        small.tile(file, 10, 0, 0)
    assert len(small._pictures) == 1


def test_a_square_is_the_slides_own(files):
    pool = SlidePool()
    square = simplejpeg.decode_jpeg(pool.square(files[0], 200, 100, 64.0, 64))
    with Slide(files[0].path) as slide:
        assert np.abs(square.astype(int) - slide.region(200, 100, 64, 64)).mean() < 5


def test_a_slide_that_moved_was_replaced_or_comes_back_is_told(files, tmp_path):
    pool, one = SlidePool(), files[0]
    one.path.rename(tmp_path / "away.tiff")
    with pytest.raises(SlideError, match="--slides FOLDER"):
        pool.zoom(one)
    with pytest.raises(SlideError, match="--slides FOLDER"):
        pool.zoom(SlideFile("x", None))
    files[1].path.rename(one.path)
    with pytest.raises(SlideError, match="another slide"):
        pool.tile(one, 10, 0, 0)
    one.path.unlink()
    (tmp_path / "away.tiff").rename(one.path)
    assert pool.tile(one, 10, 0, 0)
    with pytest.raises(InputError, match="no tile"):
        pool.tile(one, 10, 5, 0)
    assert pool.tile(one, 10, 0, 0)
