"""Text files that anybody may have touched: each reader ends in an error that names the file, never in a traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsisurv.cohort import read_cohort
from wsisurv.errors import FormatError, WsisurvError
from wsisurv.experiments.external_record import read_record
from wsisurv.formats.atomic import parse_json, read_jsonl, read_text
from wsisurv.formats.commands import read_commands
from wsisurv.formats.heatmaps import read_case_map
from wsisurv.formats.risks import read_risks
from wsisurv.formats.shown import describe
from wsisurv.formats.splits import read_splits
from wsisurv.formats.statements import read_rejected, read_statements
from wsisurv.pages.crossval_figures import read_metrics
from wsisurv.pages.gathering import read_training
from wsisurv.reports.evaluation import read_gold
from wsisurv.reports.sources import read_reports
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

READERS: dict[str, Callable[[Path], Any]] = {  # the file, in a folder of its own, and what reads it
    "commands.jsonl": lambda path: read_commands(path.parent),
    "failures/tile.jsonl": lambda path: read_failures(Workspace(path.parents[1]), "tile"),
    "history.jsonl": read_training,
    "splits.jsonl": read_splits,
    "statements.jsonl": read_statements,
    "rejected.jsonl": read_rejected,
    "reports.jsonl": read_reports,
    "reports.csv": read_reports,
    "gold.jsonl": lambda path: read_gold(path, read_reports(_one_report(path))),
    "risk.csv": read_risks,
    "audit.json": lambda path: read_cohort(path.parent),
    "cohort.csv": lambda path: read_cohort(path.parent),
    "evaluation/metrics.json": read_metrics,
    "evaluation/external.json": read_record,
    "heatmap.json": lambda path: read_case_map(path.parent),
}
DEEP = b"[" * 100_000
CONTENTS = {
    "deep": DEEP + b"\n",
    "deep objects": b'{"a":' * 50_000 + b"\n",
    "not utf-8": b'{"name": "\xff\xfe"}\n',
    "list": b"[1, 2]\n",
    "number": b"1\n",
    "null": b"null\n",
    "keys missing": b'{"x": 1}\n',
    "wrong types": b'{"id": [], "when": {}, "words": 3, "settings": 5, "audit": 1, "name": null, "case_id": {}}\n',
    "long number": b'{"seconds": ' + b"9" * 5000 + b"}\n",
    "long cell": b'a,"' + b"x" * 200_000 + b'"\n',
    "NUL": b"case_id,text\n\0,\0\n",
}


def _one_report(path: Path) -> Path:
    other = path.with_name("source.jsonl")
    other.write_text('{"case_id": "A", "text": "Adenocarcinoma."}\n')
    return other


def _said(read: Callable[[], Any]) -> str | None:
    """What the error says, where there is one; any other than ours passes."""
    try:
        read()
    except WsisurvError as error:
        return str(error)
    return None


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("name", READERS)
def test_ends_in_an_error_that_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "place" / name
    path.parent.mkdir(parents=True)
    for other in ("cohort.csv", "audit.json"):  # a cohort is two files
        (path.parent / other).write_text("{}\n")
    path.write_bytes(content)
    said = _said(lambda: READERS[name](path))
    assert said is None or ("place" in said and len(said) < 2000)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("ending", ["json", "jsonl", "csv"])
def test_show_says_what_is_wrong(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    said = _said(lambda: describe(path))
    assert said is None or str(path) in said


def test_line_and_byte_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n{}\n" + DEEP + b"\n")
    with pytest.raises(FormatError, match=r"a\.jsonl, line 3: lists or objects nested too deeply"):
        read_jsonl(path)
    path.write_bytes(b"ab\ncd\xff\n")
    with pytest.raises(FormatError, match=r"a\.jsonl, line 2: byte 5 \(0xFF\) is not UTF-8"):
        read_text(path)


def test_failure_of_a_later_wsisurv_is_read(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    known = '"path": "p", "error": "e", "message": "m", "when": "w", "fingerprint": "f"'
    place.failures("tile").parent.mkdir()
    place.failures("tile").write_text(f'{{"id": "x", {known}, "new_key": 1}}\n')
    assert [failure.id for failure in read_failures(place, "tile")] == ["x"]
    place.failures("tile").write_text('{"id": "x", "new_key": 1}\n')
    with pytest.raises(FormatError, match=r"tile\.jsonl, line 1"):
        read_failures(place, "tile")


def test_depth_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="too deeply"):
        parse_json(DEEP)
