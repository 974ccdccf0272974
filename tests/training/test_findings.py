"""``findings``: which findings are told, what is said of the others, and bad input."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simulation

from wsisurv.cohort import Case, Cohort
from wsisurv.errors import CohortError, MissingArtifactError, StaleError
from wsisurv.formats.atomic import read_json, write_jsonl
from wsisurv.formats.models import read_model
from wsisurv.formats.statements import ReportRecord, Statement, statements_fingerprint
from wsisurv.models.finding_table import KINDS
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.findings import FindingsSettings
from wsisurv.training.findings import learn_findings
from wsisurv.units import CaseId, SlideId
from wsisurv.workspace.paths import Workspace

SETTINGS = FindingsSettings(pooling="mean", resamples=200)
N = 160


def statement(case_id, category, polarity, text="x"):
    return Statement(
        statement_id=f"{case_id}/{category}",
        category=category,
        polarity=polarity,
        text=text,
        evidence=text,
        start=0,
        end=1,
        match="exact",
    )


def write_reports(workspace, reports):
    records = [
        ReportRecord(
            case_id=case_id,
            fingerprint=statements_fingerprint(statements),
            report_sha256="",
            statements=tuple(statements),
        )
        for case_id, statements in reports.items()
    ]
    write_jsonl(workspace.statements, (record.model_dump(mode="json") for record in records))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A cohort of 8 hospitals: tiles tell necrosis, not vessels; only hospitals differ in nerves; mitoses in every one.

    Age goes with necrosis, too, a little.
    """
    rng = np.random.default_rng(1)
    workspace = Workspace(tmp_path_factory.mktemp("planted"))
    cases, reports = [], {}
    for number in range(N):
        case_id, hospital = f"case{number:03d}", int(rng.integers(0, 8))
        necrosis, vessels = rng.random(2) < 0.5
        nerves = rng.random() < (0.9 if hospital < 4 else 0.1)
        tiles = rng.normal(size=(12, 6)) + rng.normal(0, 0.2, 6)
        tiles[:, 0] += 0.8 * necrosis
        tiles[:, 1] += 2.0 if hospital < 4 else -2.0
        simulation.write_slide_features(workspace, f"{case_id}-0", tiles.astype(np.float16), EmbedSettings())
        covariates = {"age": f"{60 + 5 * necrosis + rng.normal(0, 6):.0f}"}
        slides = (SlideId(f"{case_id}-0"),)
        cases.append(
            Case(
                CaseId(case_id),
                float(rng.integers(10, 999)),
                bool(number % 8 == 0),  # 20 events
                f"h{hospital}",
                covariates=covariates,
                slide_ids=slides,
            )
        )
        reports[case_id] = [
            statement(case_id, "lymphovascular_invasion", "present" if vessels else "absent"),
            statement(case_id, "perineural_invasion", "present" if nerves else "absent"),
            statement(case_id, "mitoses", "present"),
            *([statement(case_id, "necrosis", "present")] if necrosis else []),
        ]
    write_reports(workspace, reports)
    cohort = Cohort("trial", tuple(cases), CohortSettings(site="site", covariates=("age",)))
    return workspace, cohort, reports, learn_findings(workspace, cohort, SETTINGS)


def rows(result):
    return {row.name: row for row in result.findings}


def test_the_planted_finding_alone_is_told_and_the_others_say_why_not(planted):
    workspace, cohort, reports, result = planted
    found = rows(result)
    assert [row.name for row in result.told] == ["necrosis"]
    necrosis = found["necrosis"]
    assert necrosis.low > 0.7
    assert necrosis.brier < necrosis.brier_of_prevalence - 0.02
    assert 0.5 < necrosis.calibration_slope < 2
    assert 0.5 < necrosis.covariates_auc < necrosis.auc
    assert necrosis.difference == pytest.approx(necrosis.auc - necrosis.covariates_auc)
    assert necrosis.difference_low > 0
    assert "not above .5" in found["perineural_invasion"].why_not  # hospitals differ in it, and in their stain
    assert found["lymphovascular_invasion"].why_not
    assert found["mitoses"].why_not == "every report that speaks of it states it"
    assert found["serous"].why_not == "no report states it"
    present = sum(any(one.category == "necrosis" for one in several) for several in reports.values())
    assert (necrosis.present, necrosis.absent, necrosis.not_stated) == (present, 0, N - present)
    assert necrosis.prevalence == pytest.approx(present / N)
    assert result.interval == "bootstrap of hospitals"
    assert result.warnings == ()


def test_files_say_what_was_found_and_hold_heads_of_what_is_told(planted):
    workspace, cohort, _, result = planted
    folder = workspace.cohort("trial")
    model, header = read_model(folder / "findings.h5", "findings")
    assert model.card.heads == ("necrosis",)
    assert model.card.result == result
    assert {name.split("/")[1] for name in model.arrays if name.startswith("heads/")} == {"necrosis"}
    record = read_json(folder / "evaluation" / "findings.json")
    assert record["model"] == header.fingerprint
    assert set(record["folds"]) == {str(case.case_id) for case in cohort.cases}
    with (folder / "evaluation" / "findings.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == [kind.name for kind in KINDS]
    assert float(table[[row["name"] for row in table].index("necrosis")]["auc"]) == pytest.approx(
        rows(result)["necrosis"].auc, abs=1e-4
    )


def copy(planted, tmp_path):
    import shutil

    workspace, cohort, reports, _ = planted
    return Workspace(shutil.copytree(workspace.root, tmp_path / "workspace")), cohort, reports


def test_it_is_kept_until_settings_or_statements_change(planted, tmp_path):
    workspace, cohort, reports = copy(planted, tmp_path)
    before = (workspace.cohort("trial") / "findings.h5").read_bytes()
    assert learn_findings(workspace, cohort, SETTINGS).kept
    with pytest.raises(StaleError, match="seed"):
        learn_findings(workspace, cohort, SETTINGS.model_copy(update={"seed": 1}))
    write_reports(workspace, {case_id: several for case_id, several in reports.items() if case_id != "case000"})
    with pytest.raises(StaleError, match="statements"):
        learn_findings(workspace, cohort, SETTINGS)
    assert learn_findings(workspace, cohort, SETTINGS, redo=True).reports == N - 1
    write_reports(workspace, reports)
    learn_findings(workspace, cohort, SETTINGS, redo=True)
    assert (workspace.cohort("trial") / "findings.h5").read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"pooling": "attention"}, {"fewest": 78}, {"folds": 3}, {"resamples": 100}, {"seed": 2}]
)
def test_each_setting_changes_the_figures(planted, tmp_path, change):
    workspace, cohort, _ = copy(planted, tmp_path)
    other = learn_findings(workspace, cohort, SETTINGS.model_copy(update=change), redo=True)
    name = "perineural_invasion" if "fewest" in change else "necrosis"
    assert rows(other)[name] != rows(planted[3])[name]


def test_features_of_another_encoder_are_those_that_are_read(planted, tmp_path):
    workspace, cohort, _ = copy(planted, tmp_path)
    with pytest.raises(MissingArtifactError, match="histomics"):
        learn_findings(workspace, cohort, SETTINGS.model_copy(update={"encoder": "uni"}))


def test_reports_of_other_cases_are_an_error_that_names_both(planted, tmp_path):
    workspace, cohort, reports = copy(planted, tmp_path)
    write_reports(workspace, {f"other-{case_id}": several for case_id, several in reports.items()})
    with pytest.raises(CohortError, match=r"statements\.jsonl: no case .* other-case000 .*extract-report"):
        learn_findings(workspace, cohort, SETTINGS, redo=True)
    assert read_model(workspace.cohort("trial") / "findings.h5", "findings")[0].card.heads  # what was there is there
    workspace.statements.unlink()
    with pytest.raises(MissingArtifactError, match="extract-report"):
        learn_findings(workspace, cohort, SETTINGS, redo=True)


def test_shuffled_reports_give_no_head_and_a_warning(planted, tmp_path):
    workspace, cohort, reports = copy(planted, tmp_path)
    order = np.random.default_rng(4).permutation(N)
    told = list(reports.values())
    write_reports(workspace, {case_id: told[other] for case_id, other in zip(reports, order, strict=True)})
    result = learn_findings(workspace, cohort, SETTINGS, redo=True)
    assert not result.told
    assert "Are the reports those of these cases?" in result.warnings[-1]
    assert read_model(workspace.cohort("trial") / "findings.h5", "findings")[0].card.heads == ()


@pytest.mark.parametrize(
    ("site", "words"), [("h1", "all cases are of one hospital"), (None, "the hospital is known of 0 of 160")]
)
def test_one_hospital_or_unknown_ones_are_said(planted, tmp_path, site, words):
    workspace, cohort, _ = copy(planted, tmp_path)
    cohort = replace(cohort, cases=tuple(replace(case, site=site) for case in cohort.cases))
    result = learn_findings(workspace, cohort, SETTINGS, redo=True)
    assert any(words in one for one in result.warnings)
    assert result.interval == "bootstrap of cases"
    assert "necrosis" in {row.name for row in result.told}


def test_few_reports_are_said_and_few_cases_give_no_head(planted, tmp_path):
    workspace, cohort, reports = copy(planted, tmp_path)
    write_reports(workspace, dict(list(reports.items())[:30]))
    result = learn_findings(workspace, cohort, SETTINGS, redo=True)
    assert any("30 of 160 cases have statements" in one for one in result.warnings)
    assert "no finding has cases enough" in result.warnings[-1]
    assert "(--fewest)" in rows(result)["necrosis"].why_not
    assert Path(workspace.cohort("trial") / "findings.h5").exists()
