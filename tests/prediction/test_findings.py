"""Findings of single cases: probabilities beside the risks, and which tiles speak for one."""

import csv
import json
import pickle
import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wsisurv.cohort import Case, Cohort, build_cohort, read_clinical, save_cohort
from wsisurv.engine.workers import Pool
from wsisurv.errors import BackendError, EncoderMismatchError, FormatError, SettingsError, StaleError
from wsisurv.formats.atomic import write_json, write_jsonl
from wsisurv.formats.cards import FamiliarityLimit
from wsisurv.formats.finding_cards import FindingRow, FindingsCard, FindingsResult
from wsisurv.formats.finding_maps import read_finding_map
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, model_format, read_model, write_model
from wsisurv.formats.statements import ReportRecord, Statement
from wsisurv.models.familiarity import Familiarity
from wsisurv.models.finding_heads import attended
from wsisurv.pipeline.heatmap import heatmap
from wsisurv.pipeline.predict import predict
from wsisurv.prediction.findings import open_heads, require_same_features
from wsisurv.settings.cohort import CohortSettings
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

D, K = 6, 2


def row(name, *, told, why=""):
    return FindingRow(
        name=name,
        what=name,
        present=30,
        absent=50,
        not_stated=0,
        silence_is_absence=False,
        compared=80,
        prevalence=0.375,
        told=told,
        why_not=why,
    )


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    familiarity = Familiarity(np.zeros((K, 2)), np.stack([np.eye(2)] * K), np.linspace(0.1, 3, 99))
    return {
        "heads/necrosis/focus": rng.normal(size=(K, D)),
        "heads/necrosis/weights": rng.normal(size=(K, 2 * D)),
        "heads/necrosis/intercept": np.array([0.3, -0.2]),
        "usual": rng.normal(size=D) * 0.1,
        "directions": np.eye(D)[:, :2],
        **familiarity.arrays(),
    }


@pytest.fixture
def place(tmp_path, slides, save_student, tile_settings, arrays):
    """A cohort of three cases, its student and heads of necrosis; case c is like no training case."""
    workspace = Workspace(slides.root)
    folder = workspace.cohort("trial")
    cases = tuple(Case(name, 1.0 + number, number == 0, None, slide_ids=(name,)) for number, name in enumerate("abc"))
    cohort = Cohort("trial", cases, CohortSettings())
    table = tmp_path / "clinical.csv"
    table.write_text("case_id,time,event\na,1,1\nb,2,0\nc,3,0\n")
    clinical = read_clinical(table, cohort.settings)
    _, audit = build_cohort("trial", clinical, cohort.settings, slide_ids=(), report_case_ids=())
    save_cohort(folder, cohort, audit, redo=False)
    for name in "ab":
        slides.make(name, 12, coords=np.arange(24).reshape(12, 2) * 300)
    slides.make("c", 5, values=np.full((5, D), 9.0, np.float16), coords=np.zeros((5, 2), np.int64))
    save_student().rename(folder / "student.h5")
    from wsisurv.settings.embedding import EmbedSettings

    result = FindingsResult(
        cases=80,
        reports=80,
        hospitals=0,
        interval="bootstrap of cases",
        covariates=(),
        findings=(row("necrosis", told=True), row("mucin", told=False, why="AUC 0.51")),
        warnings=(),
    )
    card = FindingsCard(
        encoder="histomics",
        n_features=D,
        embed_settings=EmbedSettings().model_dump(mode="json"),
        encoder_weights="",
        tile_settings=tile_settings,
        pooling="attention",
        cohort="trial",
        members=K,
        heads=("necrosis",),
        familiarity=FamiliarityLimit(threshold=2.9),
        result=result,
    )
    header = make_header(model_format("findings"), {}, {})
    write_model(folder / "findings.h5", ModelFile(arrays, card), header)
    record = {"model": header.fingerprint, "folds": {"a": 1, "c": 0}}
    write_json(folder / "evaluation" / "findings.json", record)
    said = Statement(
        statement_id="a/1",
        category="necrosis",
        polarity="present",
        text="x",
        evidence="much necrosis",
        start=0,
        end=13,
        match="exact",
    )
    other = said.model_copy(update={"statement_id": "a/2", "category": "mucin", "evidence": "mucin"})
    report = ReportRecord(case_id="a", fingerprint="", report_sha256="", statements=(said, other))
    write_jsonl(workspace.statements, [report.model_dump(mode="json")])
    return workspace


def chance(arrays, tiles, members):
    values = tiles.astype(np.float64)
    odds = []
    for k in members:
        pooled = np.r_[values.mean(0), attended(values, arrays["heads/necrosis/focus"])[k]]
        odds.append(pooled @ arrays["heads/necrosis/weights"][k] + arrays["heads/necrosis/intercept"][k])
    return 1 / (1 + np.exp(-np.mean(odds)))


def tiles_of(workspace, slide_id):
    from wsisurv.formats.features import read_features

    return read_features(workspace.features("histomics", slide_id))[0].values


def forget_guidance(monkeypatch):
    monkeypatch.setattr("wsisurv.pipeline.predict.training_folds", lambda *_: {})


def test_predict_writes_probabilities_beside_the_risks(place, arrays, monkeypatch):
    forget_guidance(monkeypatch)
    found = predict(place, cohort="trial")
    assert found.findings == place.cohort("trial") / "findings.csv"
    with found.findings.open() as file:
        rows = {one["case_id"]: one for one in csv.DictReader(file)}
    assert list(rows["a"]) == ["case_id", "n_tiles", "necrosis", "familiarity", "warning"]
    # a is of fold 1, whose member has not seen it; b is new, so both speak
    assert float(rows["a"]["necrosis"]) == pytest.approx(chance(arrays, tiles_of(place, "a"), [1]), abs=1e-4)
    assert float(rows["b"]["necrosis"]) == pytest.approx(chance(arrays, tiles_of(place, "b"), [0, 1]), abs=1e-4)
    assert rows["c"]["necrosis"] == ""
    assert "unlike the training cases" in rows["c"]["warning"]
    assert float(rows["c"]["familiarity"]) == 0.01
    forced = predict(place, cohort="trial", force_unfamiliar=True)
    with forced.findings.open() as file:
        assert all(one["necrosis"] for one in csv.DictReader(file))
    assert json.loads(found.notes.read_text())["findings"]["table"] == "findings.csv"


def test_without_heads_there_are_no_findings_and_other_tables_have_their_own(place, monkeypatch, tmp_path):
    forget_guidance(monkeypatch)
    found = predict(place, cohort="trial", output=tmp_path / "new.csv")
    assert found.findings == tmp_path / "new-findings.csv"
    predict(place, cohort="trial")
    (place.cohort("trial") / "findings.h5").unlink()
    found = predict(place, cohort="trial")
    assert found.findings is None
    assert not (place.cohort("trial") / "findings.csv").exists()  # it would go on saying what the heads said
    assert any("findings.csv of an earlier prediction was removed" in line for line in found.warnings)
    (place.cohort("trial") / "findings.csv").write_text("mine")
    assert not any("removed" in line for line in predict(place, cohort="trial").warnings)
    assert (place.cohort("trial") / "findings.csv").read_text() == "mine"  # of no prediction of ours


def change(place, arrays=None, **card):
    path = place.cohort("trial") / "findings.h5"
    model, header = read_model(path, "findings")
    kept = {name: value for name, value in {**model.arrays, **(arrays or {})}.items() if value is not None}
    write_model(path, ModelFile(kept, model.card.model_copy(update=card)), header)


@pytest.mark.parametrize(
    "changed",
    [
        {"heads/necrosis/weights": np.zeros((K, D))},
        {"heads/necrosis/intercept": np.array([np.nan, 0.0])},
        {"heads/necrosis/focus": None},
        {"usual": np.zeros(3)},
        {"directions": None},
    ],
)
def test_heads_that_lack_something_are_refused_by_name(place, changed):
    change(place, changed)
    with pytest.raises(FormatError, match=r"findings\.h5: .*`wsisurv findings --redo`"):
        open_heads(place.cohort("trial") / "findings.h5")


def test_heads_of_other_features_or_other_folds_are_refused(place, monkeypatch):
    forget_guidance(monkeypatch)
    write_json(place.cohort("trial") / "evaluation" / "findings.json", {"model": "x", "folds": {}})
    with pytest.raises(StaleError, match=r"findings\.json: made from other .*findings\.h5, which is another now"):
        predict(place, cohort="trial")
    change(place, encoder="uni")
    with pytest.raises(EncoderMismatchError, match=r"findings\.h5: .*'uni'.*--encoder histomics"):
        predict(place, cohort="trial")


def test_a_heatmap_of_a_finding_shows_shares_of_tiles_and_quotes_the_report(place, arrays):
    (summary,) = heatmap(place, ["a"], cohort="trial", finding="necrosis").values()
    assert "drawn without pixels" in summary.failed[0].message  # the slides are not there
    folder = place.cohort("trial") / "heatmaps" / "a" / "necrosis"
    record = read_finding_map(folder)
    assert record.probability == pytest.approx(chance(arrays, tiles_of(place, "a"), [1]))
    assert record.out_of_fold
    assert record.quotes == (("present", "much necrosis"),)
    assert record.speak_for[0].log_odds > 0 > record.speak_against[0].log_odds
    squares = json.loads((folder / "a.geojson").read_text())["features"]
    shares = [json.dumps(one) for one in squares]
    assert len(shares) == 12
    assert "log_odds" in shares[0]
    for square in (one["properties"] for one in squares):
        speaks_for = square["measurements"]["log_odds"] > 0
        assert square["classification"]["name"] == ("speaks for" if speaks_for else "speaks against")
        assert (square["color"][0] >= square["color"][2]) == speaks_for
    assert (folder / "a.png").exists()


class Recorder(Pool):
    """Machines that are this one, and what was sent to them."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def n_threads(self):
        return 1

    def submit(self, fn, /, *items):
        self.sent.append(pickle.dumps((fn, items)))
        done: Future = Future()
        do, again = pickle.loads(self.sent[-1])
        done.set_result(do(*again))
        return done


def test_a_heatmap_of_a_finding_is_drawn_elsewhere_without_sending_a_word_of_the_report(place):
    record = place.cohort("trial") / "heatmaps" / "a" / "necrosis" / "finding.json"
    heatmap(place, ["a", "b"], cohort="trial", finding="necrosis")
    alone, pool = record.read_bytes(), Recorder()
    shutil.rmtree(record.parents[2])
    (summary,) = heatmap(place, ["a", "b"], cohort="trial", finding="necrosis", pool=pool).values()
    assert [failure.id for failure in summary.failed] == ["a/necrosis", "b/necrosis"]  # the slides are not there
    assert record.read_bytes() == alone
    assert b"much necrosis" in alone
    assert len(pool.sent) == 2
    assert not any(b"much" in sent for sent in pool.sent)


def test_a_case_whose_workers_die_is_a_failure_and_the_others_are_drawn(place):
    class Dying(Recorder):
        """Machines that all die of case a."""

        def submit(self, fn, /, *items):
            if items[0][0] != "a":
                return super().submit(fn, *items)
            done: Future = Future()
            done.set_result(BackendError("the Dask worker that had it died"))
            return done

    (summary,) = heatmap(place, ["a", "b"], cohort="trial", pool=Dying()).values()
    assert [(failure.id, "pixels" in failure.message) for failure in summary.failed] == [("a", False), ("b", True)]
    assert {failure.id for failure in read_failures(place, "heatmap")} == {"a", "b"}
    with pytest.raises(SettingsError, match="no such finding is known"):
        heatmap(place, ["a"], cohort="trial", finding="nonsense", pool=Dying())


def test_the_sum_over_tiles_is_the_log_odds_less_those_of_usual_tiles(place):
    heads = open_heads(place.cohort("trial") / "findings.h5")
    head, tiles = heads.head("necrosis"), tiles_of(place, "b")
    one = replace(head, **{name: value[[0]] for name, value in vars(head).items()})
    of_usual = one.log_odds(np.tile(heads.usual, (3, 1)))[0]
    assert one.tile_shares(tiles, heads.usual).sum() == pytest.approx(one.log_odds(tiles)[0] - of_usual)


def test_a_finding_that_is_not_told_is_no_heatmap_and_the_error_says_why(place):
    with pytest.raises(SettingsError, match=r"mucin: .* has no head of it \(AUC 0\.51\)\. It has: necrosis"):
        heatmap(place, ["a"], cohort="trial", finding="mucin")
    with pytest.raises(SettingsError, match="no such finding is known"):
        heatmap(place, ["a"], cohort="trial", finding="nonsense")
    record = place.cohort("trial") / "heatmaps" / "a" / "necrosis"
    heatmap(place, ["a"], cohort="trial", finding="necrosis")
    (record / "finding.json").rename(record.parent / "finding.json")
    with pytest.raises(FormatError, match="exchanged with another"):
        read_finding_map(record.parent)


def test_heads_of_other_weights_of_the_pooled_tiles_are_not_a_students():
    """Rows of whole slides have one name and no weights of their own: those of their tiles decide."""
    settings = {"encoder": "mean-uni", "weights": None, "of_tiles": {"encoder": "uni", "weights": "hub:MahmoodLab/UNI"}}
    other = {**settings, "of_tiles": {"encoder": "uni", "weights": f"sha256:{64 * '0'}"}}
    card = SimpleNamespace(encoder="mean-uni", n_features=8, embed_settings=settings)
    heads = SimpleNamespace(card=card, path=Path("findings.h5"))
    require_same_features(heads, card, Path("student.h5"))
    student = SimpleNamespace(encoder="mean-uni", n_features=8, embed_settings=other)
    with pytest.raises(
        EncoderMismatchError, match=r"weights None, hub:MahmoodLab/UNI\), but .*weights None, sha256:000"
    ):
        require_same_features(heads, student, Path("student.h5"))
