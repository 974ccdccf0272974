import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from wsisurv.formats.header import make_header
from wsisurv.formats.pictures import write_picture
from wsisurv.formats.tiles import Tiles, write_tiles
from wsisurv.pages.contact_sheet import SlideEntry, update_contact_sheet, write_contact_sheet
from wsisurv.pages.rendering import render
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

NAMES = ["S 2", "S 10", "a#b"]


def tiles(slide_id: str, n_tiles: int, flags: tuple[str, ...] = ()) -> Tiles:
    return Tiles(
        slide_id=SlideId(slide_id),
        slide_path=Path("S.svs"),
        coords=np.zeros((n_tiles, 2), np.int64),
        tissue=np.full(n_tiles, 0.5, np.float32),
        mpp=0.25,
        tile_mpp=0.5,
        tile_px=100,
        tile_level0_px=200.0,
        overlap_px=0,
        level0_width=2000,
        level0_height=1000,
        flags=flags,
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    place = Workspace(tmp_path / "w & w")
    header = make_header("wsisurv/tiles", {}, {})
    for name, n_tiles, flags in zip(NAMES, (5, 20, 0), ((), (), ("<script>bad()</script>", "two")), strict=True):
        write_tiles(place.tiles(name), tiles(name, n_tiles, flags), header)
        place.preview(name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 20), "pink").save(place.preview(name))
    write_contact_sheet(place)
    return place


class Figures(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.figures: list[dict[str, str | None]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "figure":
            self.figures.append(dict(attrs))


def test_every_slide_is_on_it_with_its_figures(workspace: Workspace) -> None:
    page = workspace.contact_sheet.read_text()
    figures = {figure["data-slide"]: figure for figure in Figures(page).figures}
    assert set(figures) == set(NAMES)
    assert (figures["S 10"]["data-tiles"], figures["S 10"]["data-flags"]) == ("20", "0")
    assert float(figures["S 10"]["data-share"] or 0) == pytest.approx(20 * 0.5 * 200**2 / 2e6)
    assert figures["a#b"]["data-flags"] == "2"
    assert "3 slides, 25 tiles, 1 slides flagged" in page


def test_overlap_is_counted_once_and_unknown_tissue_is_not_invented(workspace: Workspace) -> None:
    header = make_header("wsisurv/tiles", {}, {})
    write_tiles(workspace.tiles("S 2"), replace(tiles("S 2", 20), overlap_px=50), header)
    nan = np.full(20, np.nan, np.float32)
    write_tiles(workspace.tiles("S 10"), replace(tiles("S 10", 20), tissue=nan), header)
    workspace.tiles("a#b").write_bytes(b"damaged")
    write_contact_sheet(workspace)
    page = workspace.contact_sheet.read_text()
    figures = {figure["data-slide"]: figure for figure in Figures(page).figures}
    assert float(figures["S 2"]["data-share"] or 0) == pytest.approx(20 * 0.5 * 100**2 / 2e6)
    assert figures["S 10"]["data-share"] == "-1"
    assert figures["a#b"]["data-flags"] == "1"


def test_nothing_comes_from_elsewhere_and_names_can_not_run() -> None:
    name = '"><script>x()</script>'
    page = render("contact_sheet.html", slides=[SlideEntry(name, 1, 0.5, 0.25, (name,), f"{name}.jpg")])
    seen = Figures(page)
    assert [tag for tag, _ in seen.tags].count("script") == 1
    assert seen.figures[0]["data-slide"] == name
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page


def images(place: Workspace) -> dict[str, str]:
    """Preview that is linked → picture that is shown."""
    pairs = re.findall(r'<a href="([^"]*)"><img src="([^"]*)"', place.contact_sheet.read_text())
    return {unquote(link): unquote(shown) for link, shown in pairs}


def test_pictures_are_small_ones_of_their_own_and_captions_are_words(workspace: Workspace) -> None:
    assert images(workspace) == {f"{name}.jpg": f"thumbnails/{name}.jpg" for name in NAMES}  # of previews of before too
    noise = np.random.default_rng(0).integers(0, 255, (1696, 1600, 3), dtype=np.uint8)
    write_picture(workspace.preview("S 2"), Image.fromarray(noise), "JPEG", quality=85)
    write_contact_sheet(workspace)  # its thumbnail is older than the preview: made anew
    small = workspace.thumbnail("S 2")
    with Image.open(small) as picture:
        assert picture.size == (400, 400)  # without the caption below the slide
    assert small.stat().st_size < 0.06 * workspace.preview("S 2").stat().st_size
    write_picture(small, Image.new("RGB", (40, 40)), "JPEG", comment="tissue 12 mm², 30% of the slide\nleft out: <pen>")
    write_contact_sheet(workspace)
    page = workspace.contact_sheet.read_text()
    assert "<span>tissue 12 mm², 30% of the slide</span>" in page
    assert "<span>left out: &lt;pen&gt;</span>" in page


def test_a_sheet_of_before_there_were_thumbnails_is_made_anew_once(workspace: Workspace) -> None:
    shutil.rmtree(workspace.thumbnail("S 2").parent)
    workspace.contact_sheet.write_text("of before")
    update_contact_sheet(workspace)
    assert set(images(workspace).values()) == {f"thumbnails/{name}.jpg" for name in NAMES}
    workspace.contact_sheet.write_text("as it is")
    update_contact_sheet(workspace)
    assert workspace.contact_sheet.read_text() == "as it is"


def test_a_slide_without_preview_has_no_picture(workspace: Workspace) -> None:
    workspace.preview("S 2").unlink()
    write_contact_sheet(workspace)
    assert set(images(workspace)) == {"S 10.jpg", "a#b.jpg"}


def test_the_same_tiles_give_the_same_bytes(workspace: Workspace) -> None:
    before = workspace.contact_sheet.read_bytes()
    write_contact_sheet(workspace)
    assert workspace.contact_sheet.read_bytes() == before


def test_runs_that_end_at_the_same_moment_all_write_it(workspace: Workspace) -> None:
    before = workspace.contact_sheet.read_bytes()
    with ThreadPoolExecutor(4) as threads:
        for written in [threads.submit(write_contact_sheet, workspace) for _ in range(40)]:
            written.result()
    assert workspace.contact_sheet.read_bytes() == before


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("", ["a#b", "S 2", "S 10"]),
        ("slide up", ["a#b", "S 2", "S 10"]),
        ("tiles down", ["S 10", "S 2", "a#b"]),
        ("share up", ["a#b", "S 2", "S 10"]),
        ("flags down", ["a#b", "S 2", "S 10"]),
    ],
)
def test_a_browser_shows_the_pictures_and_sorts(
    workspace: Workspace, browse: Callable[[str], str], order: str, expected: list[str]
) -> None:
    page = browse(workspace.contact_sheet.as_uri() + (f"#{order.replace(' ', '%20')}" if order else ""))
    assert "3 of 3 slides" in page  # written by the page's own script
    shown = [figure["data-slide"] for figure in Figures(page).figures]
    assert shown == (expected if order else sorted(NAMES))
    assert page.count("can't be shown") == 1  # in the script alone


def test_a_preview_that_can_not_be_shown_is_told(workspace: Workspace, browse: Callable[[str], str]) -> None:
    workspace.thumbnail("S 2").write_bytes(b"no picture")
    assert browse(workspace.contact_sheet.as_uri()).count("can't be shown") == 2
    workspace.preview("S 2").write_bytes(b"no picture")  # no thumbnail can be made of it
    write_contact_sheet(workspace)
    assert browse(workspace.contact_sheet.as_uri()).count("can't be shown") == 2
