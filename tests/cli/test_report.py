"""heatmap and report as a person types them, and what a person can get wrong."""

import shutil

import pytest

from wsisurv.cohort import read_cohort
from wsisurv.formats.commands import read_commands
from wsisurv.formats.heatmaps import read_case_map
from wsisurv.formats.risks import read_risks
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def place(trained, tmp_path) -> Workspace:
    """A copy of the trained demo, to be written into."""
    shutil.copytree(trained / "workspace", tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


def test_a_case_is_explained_as_it_is_predicted_and_is_on_the_page(run, place):
    assert run("predict", "-w", place.root).code == 0
    folder = place.cohort("demo")
    rows = {row.case_id: row for row in read_risks(folder / "risk.csv")}
    case_id = max(rows, key=lambda one: rows[one].n_tiles)
    ended = run("heatmap", case_id, "-w", place.root, "--tiles", 2)
    assert ended.code == 0, ended.err
    record = read_case_map(folder / "heatmaps" / case_id)
    assert record.log_hazard == pytest.approx(rows[case_id].log_hazard, abs=1e-4)
    assert record.out_of_fold
    row = rows[case_id]
    assert (record.percentile, record.group, record.familiarity) == (
        pytest.approx(row.risk_percentile, abs=0.06), row.risk_group, pytest.approx(row.familiarity, abs=0.06),
    )  # fmt: skip
    assert record.top is not None
    assert record.top.features[0].unit
    assert "1 kept" in run("heatmap", case_id, "-w", place.root, "--tiles", 2).out
    ended = run("report", "-w", place.root, "--tripod")
    assert ended.code == 0, ended.err
    assert "1 heatmaps" in ended.out
    assert "tripod.md" in ended.out
    assert (folder / "evaluation" / "tripod.html").exists()
    assert (folder / "evaluation" / "tables" / "cases.csv").exists()
    page = (folder / "evaluation" / "index.html").read_text()
    assert "wsisurv crossval" in page  # was not run
    assert f"$ wsisurv heatmap {case_id}" in page
    assert [command.words[1] for command in read_commands(place.root)][-4:] == [
        "predict", "heatmap", "heatmap", "report",
    ]  # fmt: skip


def test_slides_that_were_given_to_predict_are_explained_by_all_members(run, place):
    held_out = sorted(path.parent for path in (place.root / "predict").glob("*/features"))[0]
    slide_id = Workspace(held_out).embedded_slides("histomics")[0]
    ended = run("heatmap", slide_id, "-w", place.root)
    assert ended.code == 0, ended.err
    record = read_case_map(place.root / "predict" / "heatmaps" / slide_id)
    assert not record.out_of_fold
    assert record.members > 1


def test_shares_of_cases_draw_the_same_files(run, place):
    cases = [str(case.case_id) for case in read_cohort(place.cohort("demo"))[0].cases[:3]]
    folder = place.cohort("demo") / "heatmaps"

    def drawn():
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}

    words = ["heatmap", *cases, "-w", place.root, "--tiles", 2]
    assert run(*words).code == 0
    alone = drawn()
    shutil.rmtree(folder)
    assert 'TASK_ID + 1))/2"' in run("submit", "--dry-run", "--each", 2, *words).out
    assert not folder.exists()
    assert "2 done" in run(*words, "--shard", "1/2").out
    assert sorted(path.name for path in folder.iterdir()) == sorted([cases[0], cases[2]])
    assert "1 done" in run(*words, "--shard", "2/2").out
    assert drawn() == alone
    assert "no case is of this share" in run(*words, "--shard", "4/4").out


def test_wrong_names_end_in_a_message_with_the_way_out(run, place, tmp_path):
    assert "--all" in run("heatmap", "-w", place.root).err
    known = read_known(place)
    ended = run("heatmap", known[:-1], "-w", place.root)
    assert ended.code == 1
    assert "did you mean" in ended.err
    for command in (["heatmap", known], ["report"]):
        ended = run(*command, "--cohort", "nope", "-w", place.root)
        assert ended.code == 1
        assert "nope" in ended.err
        assert "demo" in ended.err
    (place.cohort("demo") / "student.h5").unlink()
    ended = run("heatmap", known, "-w", place.root)
    assert ended.code == 1
    assert "wsisurv distill" in ended.err
    ended = run("heatmap", known, "--student", tmp_path / "none.h5", "-w", place.root)
    assert ended.code == 1
    assert "none.h5" in ended.err


def read_known(place: Workspace) -> str:
    """Some case of the cohort."""
    return (place.cohort("demo") / "cohort.csv").read_text().splitlines()[1].split(",")[0]


def test_a_cohort_whose_table_is_damaged_is_refused(run, place):
    (place.cohort("demo") / "audit.json").write_text("{")
    ended = run("report", "-w", place.root)
    assert ended.code == 1
    assert "audit.json" in ended.err


def test_commands_that_fail_are_noted_with_their_exit_code_and_looks_are_not(run, tmp_path, make_slide):
    make_slide(tmp_path / "slides" / "S.tiff", (700, 700))
    place = tmp_path / "workspace"
    assert run("tile", tmp_path / "slides", "-w", place, "--dry-run").code == 0
    assert read_commands(place) == []
    assert run("report", "-w", place).code == 1
    assert not place.exists()
    assert run("tile", tmp_path / "slides", "-w", place).code == 0
    assert run("report", "-w", place).code == 1
    assert [(command.words[1], command.exit_code) for command in read_commands(place)] == [("tile", 0), ("report", 1)]


def test_a_password_in_an_address_is_not_noted(run, tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "A.txt").write_text("Gleason 4.")
    place = tmp_path / "workspace"
    place.mkdir()
    ended = run("extract-report", tmp_path / "reports", "-w", place, "--host", "http://me:secret@127.0.0.1:9")
    assert ended.code == 1
    (command,) = read_commands(place)
    assert "http://…@127.0.0.1:9" in command.words
    assert "secret" not in (place / "commands.jsonl").read_text()


def test_the_way_to_a_word_file_is_said_whole_where_python_docx_is_missing(run, tmp_path, monkeypatch):
    from wsisurv.cohort import Audit, Case, Cohort, write_cohort
    from wsisurv.pages import tripod_files
    from wsisurv.settings.cohort import CohortSettings
    from wsisurv.units import CaseId

    chosen = tuple(Case(CaseId(f"c{k}"), float(k + 1), k % 2 == 0) for k in range(6))
    audit = Audit(6, 6, 3, 0, 6, 3, 6, 0, 0, "days", 3.0, {}, (), (), (), ())
    write_cohort(Workspace(tmp_path).cohort("c"), Cohort("c", chosen, CohortSettings()), audit)
    real = tripod_files.importlib.util.find_spec
    monkeypatch.setattr(
        tripod_files.importlib.util, "find_spec", lambda name, *rest: None if name == "docx" else real(name, *rest)
    )
    ended = run("report", "--tripod", "-w", tmp_path)
    assert ended.code == 0, ended.err
    assert "pip install 'wsisurv[docx]'" in " ".join(ended.out.split())
    assert "pip install python-docx" in " ".join(run("report", "--help").out.replace("│", " ").split())
