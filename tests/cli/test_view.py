"""The viewer of a trained cohort: what it says is what the other commands say, and a real browser shows it."""

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from wsisurv.formats.heatmaps import read_case_map
from wsisurv.formats.risks import read_risks
from wsisurv.formats.statements import read_statements
from wsisurv.prediction.card import unseen_members
from wsisurv.viewer.serve import listen, make_server
from wsisurv.viewer.study import Study
from wsisurv.workspace.paths import Workspace

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def served(study: Study, start: str = "") -> Iterator[str]:
    """The viewer in a thread; gives the address with its token."""
    server, listening, address = make_server(study, start=start)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory, do) -> Workspace:
    """The trained demo with risks, findings and a heatmap of one case; only looked at."""
    root = tmp_path_factory.mktemp("view") / "workspace"
    shutil.copytree(trained / "workspace", root, copy_function=os.link)
    do("predict", "-w", root)
    do("findings", "-w", root, "--fewest", 5, "--resamples", 100)
    do("heatmap", case_of(Workspace(root)), "-w", root, "--tiles", 2)
    return Workspace(root)


def case_of(place: Workspace) -> str:
    """A case of the cohort with many tiles."""
    rows = read_risks(place.cohort("demo") / "risk.csv")
    return max(rows, key=lambda row: (len(row.slides), row.n_tiles)).case_id


@pytest.fixture(scope="module")
def address(place) -> Iterator[str]:
    with served(Study(place, "demo"), start=case_of(place)) as found:
        yield found


@pytest.fixture(scope="module")
def client(address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address.partition("?")[0], timeout=60) as made:
        assert made.get(address).status_code == 303
        yield made


@pytest.fixture
def ask(client) -> Callable[..., Any]:
    def asked(path: str, **words: object) -> Any:
        answer = client.get(path, params=words)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return asked


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_what_is_shown_of_each_tile_is_what_heatmap_wrote(place, client, ask):
    case_id = case_of(place)
    folder = place.cohort("demo") / "heatmaps" / case_id
    record, seen = read_case_map(folder), ask("/layers", case=case_id)
    assert seen["log_hazard"] == record.log_hazard
    for drawn, shown in zip(record.slides, seen["slides"], strict=True):
        written = (folder / drawn.geojson).read_text()
        assert client.get("/geojson", params={"case": case_id, "slide": drawn.slide_id}).text == written
        measured = [one["properties"]["measurements"] for one in json.loads(written)["features"]]
        by_title = {layer["title"].split()[0]: layer["values"] for layer in shown["layers"]}
        assert by_title["contribution"] == [one["contribution"] for one in measured]
        attention = np.array([one["attention"] for one in measured]) * record.n_tiles
        np.testing.assert_allclose(by_title["attention"], attention, rtol=1e-5)
        assert len(shown["x"]) == len(shown["y"]) == drawn.n_tiles


def test_the_panel_says_what_the_table_of_risks_and_the_reports_say(place, ask):
    case_id = case_of(place)
    row = next(one for one in read_risks(place.cohort("demo") / "risk.csv") if one.case_id == case_id)
    panel, cohort = ask("/case", case=case_id), ask("/cohort")
    assert panel["risk"]["log_hazard"] == row.log_hazard
    assert panel["risk"]["group"] == row.risk_group
    assert panel["risk"]["out_of_fold"]
    curve = panel["curve"]
    at = np.interp(365.25, curve["times"], curve["free"])
    assert at == pytest.approx(row.survival[1.0], abs=0.02)  # a step curve on a grid
    assert sum(group["cases"] for group in cohort["groups"].values()) == len(cohort["cases"])
    assert {"age", "stage", "hospital"} <= panel["clinical"].keys()
    record = read_statements(place.statements).get(case_id)
    stated = [(one.polarity, one.evidence, one.specimen, [*one.blocks]) for one in record.statements] if record else []
    told = [(one["polarity"], one["evidence"], one["specimen"], one["blocks"]) for one in panel["statements"]]
    assert told == stated


def test_a_statement_leads_to_the_tiles_that_speak_for_it(ask):
    cohort = ask("/cohort")
    told = {one["name"] for one in cohort["findings"]}
    assert told
    spoken = {
        name: case["id"]
        for case in cohort["cases"]
        for one in ask("/case", case=case["id"])["statements"]
        for name in one["findings"]
        if name in told
    }
    name, case_id = next(iter(spoken.items()))
    seen = ask("/finding", case=case_id, name=name)
    share = [value for slide in seen["slides"] for value in slide["layers"][0]["values"]]
    assert all(share[tile] > 0 for tile in seen["speak_for"])
    assert all(share[tile] < 0 for tile in seen["speak_against"])
    if seen["speak_for"]:
        assert share[seen["speak_for"][0]] == max(share)
    rows = {one["name"]: one for one in ask("/findings", case=case_id)}
    assert rows[name]["probability"] == pytest.approx(seen["probability"])


def test_a_tile_says_what_drove_it(place, ask):
    case_id = case_of(place)
    values = [value for slide in ask("/layers", case=case_id)["slides"] for value in slide["layers"][0]["values"]]
    highest = int(np.argmax(values))
    seen = ask("/tile", case=case_id, tile=highest)
    assert seen["contribution"] == pytest.approx(values[highest], rel=1e-5)
    assert len(seen["features"]) == 5
    effects = [abs(one["adds"]) for one in seen["features"]]
    assert effects == sorted(effects, reverse=True)
    study = Study(place, "demo")  # the largest effect by hand: the case scored with the others' mean in that feature
    explained, first = study.explained(case_id), seen["features"][0]
    column, case = study.explainer.feature_names.index(first["name"]), explained.tiles.values.astype(np.float32)
    case[highest, column] = np.delete(case, highest, axis=0)[:, column].astype(np.float64).mean()
    without = explained.ensemble.log_hazard(case)
    assert first["adds"] == pytest.approx(explained.tiles.log_hazard - without, abs=1e-6)


def when_read(ask: Callable[..., Any], path: str, **words: object) -> Any:
    """The answer once the viewer has read the cohort in the background."""
    for _ in range(600):
        if (found := ask(path, **words))["ready"]:
            return found
        threading.Event().wait(0.05)
    raise AssertionError("the cohort is never read")


def test_similar_cases_are_the_nearest_states_by_members_that_did_not_see_the_case(place, ask):
    case_id, study = case_of(place), Study(place, "demo")
    seen = when_read(ask, "/alike", case=case_id)
    member = np.flatnonzero(unseen_members(study.explainer.scale.card, study.explainer.fold_of[case_id]))
    precision = study.explainer.scale.familiarity.precision[member[0]]
    state = {
        str(case.case_id): study.explainer.ensemble.states(study.explained(str(case.case_id)).tiles.values).pooled[
            member[0]
        ]
        for case in study.cohort.cases
    }
    assert len(member) == 1
    away = {name: mahalanobis(state[name], state[case_id], precision) for name in state if name != case_id}
    nearest = sorted(away, key=lambda name: away[name])[:6]
    assert [one["id"] for one in seen["cases"]] == nearest
    assert [one["distance"] for one in seen["cases"]] == pytest.approx([away[name] for name in nearest], rel=1e-4)
    assert seen["median"] == pytest.approx(np.median(list(away.values())), rel=1e-4)
    assert seen["unread"] == []
    for one in seen["cases"]:
        stated = [
            f for s in ask("/case", case=one["id"])["statements"] if s["polarity"] == "present" for f in s["findings"]
        ]
        assert set(one["present"]) <= set(stated)


def test_the_nearest_tiles_are_of_other_cases_and_really_nearest(place, ask):
    case_id, study = case_of(place), Study(place, "demo")
    seen = when_read(ask, "/nearest", case=case_id, tile=3)["tiles"]
    own = study.explained(case_id).tiles.values[3].astype(float)
    sd = study.explainer.ensemble.members[0].sd.numpy()
    away = []
    for case in study.cohort.cases:
        if case.case_id != case_id:
            tiles = study.explained(str(case.case_id)).tiles
            away += [float(np.sqrt((((row - own) / sd) ** 2).mean())) for row in tiles.values.astype(float)]
    assert case_id not in {one["case_id"] for one in seen}
    assert [one["distance"] for one in seen] == sorted(one["distance"] for one in seen)
    assert [one["distance"] for one in seen] == pytest.approx(sorted(away)[:4], rel=1e-3)  # none has over 64 tiles


def test_nothing_is_written(place, client, ask):
    before, case_id = files_of(place.root), case_of(place)
    slide = ask("/case", case=case_id)["slides"][0]["id"]
    for path, words in {
        "/": {}, "/cohort": {}, "/case": {"case": case_id}, "/layers": {"case": case_id},
        "/findings": {"case": case_id}, "/tile": {"case": case_id, "tile": 0},
        "/outlines": {"slide": slide}, "/geojson": {"case": case_id, "slide": slide},
        "/zoom": {"slide": slide, "level": 9, "x": 0, "y": 0}, "/square": {"slide": slide, "x": 0, "y": 0, "side": 300},
    }.items():  # fmt: skip
        answer = client.get(path, params=words)
        assert answer.status_code == 200, (path, answer.text)
    assert files_of(place.root) == before


def test_no_address_leads_to_a_file(client):
    for path in (
        "/../pyproject.toml",
        "/static/../study.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/viewer.js/..%2f",
    ):
        assert client.get(path).status_code == 404, path
    for words in ("../../../../etc/passwd", "/etc/passwd", "..", "nothing", ""):
        for path in ("/zoom?level=9&x=0&y=0&", "/outlines?", "/square?x=0&y=0&side=9&", "/geojson?case=x&"):
            assert client.get(f"{path}slide={words}").status_code == 404, (path, words)
        assert client.get("/case", params={"case": words}).status_code == 404
    slide = {"slide": "x", "level": "1e9", "x": "-1", "y": "x"}
    assert client.get("/zoom", params=slide).status_code == 404


def test_a_stranger_gets_403(address):
    assert urlsplit(address).hostname == "127.0.0.1"
    plain = address.partition("?")[0]
    for words in (plain, f"{plain}cohort", f"{plain}?token=guess", f"{plain}viewer.js"):
        assert httpx.get(words).status_code == 403


def test_a_slide_that_moved_is_told_and_its_tiles_are_shown_all_the_same(place, tmp_path):
    case_id = case_of(place)
    moved, root = tmp_path / "slides", tmp_path / "workspace"
    shutil.copytree(place.root, root, copy_function=os.link)
    study = Study(
        Workspace(root),
        "demo",
        slides={str(one): moved / "gone.tiff" for one in Study(place, "demo").case(case_id).slide_ids},
    )
    with served(study) as address, httpx.Client(base_url=address.partition("?")[0], timeout=60) as client:
        client.get(address)
        panel = client.get("/case", params={"case": case_id}).json()
        assert all("--slides FOLDER" in slide["problem"] and slide["width"] > 1000 for slide in panel["slides"])
        assert client.get("/layers", params={"case": case_id}).json()["log_hazard"] is not None
        slide = panel["slides"][0]["id"]
        answer = client.get("/zoom", params={"slide": slide, "level": 9, "x": 0, "y": 0})
        assert answer.status_code == 404
        assert "--slides FOLDER" in answer.text


def test_a_case_without_a_slide_has_its_panel_and_says_so(place):
    study = Study(place, "demo")
    bare, *others = study.cohort.cases
    study.cohort = replace(study.cohort, cases=(replace(bare, slide_ids=()), *others))
    study._by_id[str(bare.case_id)] = study.cohort.cases[0]
    with served(study) as address, httpx.Client(base_url=address.partition("?")[0], timeout=60) as client:
        client.get(address)
        panel = client.get("/case", params={"case": bare.case_id}).json()
        assert panel["slides"] == []
        assert panel["missing"]["slides"] == f"{bare.case_id}: no slide of this case is in the cohort."
        assert panel["clinical"]["hospital"] == bare.site
        answer = client.get("/layers", params={"case": bare.case_id})
        assert answer.status_code == 404
        assert "no slide of this case" in answer.text
        assert (
            when_read(lambda path, **words: client.get(path, params=words).json(), "/alike", case=bare.case_id)["cases"]
            == []
        )


def test_what_is_not_there_is_said_with_the_way_out(place, tmp_path):
    root = tmp_path / "workspace"
    shutil.copytree(place.root, root, copy_function=os.link)
    home = Workspace(root).cohort("demo")
    for name in ("risk.csv", "findings.h5"):
        (home / name).unlink()
    with (
        served(Study(Workspace(root), "demo")) as address,
        httpx.Client(base_url=address.partition("?")[0], timeout=60) as client,
    ):
        client.get(address)
        missing = client.get("/cohort").json()["missing"]
        assert "wsisurv predict" in missing["risks"]
        assert "wsisurv findings" in missing["findings"]
        (home / "student.h5").unlink()
    with (
        served(Study(Workspace(root), "demo")) as address,
        httpx.Client(base_url=address.partition("?")[0], timeout=60) as client,
    ):
        client.get(address)
        case = client.get("/cohort").json()["cases"][0]["id"]
        assert client.get("/case", params={"case": case}).json()["slides"][0]["width"] > 1000
        answer = client.get("/layers", params={"case": case})
        assert answer.status_code == 409
        assert "wsisurv distill" in answer.text


def test_bad_words_end_before_anything_is_served(place, run):
    case_id = case_of(place)
    ended = run("view", case_id[:-1] + "x", "-w", place.root, "--no-browser")
    assert ended.code == 1
    assert "did you mean" in ended.err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("view", "-w", place.root, "--no-browser", "--port", port)
    assert ended.code == 1
    assert f"port {port} is in use: name another with --port" in " ".join(ended.err.split())
    assert run("view", "-w", place.root / "nowhere", "--no-browser").code == 1
    with listen(0) as listening:  # else each answer waits 40 ms: findings/asyncio-own-socket-answers-40-ms-late.sh
        assert listening.proto == socket.IPPROTO_TCP
    assert run("view", "-w", place.root, "--cohort", "dmo", "--no-browser").code == 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; skips where playwright or a browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api")
    if _CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def until(page: Any, holds: str) -> None:
    """Wait until an expression holds on the page, which runs no strings itself (its policy forbids that)."""
    for _ in range(600):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never on the page: {holds}")


@pytest.fixture
def page(browser, address) -> Iterator[Any]:
    """The viewer in a browser; what it says on its console, and every request that failed, is held against it."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    shown, said = context.new_page(), []
    shown.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("response", lambda answer: said.append(answer.url) if answer.status >= 400 else None)
    shown.on(
        "request",
        lambda asked: (
            said.append(asked.url) if not asked.url.startswith(("http://127.0.0.1", "data:", "blob:")) else None
        ),
    )
    shown.goto(address)
    until(shown, "state.risk && viewer.world.getItemAt(0)?.getFullyLoaded()")
    yield shown
    assert said == []
    context.close()


_COLOURED = """() => {
    const canvas = document.getElementById("overlay");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let painted = 0;
    for (let n = 3; n < data.length; n += 4) painted += data[n] > 0;
    return painted;
}"""


def test_a_browser_shows_slide_layers_and_panel_and_says_nothing(page, place):
    case_id = case_of(place)
    assert page.url.endswith(f"#case={case_id}")
    assert "token" not in page.url
    assert page.inner_text("#panel h1") == case_id
    assert page.locator("#list tr").count() == len(read_risks(place.cohort("demo") / "risk.csv"))
    assert page.evaluate(_COLOURED) > 1000
    page.select_option("#layer", "none")
    assert page.evaluate(_COLOURED) == 0
    page.keyboard.press("t")
    until(page, f"({_COLOURED})() > 0")
    page.keyboard.press("t")
    page.keyboard.press("3")  # the attention, after the slide alone and the contribution
    assert "attention" in page.inner_text("#legend-title")
    assert page.evaluate(_COLOURED) > 1000


def test_a_browser_zooms_to_the_scanners_own_pixels(page):
    page.evaluate("viewer.viewport.zoomTo(viewer.viewport.getMaxZoom(), null, true)")
    until(page, "viewer.world.getItemAt(0).getFullyLoaded()")
    finest, drawn = page.evaluate(
        "(({ source, lastDrawn }) => [source.maxLevel, lastDrawn.map((one) => one.level)])(viewer.world.getItemAt(0))"
    )
    assert finest in drawn


def test_a_tile_under_the_pointer_is_told(page):
    place_of = """() => {
        const slide = state.risk.slides[0], shape = state.panel.slides[0];
        const box = document.getElementById("stage").getBoundingClientRect();
        const at = viewer.world.getItemAt(0).imageToViewerElementCoordinates(new OpenSeadragon.Point(
            slide.x[0] - shape.x + slide.side / 2, slide.y[0] - shape.y + slide.side / 2));
        return [box.left + at.x, box.top + at.y];
    }"""
    page.mouse.move(*page.evaluate(place_of))
    page.wait_for_selector("#drivers li")
    assert page.inner_text("#hover strong") == "Tile 0"
    assert "contribution to the log hazard" in page.inner_text("#hover")
    assert "SD from the other tiles" in page.inner_text("#drivers")
    until(page, "[...document.querySelectorAll('#drivers img')].filter((one) => one.naturalWidth === 160).length === 4")


def test_a_mark_goes_out_as_geojson_in_the_slides_own_pixels(page):
    box = page.locator("#stage").bounding_box()
    left, top = box["x"], box["y"]
    page.keyboard.press("m")
    page.mouse.move(left + 200, top + 150)
    page.mouse.down()
    page.mouse.move(left + 320, top + 260, steps=4)
    page.mouse.up()
    page.fill("#marks input", "gland")
    page.press("#marks input", "Tab")
    with page.expect_download() as found:
        page.click("#marks a")
    (one,) = json.loads(found.value.path().read_text())["features"]
    assert one["properties"]["name"] == one["properties"]["classification"]["name"] == "gland"
    assert one["properties"]["objectType"] == "annotation"
    (ring,) = one["geometry"]["coordinates"]
    at = "(place) => viewer.world.getItemAt(0).viewerElementToImageCoordinates(new OpenSeadragon.Point(...place))"
    for corner, place in ((ring[0], [200, 150]), (ring[2], [320, 260])):
        seen = page.evaluate(at, place)
        assert corner == pytest.approx([seen["x"], seen["y"]], abs=1)
    assert ring[0] == ring[4]
    page.click("#marks button")
    until(page, "!document.querySelector('#marks li')")
    page.evaluate("sessionStorage.clear()")


def test_the_list_sorts_filters_and_goes_on_by_key(page):
    def ids() -> list[str]:
        return page.eval_on_selector_all("#list tr", "rows => rows.map((row) => row.dataset.case)")

    def percentiles() -> list[int]:
        return [int(text) for text in page.locator("#list td:nth-child(2)").all_inner_texts()]

    assert percentiles() == sorted(percentiles(), reverse=True)
    page.click("th[data-by=id] button")
    assert ids() == sorted(ids())
    page.click(f"#list tr[data-case='{ids()[0]}']")
    page.keyboard.press("j")
    until(page, f"document.querySelector('#panel h1').textContent === '{ids()[1]}'")
    page.keyboard.press("k")
    until(page, f"document.querySelector('#panel h1').textContent === '{ids()[0]}'")
    page.fill("#filter", "high event:yes")
    assert set(page.locator("#list td:nth-child(3)").all_inner_texts()) == {"high"}
    until(page, "state.risk && viewer.world.getItemAt(0)?.getFullyLoaded()")


def test_similar_cases_are_listed_and_lead_on(page):
    until(page, "document.querySelector('#similar button.link') !== null")
    name = page.inner_text("#similar button.link >> nth=0")
    page.click("#similar button.link >> nth=0")
    until(page, f"document.querySelector('#panel h1').textContent === '{name}'")
    until(page, "state.risk && viewer.world.getItemAt(0)?.getFullyLoaded()")


def test_a_finding_brings_its_tiles(page):
    page.wait_for_selector("#findings button.link")
    with page.expect_response(lambda answer: "/finding?" in answer.url):
        page.click("#findings button.link >> nth=0")
    until(page, "state.layer === 'finding'")
    assert "log odds" in page.inner_text("#legend-title")


def test_a_page_on_another_port_learns_nothing(browser, address, place):
    """A page of another port of this machine in a browser that has the cookie: no picture, no script, no JSON."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>other</title>")

        def log_message(self, *_: object) -> None:
            pass

    other = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    context = browser.new_context()
    ours = context.new_page()
    ours.goto(address)
    until(ours, "state.cohort")
    stranger = context.new_page()
    stranger.goto(f"http://127.0.0.1:{other.server_port}/")
    tries = """async (base) => {
        const slide = new URLSearchParams({ slide: document.title.split(" ")[0], level: 9, x: 0, y: 0 });
        const tried = (made) => new Promise((done) => {
            made.onload = () => done("loaded"); made.onerror = () => done("refused");
            made.src = base + (made.tagName === "IMG" ? `zoom?${slide}` : "viewer.js"); document.head.append(made);
        });
        const read = fetch(base + "cohort", { credentials: "include" }).then((one) => one.status, () => "refused");
        return [await read, await tried(document.createElement("script")), await tried(new Image())];
    }"""
    base, slide_id = address.partition("?")[0], str(Study(place, "demo").case(case_of(place)).slide_ids[0])
    for page in (ours, stranger):
        page.evaluate("(slide) => { document.title = slide; }", slide_id)
    assert ours.evaluate(tries, base) == [200, "loaded", "loaded"]
    assert stranger.evaluate(tries, base) == ["refused"] * 3
    context.close()
    other.shutdown()
    other.server_close()
