"""The report page in a browser and by its text: whole with everything there, and honest with nothing there."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from wsisurv.cohort import Audit, Case, Cohort, Dropped, read_cohort, write_cohort
from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.experiments.external import AtHorizon, ExternalFigures, ObservedExpected
from wsisurv.experiments.external_clinic import BesideClinic
from wsisurv.experiments.external_record import write_record
from wsisurv.experiments.risk_groups import GroupRow
from wsisurv.formats.cards import FamiliarityLimit, StudentCard
from wsisurv.formats.commands import Command, append_command
from wsisurv.formats.finding_cards import FindingRow, FindingsCard, FindingsResult
from wsisurv.formats.finding_maps import FindingMap, FindingTile, write_finding_map
from wsisurv.formats.header import make_header
from wsisurv.formats.heatmaps import CaseMap, Extreme, FeatureShift, SlideMap, write_case_map
from wsisurv.formats.models import ModelFile, model_format, write_model
from wsisurv.formats.risks import Risk, read_risks, write_notes, write_risks
from wsisurv.formats.splits import Fold, write_splits
from wsisurv.pages.cohort_page import PAGE, write_report
from wsisurv.pages.crossval_figures import read_metrics
from wsisurv.pages.gathering import gather, read_training
from wsisurv.settings.cohort import CohortSettings
from wsisurv.survival.cox import Slope
from wsisurv.survival.resampling import Interval
from wsisurv.units import CaseId, SlideId
from wsisurv.workspace.paths import Workspace

NAME = "trial"
NASTY = 'C#<script>x()<b> "&'
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tags(HTMLParser):
    """All tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, name: str) -> list[str]:
        return [attrs.get(name) or "" for seen, attrs in self.tags if seen == tag]


@pytest.fixture
def drawn() -> None:
    """Asks for figures with something in them."""


@pytest.fixture(autouse=True)
def _blank_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, without_figures) -> None:
    if "drawn" not in request.fixturenames:
        without_figures(monkeypatch)


def cases(n: int = 60) -> tuple[Case, ...]:
    rng = np.random.default_rng(0)
    ids = [NASTY, *(f"C{number:03d}" for number in range(1, n))]
    return tuple(
        Case(
            CaseId(case_id),
            float(rng.integers(20, 900)),
            bool(rng.random() < 0.6),
            site="H1" if number % 2 else "H2",
            covariates={"age": "" if number % 9 == 0 else str(40 + number), "stage": "I II III".split()[number % 3]},
            slide_ids=(SlideId(f"S{number}"),),
        )
        for number, case_id in enumerate(sorted(ids))
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A cohort and nothing else."""
    place = Workspace(tmp_path / "w & w")
    chosen = cases()
    settings = CohortSettings(site="site", covariates=("age", "stage"))
    audit = Audit(
        70, 65, 40, 50, len(chosen), sum(case.event for case in chosen), 60, 48, 0, "days", 300.0, {"H1": 30, "H2": 30},
        (Dropped(3, "X", "time is missing"),), ("N1",), ("S<99",), (),
    )  # fmt: skip
    write_cohort(place.cohort(NAME), Cohort(NAME, chosen, settings), audit)
    return place


@pytest.fixture
def add_crossval(student_card) -> Callable[[Workspace], None]:
    """``add_crossval(place)``: three folds with risks that follow the outcome a little, and metrics.json."""
    return partial(write_crossval, card=student_card(cut_offs={"low": -1.5, "high": -0.5}))


def write_crossval(place: Workspace, card: StudentCard) -> None:
    """Three folds with risks that follow the outcome a little, and metrics.json."""
    folder, chosen, rng = place.cohort(NAME), cases(), np.random.default_rng(1)
    ids = [str(case.case_id) for case in chosen]
    folds, records = [], []
    for number in range(3):
        test = ids[number::3]
        fold = Fold(repeat=0, fold=number, train=tuple(sorted(set(ids) - set(test))), test=tuple(test))
        folds.append(fold)
        time = np.array([case.time for case in chosen])[number::3]
        risks = {
            model: (-(time / 300) + noise * rng.normal(size=len(test))).tolist()
            for model, noise in (("selected", 1.0), ("covariates", 2.0), ("student_and_covariates", 1.0))
        }
        records.append({"name": fold.name, "fingerprint": f"f{number}"})
        saved = {"fingerprint": f"f{number}", "case_ids": test, "risks": risks}
        at = folder / "crossval" / fold.name
        at.mkdir(parents=True)
        (at / "risks.json").write_text(json.dumps(saved))
        arrays = {"training_risks": np.linspace(-3, 1, 40)}
        header = make_header(model_format("student"), {}, {})
        write_model(at / "student.h5", ModelFile(arrays, card), header)
    write_splits(folder / "splits.jsonl", folds)
    row = {"low": 0.5, "high": 0.7, "fold_mean": 0.6, "fold_sd": 0.1, "uno": 0.6, "calibration_slope": None}
    pair = {"se": 0.05, "bootstrap_se": 0.05, "fold_se": None, "low": -0.1, "high": 0.1}
    metrics = {
        "format": "wsisurv/metrics",
        "models": [{"model": name, "concordance": 0.6, **row} for name in ("covariates", "selected")],
        "differences": [{"model": "selected", "minus": "covariates", "value": 0.02, **pair}],
        "added_by_slides": None,
        "folds": records,
        "verdict": ["Nothing is shown."],
        "warnings": ["few events"],
        "cohort": {"tested": 60, "tested_events": 30},
        "settings": {"crossval": {"covariates": ["age", "stage"], "folds": 3}},
        "versions": {"wsisurv": "0"},
    }
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))


def add_heatmaps(place: Workspace, *case_ids: str, **changes: str) -> None:
    for number, case_id in enumerate(case_ids):
        folder = place.cohort(NAME) / "heatmaps" / case_id
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1400, 900), (200, 100 + number, 120)).save(folder / "S.png")
        shift = FeatureShift("redness<b>", "OD", "how red", 2.0, 1.0, 1.5, 0.1)
        end = Extreme(3, 0.2, (), (shift,))
        slide = SlideMap("S", 30, 0.4, "S.png", "S.geojson")
        drawn = CaseMap(case_id, 0.1 * number, 2, True, 30, None, True, 0.5, (slide,), end, end, "tiles.jpg", "f")
        write_case_map(folder, replace(drawn, **changes))


def add_rest(place: Workspace) -> None:
    history = [{"step": "x", "part": "plain student 1 of 2", "epoch": n, "loss": 3.0 - n} for n in (1, 2, 1, 2)]
    (place.cohort(NAME) / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    words = ("wsisurv", "tile", "my slides/<b>", "--cohort", NAME)
    for exit_code in (1, 0):
        append_command(place.root, Command("2026-01-01T00:00:00+00:00", words, "/", exit_code, 2.5, "0"))


def add_external(place: Workspace, on: str, student: str) -> Path:
    """A validation of a student on a cohort of the workspace, as its record and pictures lie there."""
    interval = Interval(0.612, 0.5, 0.7, 100, 0)
    figures = ExternalFigures(
        60, 30, interval, None, 0.65, (), (), 0.2, 0.25, 0.4, (), Slope(0.3, 0.1), Slope(1.1, 0.2),
        ObservedExpected(30, 25.0, 1.2, 0.8, 1.7, 0),
        (AtHorizon(1.0, 365.0, 0.2, 0.3, 0.2, 0.4, 25), AtHorizon(5.0, 1826.0, given=False, reason="<too long>")),
        (GroupRow("low", 20, 3, None),), 0.03,
    )  # fmt: skip
    path = place.cohort(on) / "evaluation" / "external.json"
    clinic = BesideClinic(("age",), interval, Interval(0.05, -0.1, 0.2, 100, 0), None, ())
    write_record(
        path, figures, cohort={"name": on, "time_unit": "days"}, student={"id": "s", "fingerprint": student},
        own={"concordance": 0.777, "low": 0.6, "high": 0.9}, clinic=clinic, verdict=["Calibration has drifted."],
        warnings=["odd <slides>"], command="wsisurv evaluate",
    )  # fmt: skip
    (path.parent / "external_groups.svg").write_text("<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>")
    return path


def read(place: Workspace) -> str:
    return (place.cohort(NAME) / "evaluation" / PAGE).read_text(encoding="utf-8")


def add_findings(place: Workspace, cohort: str = "") -> None:
    """Heads of findings, one told and one not, and a case that was drawn with its report's words."""
    folder = place.cohort(NAME)
    row = FindingRow(
        name="necrosis",
        what="necrosis",
        present=20,
        absent=1,
        not_stated=39,
        silence_is_absence=True,
        compared=60,
        prevalence=1 / 3,
        auc=0.712,
        low=0.61,
        high=0.8,
        covariates_auc=0.52,
        told=True,
    )
    other = row.model_copy(update={"name": "mucin", "told": False, "why_not": "AUC 0.51 is not above"})
    result = FindingsResult(
        cases=60,
        reports=50,
        hospitals=2,
        interval="bootstrap of cases",
        covariates=("age", "stage"),
        findings=(row, other),
        warnings=("all cases are of few hospitals",),
    )
    card = FindingsCard(
        encoder="histomics",
        n_features=2,
        embed_settings={},
        encoder_weights="",
        tile_settings={},
        pooling="mean",
        cohort=NAME,
        members=2,
        heads=("necrosis",),
        familiarity=FamiliarityLimit(threshold=2.0),
        result=result,
    )
    header = make_header(model_format("findings"), {}, {"cohort": cohort or read_cohort(folder)[0].fingerprint})
    write_model(folder / "findings.h5", ModelFile({}, card), header)
    tile = FindingTile("C001-A", 0, 0, 0.4)
    drawn = FindingMap(
        case_id="C001",
        finding="necrosis",
        probability=0.83,
        prevalence=1 / 3,
        out_of_fold=True,
        n_tiles=9,
        pictures=("C001-A.png",),
        speak_for=(tile,),
        speak_against=(),
        contact_sheet="tiles.jpg",
        quotes=(("present", "much necrosis"),),
        problems=(),
        warning="unlike the training cases",
        fingerprint="f",
        model=header.fingerprint,
    )
    write_finding_map(folder / "heatmaps" / "C001" / "necrosis", drawn)
    old = replace(drawn, case_id="C002", model="other heads")
    write_finding_map(folder / "heatmaps" / "C002" / "necrosis", old)


def test_findings_that_are_told_stand_with_their_figures_tiles_and_quotes(workspace):
    add_findings(workspace)
    page = write_report(workspace, NAME).page.read_text()
    text = re.sub(r"\s+", " ", page)
    assert ">Findings</h2>" in page
    assert "1 of 2 findings can be told" in text
    assert "0.712" in page
    assert "0.610 to 0.800" in page
    assert "mucin: AUC 0.51 is not above" in page
    assert "Warning: all cases are of few hospitals" in page
    assert "Probability 0.83, by a head that did not see the case" in text
    assert "The report (present): <q>much necrosis</q>" in page
    assert 'href="../heatmaps/C001/necrosis/tiles.jpg"' in page
    assert "necrosis in C002" not in page  # drawn by heads that are no longer there


def test_findings_of_other_cases_or_damaged_are_told_and_left_out(workspace):
    add_findings(workspace, cohort="another")
    result = write_report(workspace, NAME)
    assert "made of the cohort, which is another now" in result.missing["findings"]
    assert ">Findings</h2>" not in result.page.read_text()
    add_findings(workspace)
    (workspace.cohort(NAME) / "heatmaps" / "C001" / "necrosis" / "finding.json").write_text("{")
    assert "--redo" in write_report(workspace, NAME).missing["findings"]


def test_with_nothing_but_a_cohort_every_section_names_the_command_that_makes_it(workspace):
    result = write_report(workspace, NAME)
    page = Tags(read(workspace))
    for command in ("crossval", "predict", "train-teacher", "heatmap"):
        assert f"wsisurv {command}" in page.text
    for said in ("70", "row 3 (X): time is missing", "N1", "S<99"):
        assert said in page.text
    assert {path.stem for path in result.figures} == {"flow"}
    assert {"crossval", "predicted", "risks", "training", "student"} <= result.missing.keys()
    for why in result.missing.values():
        assert page.text.count(why.replace("`", "")) == 1  # once, on top
    assert not {"survival", "calibration", "external", "heatmaps"} & set(page.all("h2", "id"))


@pytest.mark.usefixtures("drawn")
def test_with_everything_there_it_shows_all_and_the_same_bytes_each_time(add_crossval, workspace):
    add_crossval(workspace)
    add_heatmaps(workspace, NASTY, "C001", "C002")
    add_rest(workspace)
    result = write_report(workspace, NAME, n_pictures=2, command=["wsisurv", "report"])
    first = read(workspace)
    page = Tags(first)
    names = {path.stem for path in result.figures}
    assert {"concordance", "differences", "survival", "calibration-1", "decision-1", "training"} <= names
    assert "risk-against-covariates" in names
    assert {path.suffix for path in result.figures} == {".png", ".svg", ".pdf"}
    assert all(path.exists() for path in result.figures)
    sources = page.all("img", "src")
    assert len(sources) == len(names) + 2
    for source in sources:
        kind, _, data = source.partition(";base64,")
        content = base64.b64decode(data)
        if kind == "data:image/jpeg":
            with Image.open(io.BytesIO(content)) as picture:
                assert max(picture.size) == 1100
        else:
            assert content.lstrip().startswith(b"<?xml")
    for said in ("Nothing is shown.", "few events", "Log-rank test", "below", "$ wsisurv report", "redness<b>", NASTY):
        assert said in page.text
    assert page.text.count("wsisurv tile 'my slides/<b>'") == 1
    assert "ended with" not in page.text  # it was run again, and was well then
    assert result.pictures == 2  # of highest and of lowest risk
    targets = set(page.all("section", "id")) | set(page.all("h2", "id")) | set(page.all("h3", "id"))
    for link in page.all("a", "href"):
        if link.startswith("#"):
            assert link[1:] in targets
        elif link.endswith((".svg", ".png", ".pdf", ".csv", ".tex")):
            assert (result.page.parent / unquote(link)).exists()
            assert not {"#", "?"} & set(link)
    files = {path: path.read_bytes() for path in result.page.parent.rglob("*.*")}
    tables = page.all("table", "data-name")
    assert all(tables)  # every table of the page has its files
    assert len(tables) == len(set(tables)) == len(result.tables) / 2
    with (result.page.parent / "tables" / "risk-groups.csv").open() as file:
        assert sum(int(row["cases"]) for row in csv.DictReader(file)) == 60
    write_report(workspace, NAME, n_pictures=2, command=["wsisurv", "report"])
    assert read(workspace) == first
    assert {path: path.read_bytes() for path in result.page.parent.rglob("*.*")} == files


def test_models_are_explained_slopes_have_intervals_and_one_repeat_is_no_mean(add_crossval, workspace):
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    record = json.loads(path.read_text())
    record["models"][1] |= {"calibration_slope": 0.8, "calibration_slope_se": 0.1}
    record["folds"] = [{**one, "train": 40, "test": 20, "selected": "plain"} for one in record["folds"]]
    path.write_text(json.dumps(record))
    write_report(workspace, NAME)
    page = read(workspace)
    assert "0.60 to 1.00" in page  # .8 ± 1.96 × .1, in the table and in the card
    assert page.count("0.60 to 1.00") == 2
    assert "<b>selected student</b>: the baseline or the distilled student" in page
    assert "<td>baseline student (no teacher)</td></tr>" in page  # what a fold selected, by its name in the table
    assert "mean over repeats" not in page
    assert "Observed / expected events, all cases:" in page
    record["folds"] += [{**one, "name": f"9-{number}"} for number, one in enumerate(record["folds"])]
    path.write_text(json.dumps(record))
    write_report(workspace, NAME)
    assert len({one["name"].partition("-")[0] for one in record["folds"]}) == 1 or "mean over repeats" in read(
        workspace
    )


def test_columns_of_cases_that_nothing_is_known_of_are_left_out(workspace):
    def heads():
        table = read(workspace).partition('id="case-table"')[2].partition("</thead>")[0]
        return re.findall(r"<th[^>]*>(.*?)</th>", table)

    write_report(workspace, NAME)
    assert not {"tiles", "log hazard", "percentile", "group", "heatmap"} & set(heads())
    add_heatmaps(workspace, "C001")
    write_report(workspace, NAME)
    assert {"tiles", "heatmap"} <= set(heads())
    assert "group" not in heads()


def test_the_top_names_the_outcome_and_leads_to_slides_and_reports(workspace):
    write_report(workspace, NAME)
    page = Tags(read(workspace))
    assert "Outcome: event; follow-up: time, in days." in page.text
    assert not [link for link in page.all("a", "href") if link.startswith("../")]
    at = (workspace.contact_sheet, workspace.root / "reports" / "evaluation" / "index.html")
    for path in at:
        path.parent.mkdir(parents=True)
        path.write_text("")
    folder = write_report(workspace, NAME).page.parent
    led = [folder / unquote(link) for link in Tags(read(workspace)).all("a", "href") if link.startswith("../")]
    assert [path.resolve() for path in led] == [path.resolve() for path in at]


def test_commands_that_failed_are_not_how_the_page_was_made(workspace):
    for words, code in ((("wsisurv", "tile", "a"), 0), (("wsisurv", "embed"), 1)):
        append_command(workspace.root, Command("2026-01-01T00:00:00+00:00", words, "/", code, 2.5, "0"))
    write_report(workspace, NAME, command=["wsisurv", "report"])
    made, failed = re.findall(r"<pre>(.*?)</pre>", read(workspace), re.DOTALL)
    assert made.split("\n") == ["$ wsisurv tile a", "$ wsisurv report"]
    assert failed == "$ wsisurv embed   # ended with 1"


def test_numbers_are_written_in_one_way(add_crossval, workspace):
    """Whatever a line of figures was written by: no hyphen for a minus, one style of p."""
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    record = json.loads(path.read_text())
    record["warnings"] = ["slope -1.55 of `x -1`"]
    record["verdict"] = ["worse (difference -0.020, p = 0.012)"]
    path.write_text(json.dumps(record))
    write_report(workspace, NAME)
    text = re.sub(r"<(style|script|pre)>.*?</\1>|<code>.*?</code>|<[^>]*>", "", read(workspace), flags=re.DOTALL)
    text = text[: text.index("How it was made", text.index("Subgroups") + 200)]  # settings are as they were typed
    assert "slope −1.55" in text
    assert "difference −0.020" in text
    assert not re.search(r"(?<![\w.-])-\d", text)
    assert not re.search(r"\bp ?[<=] ?\.|\bp[<=]|\bP ?[<=]", text)


@pytest.mark.usefixtures("drawn")
def test_competing_events_and_landmarks_are_shown(add_crossval, workspace):
    add_crossval(workspace)
    cohort, audit = read_cohort(workspace.cohort(NAME))
    chosen = tuple(replace(case, competing=not case.event and n % 2 == 0) for n, case in enumerate(cohort.cases))
    n_competing = sum(case.competing for case in chosen)
    settings = cohort.settings.model_copy(update={"event_values": ("0", "1", "2")})
    audit = replace(audit, competing=n_competing, clinical_competing=n_competing + 1)
    write_cohort(workspace.cohort(NAME), Cohort(NAME, chosen, settings), audit)
    metrics = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    record = json.loads(metrics.read_text())
    landmark = {"years": 1.0, "time": 365.25, "cases": 41, "events": 17, "models": record["models"]}
    gone = {
        "years": 9.0,
        "time": 3287.0,
        "cases": 0,
        "events": 0,
        "models": [],
        "reason": "nobody was followed so long",
    }
    metrics.write_text(json.dumps({**record, "competing": n_competing, "landmarks": [landmark, gone]}))
    write_report(workspace, NAME)
    text = Tags(read(workspace)).text
    for words in (
        "with a competing event",
        "Among those alive at 1 year",
        "41 cases alive",
        "nobody was followed so long",
        "Gray's test of cumulative incidence",
        "Wolbers's concordance",
    ):
        assert words in text, words
    svg = (workspace.cohort(NAME) / "evaluation" / "survival.svg").read_text()
    assert "Cumulative incidence" in svg
    assert "Gray" in svg
    assert "Aalen" in (workspace.cohort(NAME) / "evaluation" / "calibration-1.svg").read_text()


@pytest.mark.usefixtures("drawn")
def test_an_external_validation_stands_beside_the_training(workspace):
    path = add_external(workspace, NAME, "another student")
    rows = [Risk(str(case.case_id), ("S",), 9, case.time / -300, 50.0, "low", survival={1.0: 0.5}) for case in cases()]
    write_risks(path.with_name("external_risk.csv"), rows, horizons=[1.0])
    result = write_report(workspace, NAME)
    page = Tags(read(workspace))
    for said in ("Calibration has drifted.", "odd <slides>", "<too long>", "0.777", "0.612", "1.20 (0.80 to 1.70)"):
        assert said in page.text
    assert "+0.050 (−0.100 to +0.200)" in page.text
    assert page.text.index("Calibration has drifted.") < page.text.index("Audit")
    assert {"survival", "concordance"} <= {figure.stem for figure in result.figures}
    svg = (result.page.parent / "concordance.svg").read_text()
    assert all(f"<!-- {words} -->" in svg for words in ("student of ?", "age", "the student at home,"))
    assert "Concordance of the student of ?" in page.text  # the card; its training cohort is not in the record
    assert page.text.index("0.612") < page.text.index("Not on this page")
    assert "by a student that was trained on another cohort" in page.text
    assert "external_groups.svg" in page.all("a", "href")
    path.write_text("{")
    write_report(workspace, NAME)
    assert "damaged" in Tags(read(workspace)).text


def test_the_page_of_the_training_cohort_shows_how_its_student_did_elsewhere(workspace, student_card):
    header = make_header(model_format("student"), {}, {})
    write_model(workspace.cohort(NAME) / "student.h5", ModelFile({"a": np.zeros(1)}, student_card()), header)
    write_report(workspace, NAME)
    assert "wsisurv evaluate SLIDES" in Tags(read(workspace)).text
    add_external(workspace, "theirs", "another student")
    add_external(workspace, "ours", header.fingerprint)
    write_report(workspace, NAME)
    page = Tags(read(workspace))
    assert "ours, by the student of" in page.text
    assert "theirs" not in page.text
    assert "../../ours/evaluation/external_groups.svg" in page.all("a", "href")
    assert page.text.index("Calibration has drifted.") > page.text.index("Audit")


def test_nothing_comes_from_elsewhere_and_names_can_not_run(add_crossval, workspace):
    add_crossval(workspace)
    add_heatmaps(workspace, NASTY)
    write_report(workspace, NAME)
    page = read(workspace)
    seen = Tags(page)
    assert [tag for tag, _ in seen.tags].count("script") == 1
    assert "default-src 'none'" in page
    without_data = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?://|@import|url\(|<link|javascript:", without_data)


def test_predictions_of_the_risk_table_stand_in_and_say_so(workspace):
    rows = [
        Risk(str(case.case_id), ("S",), 10, float(number), number % 100, "low", {1.0: 0.9})
        for number, case in enumerate(cases())
    ]
    write_risks(workspace.cohort(NAME) / "risk.csv", rows, horizons=[1.0])
    seen = gather(workspace, NAME)
    assert seen.predicted is not None
    assert "risk.csv" in seen.predicted.source
    result = write_report(workspace, NAME)
    assert {"survival", "calibration-1", "decision-1"} <= {path.stem for path in result.figures}
    assert "predicted by the members that did not see it" in Tags(read(workspace)).text


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "damaged"), ("[]", "damaged"), ('{"format": "wsisurv/metrics"}', "KeyError"), ('{"format": "x"}', "format")],
)
def test_damaged_figures_are_told_on_the_page_and_leave_the_rest(add_crossval, workspace, content, said):
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=said):
        read_metrics(path)
    result = write_report(workspace, NAME)
    assert "metrics.json" in result.missing["crossval"]
    assert "metrics.json" in Tags(read(workspace)).text


def test_figures_of_before_the_selected_student_are_refused_with_the_command(add_crossval, workspace):
    """They would stand under its name and be those of the distilled one."""
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    path.write_text(path.read_text().replace('"selected"', '"distilled"'))
    with pytest.raises(FormatError, match=rf"crossval --cohort {NAME} --redo"):
        read_metrics(path)
    seen = gather(workspace, NAME)
    assert seen.metrics is None
    assert "--redo" in seen.missing["crossval"]


def test_figures_of_a_wrong_type_are_refused_in_one_line(add_crossval, workspace):
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    record = json.loads(path.read_text())
    record["models"][0]["concordance"] = "high"
    path.write_text(json.dumps(record))
    with pytest.raises(FormatError) as refused:
        read_metrics(path)
    assert "concordance" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_folds_that_are_others_than_the_figures_are_not_mixed(add_crossval, workspace):
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "crossval" / "1-2" / "risks.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "fingerprint": "other"}))
    assert "not the fold" in gather(workspace, NAME).missing["folds"]
    path.unlink()
    seen = gather(workspace, NAME)
    assert "1-2" in seen.missing["folds"]
    assert seen.predicted is None
    assert seen.metrics is not None
    write_report(workspace, NAME)
    assert "1-2" in Tags(read(workspace)).text


def test_groups_and_percentiles_are_those_fixed_in_each_folds_training(add_crossval, workspace):
    add_crossval(workspace)
    predicted = gather(workspace, NAME).predicted
    assert predicted is not None
    for risk, group, percentile in zip(predicted.log_hazard, predicted.group, predicted.percentile, strict=True):
        assert group == ("low" if risk < -1.5 else "high" if risk >= -0.5 else "intermediate")
        assert percentile == pytest.approx(100 * np.mean(np.linspace(-3, 1, 40) < risk))
    assert {model: values.shape for model, values in predicted.survival.items()} == dict.fromkeys(
        ("student", "covariates", "student_and_covariates"), (60, len(predicted.horizons))
    )


def test_one_folds_outcomes_have_no_part_in_its_own_probabilities(add_crossval, workspace):
    add_crossval(workspace)
    before = gather(workspace, NAME).predicted
    folder = workspace.cohort(NAME)
    fold = json.loads((folder / "crossval" / "1-1" / "risks.json").read_text())["case_ids"]
    changed = tuple(replace(case, event=not case.event) if case.case_id in fold else case for case in cases())
    audit = gather(workspace, NAME).audit
    write_cohort(folder, Cohort(NAME, changed, CohortSettings(site="site", covariates=("age", "stage"))), audit)
    after = gather(workspace, NAME).predicted
    assert before is not None
    assert after is not None
    rows = [number for number, case in enumerate(before.cases) if case.case_id in fold]
    others = [number for number in range(60) if number not in rows]
    assert after.survival["student"][rows] == pytest.approx(before.survival["student"][rows])
    assert after.survival["student"][others] != pytest.approx(before.survival["student"][others])


def test_figures_of_another_cohort_are_told(add_crossval, workspace):
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    record = json.loads(path.read_text())
    for made_from, warned in ((gather(workspace, NAME).cohort.fingerprint, 0), ("other", 1)):
        path.write_text(json.dumps({**record, "cohort": {**record["cohort"], "fingerprint": made_from}}))
        seen = gather(workspace, NAME)
        assert len(seen.differs) == warned
    write_report(workspace, NAME)
    assert "wsisurv crossval --redo" in Tags(read(workspace)).text


@pytest.fixture
def add_student(student_card) -> Callable[..., str]:
    """``add_student(place, **settings)`` → fingerprint of the cohort's student.h5, of its cases as they are."""

    def add(place: Workspace, **settings: object) -> str:
        inputs = {"cohort": gather(place, NAME).cohort.fingerprint}
        header = make_header(model_format("student"), settings, inputs)
        write_model(place.cohort(NAME) / "student.h5", ModelFile({"a": np.zeros(1)}, student_card()), header)
        return header.fingerprint

    return add


def add_risks(place: Workspace, student: str, **changes: Any) -> None:
    """risk.csv of all cases and the notes beside it, the log hazards those of ``add_heatmaps``."""
    table = place.cohort(NAME) / "risk.csv"
    ids = sorted(str(case.case_id) for case in cases())
    rows = [Risk(case_id, ("S",), 9, 0.1 * n, 50.0, "low", {1.0: 0.5}) for n, case_id in enumerate(ids)]
    write_risks(table, rows, horizons=[1.0])
    write_notes(table, {"student": {"fingerprint": student, "cohort": {"name": "their cohort"}}, **changes})


def differs(place: Workspace) -> str:
    """What the page says on top of parts that don't fit together."""
    result = write_report(place, NAME)
    page = Tags(read(place)).text
    for line in result.differs:
        assert line.replace("`", "") in page
        assert page.index(line.replace("`", "")) < page.index("rows of the clinical table")
    assert ("Not all of this page is of one student" in page) == bool(result.differs)
    return "\n".join(result.differs)


def test_parts_of_one_student_are_not_called_different(add_student, add_crossval, workspace):
    add_crossval(workspace)
    path = workspace.cohort(NAME) / "evaluation" / "metrics.json"
    record = json.loads(path.read_text())
    record["cohort"]["fingerprint"] = gather(workspace, NAME).cohort.fingerprint
    record["settings"]["student"] = {"epochs": 12}
    path.write_text(json.dumps(record))
    student = add_student(workspace, epochs=12)
    add_heatmaps(workspace, NASTY, "C001", "C002", student=student)
    add_risks(workspace, student)
    assert differs(workspace) == ""
    add_student(workspace, epochs=150)
    said = differs(workspace)
    assert "of a student with other settings (this one's → those: epochs: 150 → 12)" in said
    assert "risk.csv is by another student" in said
    assert "trained on their cohort" in said
    assert f"3 heatmaps ({NASTY}, C001, C002) are by another student" in said


def test_heatmaps_and_tables_of_other_students_are_told_on_top(add_student, workspace):
    student = add_student(workspace)
    first, second, third, fourth = sorted(str(case.case_id) for case in cases())[:4]
    add_heatmaps(workspace, first, second, third, student=student)
    add_risks(workspace, student)
    assert differs(workspace) == ""
    add_heatmaps(workspace, fourth)
    assert f"1 heatmaps ({fourth}) were made by an older wsisurv" in differs(workspace)
    add_risks(workspace, student, force_unfamiliar=True)
    assert "--force-unfamiliar" in differs(workspace)
    table = workspace.cohort(NAME) / "risk.csv"
    notes = json.loads(table.with_suffix(".json").read_text())
    rows = [replace(row, case_id="STRANGER") if row.case_id == "C044" else row for row in read_risks(table)]
    write_risks(table, [replace(row, log_hazard=0.9) if row.case_id == third else row for row in rows], horizons=[1.0])
    write_notes(table, {"student": notes["student"]})
    said = differs(workspace)
    assert "1 of the 60 rows of risk.csv are of no case of the cohort (STRANGER)" in said
    assert f"{third}: +0.200, +0.900" in said
    table.with_suffix(".json").unlink()
    assert "what made risk.csv is not known" in differs(workspace)


def test_a_student_of_other_cases_is_told(add_student, workspace):
    add_student(workspace)
    audit = gather(workspace, NAME).audit
    changed = tuple(replace(case, event=not case.event) for case in cases())
    write_cohort(workspace.cohort(NAME), Cohort(NAME, changed, CohortSettings(site="site")), audit)
    assert "student.h5 was trained on other cases, or other follow-up" in differs(workspace)


@pytest.mark.parametrize("crossval", [False, True])
def test_unfamiliar_cases_are_named_on_top_and_have_no_part_in_survival(add_student, add_crossval, workspace, crossval):
    if crossval:
        add_crossval(workspace)
    student, odd = add_student(workspace), {3, 5}
    ids = sorted(str(case.case_id) for case in cases())
    why = "unlike <the> training"
    rows = [
        Risk(case_id, ("S",), 9, 0.1 * n, 50.0, "unfamiliar", {1.0: None}, warning=why)
        if n in odd
        else Risk(case_id, ("S",), 9, 0.1 * n, 50.0, "low", {1.0: 0.5})
        for n, case_id in enumerate(ids)
    ]
    write_risks(workspace.cohort(NAME) / "risk.csv", rows, horizons=[1.0])
    add_heatmaps(workspace, ids[7], student=student, unfamiliar="brown <b>")
    seen = gather(workspace, NAME)
    assert seen.unfamiliar == {ids[3]: why, ids[5]: why, ids[7]: "brown <b>"}
    result = write_report(workspace, NAME)
    page = Tags(read(workspace)).text
    assert "3 of 60 cases are unfamiliar to the student" in page
    assert ", ".join([ids[3], ids[5], ids[7]]) in page
    assert "Do not believe this risk: brown <b>" in page
    assert page.count(why) == 2
    assert {"survival", "calibration-1", "decision-1"} <= {path.stem for path in result.figures}
    if not crossval:
        assert seen.predicted is not None
        assert seen.predicted.familiar.sum() == 58
        assert np.isfinite(seen.predicted.survival["student"][seen.predicted.familiar]).all()
        assert "2 of these 60 cases are unfamiliar" in page
        assert "No calibration" not in page


@pytest.mark.usefixtures("drawn")
def test_figures_of_reports_alone_are_shown_and_what_slides_would_tell_is_said_once(add_crossval, workspace):
    add_crossval(workspace)
    folder = workspace.cohort(NAME)
    record = json.loads((folder / "evaluation" / "metrics.json").read_text())
    (folder / "evaluation" / "metrics.json").unlink()
    shutil.rmtree(folder / "crossval")
    for row in record["models"]:
        row["model"] = {"selected": "words_and_findings"}.get(row["model"], row["model"])
    record["differences"][0]["model"] = "words_and_findings"
    (folder / "evaluation" / "metrics-reports-only.json").write_text(json.dumps(record))
    audit = replace(gather(workspace, NAME).audit, slides=0, cases_of_several_slides=0)
    without = tuple(replace(case, slide_ids=()) for case in cases())
    write_cohort(folder, Cohort(NAME, without, CohortSettings(site="site", covariates=("age", "stage"))), audit)
    result = write_report(workspace, NAME)
    page = Tags(read(workspace)).text
    assert {"concordance-reports-only", "differences-reports-only"} <= {path.stem for path in result.figures}
    assert "report, words and findings" in page
    assert "Nothing is shown." in page
    assert "with a slide" not in page
    assert "0 slides" not in page
    assert list(result.missing) == ["slides"]
    assert page.count("The cohort is of reports alone") == 1


def test_warnings_of_the_risk_table_stand_beside_the_cases(workspace):
    rows = [
        Risk("C001", ("S",), 1, 0.1, 50, "low", warning="very few <tiles>"),
        Risk("C002", ("S",), 9, 0.1, 50, "low"),
    ]
    write_risks(workspace.cohort(NAME) / "risk.csv", rows)
    write_report(workspace, NAME)
    assert "very few <tiles>" in Tags(read(workspace)).text


def test_of_a_fit_trained_anew_the_latest_counts(workspace):
    add_rest(workspace)
    fits = read_training(workspace.cohort(NAME) / "history.jsonl")
    assert list(fits) == ["plain student"]
    assert fits["plain student"][0].epoch.tolist() == [1, 2]
    with pytest.raises(MissingArtifactError, match="distill"):
        read_training(workspace.root / "none.jsonl")


def test_damaged_history_heatmap_and_commands_are_told(workspace):
    add_heatmaps(workspace, "C001", "C002")
    (workspace.cohort(NAME) / "heatmaps" / "C001" / "heatmap.json").write_text("{")
    (workspace.cohort(NAME) / "heatmaps" / "C002" / "S.png").write_bytes(b"no picture")
    (workspace.cohort(NAME) / "history.jsonl").write_text("7\n")
    (workspace.root / "commands.jsonl").write_text("{}\n")
    result = write_report(workspace, NAME)
    assert "heatmap.json" in result.missing["heatmaps"]
    assert "line 1" in result.missing["training"]
    assert "line 1" in result.missing["commands"]


Look = Callable[[Path, int], dict[str, Any]]

_MEASURE = """<!doctype html><iframe id="page" style="width:%dpx;height:800px;border:0" src="%s"></iframe>
<pre id="seen"></pre><script>
const page = document.getElementById("page");
page.addEventListener("load", () => {
  const inside = page.contentDocument, images = Array.from(inside.images), root = inside.documentElement;
  const cells = (column) => Array.from(inside.querySelectorAll("#case-table tbody tr"))
    .filter((row) => !row.hidden).map((row) => row.cells[column].textContent);
  const heads = Array.from(inside.querySelectorAll("#case-table th button"));
  const press = (name) => heads.filter((head) => head.textContent === name).forEach((head) => head.click());
  const shown = inside.getElementById("shown")?.textContent ?? "", all = Array.from(inside.querySelectorAll("details"));
  const folded = () => all.filter((one) => !one.open).length, before = folded();
  page.contentWindow.dispatchEvent(new Event("beforeprint"));
  const printed = folded();
  page.contentWindow.dispatchEvent(new Event("afterprint"));
  const link = inside.querySelector("nav a[href='#made']"), after = folded();
  link?.click();
  page.contentWindow.dispatchEvent(new Event("hashchange"));
  const led = inside.getElementById("made")?.closest("details").open ?? false;
  press("log hazard");
  const sorted = cells(3).map((text) => Number(text.replace("−", "-")));
  press("case");
  const names = cells(0);
  if (heads.length) {
    const search = inside.getElementById("search");
    search.value = "c00";
    search.dispatchEvent(new page.contentWindow.Event("input"));
  }
  document.getElementById("seen").textContent = JSON.stringify({
    shown, folds: [before > 0, printed, after === before], led,
    sorted, names, found: cells(0),
    overflow: root.scrollWidth - root.clientWidth, images: images.length,
    broken: images.filter((image) => !(image.complete && image.naturalWidth > 0)).length,
  });
});
</script>"""


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """``look(page, width)``: what a browser of that width makes of a page, and what it says on its console."""
    if _CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    options += ["--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom"]

    def seen(page: Path, width: int) -> dict[str, Any]:
        frame = page.with_name("frame.html")
        frame.write_text(_MEASURE % (width, page.name))
        done = subprocess.run([str(_CHROMIUM), *options, frame.as_uri()], capture_output=True, text=True, check=True)
        found = re.search(r'id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found is not None
        said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return {**json.loads(found[1]), "console": said}

    return seen


@pytest.mark.usefixtures("drawn")
def test_a_browser_shows_every_picture_says_nothing_and_scrolls_down_only(add_crossval, workspace, look):
    add_crossval(workspace)
    add_heatmaps(workspace, "C001", "C002")
    add_rest(workspace)
    result = write_report(workspace, NAME)
    for width in (390, 1200):
        seen = look(result.page, width)
        hazards, names, found = (seen.pop(name) for name in ("sorted", "names", "found"))
        assert hazards == sorted(hazards)
        assert len(names) == 60
        assert names[1:4] == ["C001", "C002", "C003"]  # after the one of odd letters
        assert found == [f"C00{number}" for number in range(1, 10)]
        assert seen == {
            "overflow": 0,
            "images": len(result.figures) // 3 + 2,
            "broken": 0,
            "shown": "60 of 60 cases",  # written by the page's own script
            "folds": [True, 0, True],  # some are folded, none in print, and then as before
            "led": True,  # a link into a folded part opens it
            "console": [],
        }, width


def test_the_look_itself_sees_what_is_wrong(tmp_path, look):
    page = tmp_path / "bad.html"
    page.write_text(
        '<!doctype html><div style="width:900px">x</div><img src="data:image/png;base64,AAAA">'
        "<script>console.error('trouble')</script>"
    )
    seen = look(page, 390)
    assert seen["overflow"] > 0
    assert seen["broken"] == 1
    assert "trouble" in seen["console"][0]


def test_a_heatmap_that_is_not_what_was_drawn_is_left_out_and_named(workspace):
    add_heatmaps(workspace, "C001", "C002")
    assert not [key for key in write_report(workspace, NAME).missing if key.startswith("heatmap of")]
    picture = next((workspace.cohort(NAME) / "heatmaps" / "C001").rglob("*.png"))
    content = bytearray(picture.read_bytes())
    content[len(content) // 2] ^= 1
    picture.write_bytes(content)
    result = write_report(workspace, NAME)
    assert str(picture) in result.missing["heatmap of C001"]
    assert "heatmap of C002" not in result.missing
