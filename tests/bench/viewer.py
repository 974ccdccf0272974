"""The viewer, measured in headless Chromium: first view, tiles while one zooms and pans, twenty viewers, memory.

Run: ``python tests/bench/viewer.py WORKSPACE [--side 60000] [--viewers 20]``, with the workspace of a trained cohort
(``wsisurv demo`` makes one; it is copied). One case gets a slide of that side, a tile on each place of its tissue, and
features drawn from its own. ``wsisurv view`` runs as a process of its own. Prints, of the large slide: milliseconds
from opening the address to the whole slide drawn and to the layer painted over it, in a browser that has seen nothing
(the first time the server has not opened the slide either); of tiles that nobody asked for before, milliseconds from
request to answer in the browser, and processor time of the server a tile; of so many clients that each walk through a
slide of their own or the large one, milliseconds a tile; and the server's memory after each. Never fails on a time.
"""

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
from large_slide import MPP, make_slide
from playwright.sync_api import Page, sync_playwright

from wsisurv.cohort import read_cohort
from wsisurv.formats.features import read_features, write_features
from wsisurv.formats.tiles import read_tiles, write_tiles
from wsisurv.slides.find import slide_fingerprint
from wsisurv.workspace.paths import Workspace

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
DRAWN = """(which) => new Promise((done) => {
    const look = () => {
        const whole = viewer.world.getItemAt(0)?.getFullyLoaded();
        if (which === "slide" ? whole : state.risk) done(performance.now()); else requestAnimationFrame(look);
    };
    look();
})"""


def enlarge(workspace: Workspace, name: str, side: int) -> str:
    """Give the first case with one slide a large slide; gives the case."""
    cohort, _ = read_cohort(workspace.cohort(name))
    case = next(case for case in cohort.cases if len(case.slide_ids) == 1)
    slide_id = str(case.slide_ids[0])
    path = workspace.root / f"{slide_id}.tiff"
    make_slide(path, side, None, (1, 4, 16, 32))
    tiles, header = read_tiles(workspace.tiles(slide_id))
    step = tiles.tile_px * tiles.tile_mpp / MPP
    starts = (np.arange(int(side / step)) * step).astype(np.int64)
    coords = np.stack(np.meshgrid(starts, starts), axis=-1).reshape(-1, 2)
    x, y = ((coords + step / 2) / side - 0.5).T
    coords = coords[(x / 0.42) ** 2 + (y / 0.38) ** 2 < 1]
    seen = slide_fingerprint(path)
    header = replace(header, inputs={**header.inputs, "slide": seen})
    large = replace(
        tiles, slide_path=path, coords=coords, tissue=np.ones(len(coords), np.float32), piece=None, measures={},
        mpp=MPP, tile_level0_px=step, level0_width=side, level0_height=side, bounds_x=0, bounds_y=0,
    )  # fmt: skip
    os.unlink(workspace.tiles(slide_id))
    write_tiles(workspace.tiles(slide_id), large, header)
    for encoder in workspace.encoders():
        file = workspace.features(encoder, slide_id)
        features, made = read_features(file)
        values = features.values[np.random.default_rng(0).integers(0, len(features.values), len(coords))]
        making = replace(features.making, tiles_fingerprint=header.fingerprint)
        made = replace(made, inputs={**made.inputs, "slide": seen, "tiles": header.fingerprint})
        os.unlink(file)
        write_features(file, replace(features, values=values, coords=coords, mpp=MPP, making=making), made)
    size = f"{side:,} px, {path.stat().st_size / 1e6:.0f} MB, {len(coords):,} tiles of {values.shape[1]} features"
    print(f"{case.case_id}: {size}")
    return str(case.case_id)


class Server:
    """``wsisurv view`` in a process of its own."""

    def __init__(self, workspace: Path, case_id: str) -> None:
        command = [sys.executable, "-m", "wsisurv", "view", case_id, "-w", str(workspace), "--no-browser"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def memory_mib(self) -> tuple[float, float]:
        """Memory now and at its peak, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        sizes = dict(re.findall(r"(\w+):\s+(\d+) kB", status))
        return int(sizes["VmRSS"]) / 1024, int(sizes["VmHWM"]) / 1024

    def processor_s(self) -> float:
        """Processor time so far, seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tell(self, what: str) -> None:
        print(f"{what}: memory {self.memory_mib()[0]:.0f} MiB, {self.memory_mib()[1]:.0f} at its peak")


def answers(page: Page) -> list[float]:
    """Milliseconds from request to answer of each tile that the page has not told of before."""
    found = page.evaluate(
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('/zoom?'))"
        ".map((one) => one.responseEnd - one.requestStart)"
    )
    page.evaluate("performance.clearResourceTimings()")
    return [float(one) for one in found]


def told(values: list[float]) -> str:
    nine = statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
    return f"{len(values)} tiles, median {statistics.median(values):.1f} ms, 95 % under {nine:.0f} ms"


def first_view(page: Page, server: Server) -> None:
    page.goto(server.address)
    drawn, painted = (page.evaluate(DRAWN, which) for which in ("slide", "layer"))
    print(f"slide drawn after {drawn:.0f} ms, layer painted after {painted:.0f} ms")


def wander(page: Page, server: Server, views: int = 30) -> None:
    """Zoom and pan to places that nobody saw before, waiting for each view to be whole."""
    page.evaluate("performance.setResourceTimingBufferSize(100000)")
    answers(page)
    draw, before = random.Random(0), server.processor_s()
    for _ in range(views):
        zoom, x, y = 2 ** draw.uniform(1, 5.5), draw.uniform(0.25, 0.75), draw.uniform(0.25, 0.75)
        page.evaluate(f"viewer.viewport.zoomTo({zoom}, null, true).panTo(new OpenSeadragon.Point({x}, {y}), true)")
        page.wait_for_timeout(50)
        page.evaluate(DRAWN, "slide")
    found = answers(page)
    spent = 1000 * (server.processor_s() - before) / len(found)
    print(f"zooming and panning, {views} views: {told(found)}; {spent:.1f} ms of processor a tile")


def client(server: Server, slide: dict[str, object], seed: int, count: int) -> list[float]:
    """One viewer without a browser: tiles of random views of a slide, milliseconds each."""
    draw, found = random.Random(seed), []
    with httpx.Client(base_url=server.address.partition("?")[0], timeout=120) as http:
        http.get(server.address)
        width, height, side = (int(str(slide[name])) for name in ("width", "height", "tile_px"))
        last = (max(width, height) - 1).bit_length()
        while len(found) < count:
            level = draw.randint(max(9, last - 4), last)
            scale = 2 ** (last - level) * side
            x, y = draw.randrange(-(-width // scale)), draw.randrange(-(-height // scale))
            for place in {(x, y), (min(x + 1, (width - 1) // scale), y)}:
                start = time.perf_counter()
                answer = http.get(
                    "/zoom", params={"slide": str(slide["id"]), "level": level, "x": place[0], "y": place[1]}
                )
                found.append(1000 * (time.perf_counter() - start))
                assert answer.status_code == 200, answer.text
    return found


def crowd(server: Server, cases: list[str], viewers: int, count: int = 60) -> None:
    """So many viewers at once, half of them on the first case, the others on cases of their own."""
    with httpx.Client(base_url=server.address.partition("?")[0], timeout=120) as http:
        http.get(server.address)
        ids = [cases[0] if number % 2 else cases[1 + number // 2 % (len(cases) - 1)] for number in range(viewers)]
        slides = [http.get("/case", params={"case": one}).json()["slides"][0] for one in ids]
    before, start = server.processor_s(), time.perf_counter()
    with ThreadPoolExecutor(viewers) as threads:
        walks = threads.map(lambda number: client(server, slides[number], number, count), range(viewers))
        found = [one for walk in walks for one in walk]
    rate = len(found) / (time.perf_counter() - start)
    spent = 1000 * (server.processor_s() - before) / len(found)
    print(f"{viewers} viewers at once: {told(found)}, {rate:.0f} tiles/s; {spent:.1f} ms of processor a tile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--side", type=int, default=60_000)
    parser.add_argument("--viewers", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(shutil.copytree(asked.workspace, Path(folder) / "workspace")))
        name = workspace.the_cohort(None)
        large = enlarge(workspace, name, asked.side)
        others = [str(case.case_id) for case in read_cohort(workspace.cohort(name))[0].cases]
        cases = [large, *(one for one in others if one != large)]
        server = Server(workspace.root, large)
        try:
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                time.sleep(8)  # the student is loaded meanwhile
                server.tell("at rest")
                for _ in range(3):
                    page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
                    first_view(page, server)
                server.tell("one viewer")
                wander(page, server)
                server.tell("after zooming and panning")
                browser.close()
            crowd(server, cases, asked.viewers)
            server.tell(f"{asked.viewers} viewers")
        finally:
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
