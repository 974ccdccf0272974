"""Who may read what is written: reports and follow-up are for their owner alone."""

import json
import os
from pathlib import Path

import pytest

from wsisurv.formats.atomic import GROUP_READABLE, append_jsonl, replacing, write_text
from wsisurv.reports.step import extract
from wsisurv.settings.reports import ReportSettings
from wsisurv.workspace.paths import Workspace

pytestmark = pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")


def rights(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(autouse=True)
def _usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GROUP_READABLE, raising=False)
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_reports_and_cohorts_are_for_the_owner(tmp_path: Path) -> None:
    for name in ("reports/statements.jsonl", "cohorts/a/cohort.csv", "cohorts/a/report.html", "risk.csv"):
        write_text(tmp_path / name, "x")
        assert rights(tmp_path / name) == 0o600, name
    for name in ("tiles/a.h5", "features/e/a.h5", "preview/index.html", "geojson/a.geojson"):
        write_text(tmp_path / name, "x")
        assert rights(tmp_path / name) == 0o644, name


def test_nobody_reads_while_it_is_written(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.jsonl") as partial:
        partial.write_text("x")
        assert rights(partial) == 0o600


@pytest.mark.parametrize("write", [lambda path: append_jsonl(path, {}), lambda path: write_text(path, "x")])
def test_a_file_of_before_is_tightened(tmp_path: Path, write) -> None:
    path = tmp_path / "statements.jsonl"
    path.write_text("{}\n")
    path.chmod(0o664)
    write(path)
    assert rights(path) == 0o600


def test_a_group_may_read_where_that_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GROUP_READABLE, "1")
    write_text(tmp_path / "a.csv", "x")
    append_jsonl(tmp_path / "a.jsonl", {})
    assert rights(tmp_path / "a.csv") == rights(tmp_path / "a.jsonl") == 0o640


def test_all_that_extract_report_writes(tmp_path: Path) -> None:
    source = tmp_path / "r.jsonl"
    source.write_text(json.dumps({"case_id": "A", "text": "Adenocarcinoma. No perineural invasion."}) + "\n")
    extract(Workspace(tmp_path / "w"), source, ReportSettings(backend="rules"))
    written = [file for file in (tmp_path / "w" / "reports").rglob("*") if file.is_file()]
    assert written
    assert {rights(file) for file in written} == {0o600}
