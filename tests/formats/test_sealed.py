"""A text file of ours that is not as it was written is refused by its name, and files without checksums are read."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from wsisurv.cohort import Audit, Case, Cohort, read_cohort
from wsisurv.cohort.files import write_cohort
from wsisurv.errors import FormatError
from wsisurv.formats.atomic import append_jsonl, read_json, read_jsonl, write_json, write_jsonl
from wsisurv.formats.risks import Risk, read_risks, write_notes, write_risks
from wsisurv.formats.sealed import CHECKSUM
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId, SlideId

LISTS = ("dropped", "cases_without_slide", "slides_without_case", "reports_without_case")
RECORD = {"case_id": "A", "time": 12.5, "of": (1, 2), "n": {3: None}, "name": "x\udcff µ"}
READ = {"case_id": "A", "time": 12.5, "of": [1, 2], "n": {"3": None}, "name": "x\udcff µ"}


def flip(path: Path, one: str, other: str) -> None:
    text = path.read_text()
    assert text.count(one) == 1
    path.write_text(text.replace(one, other))


def test_an_object_comes_back_and_a_changed_digit_is_refused(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, RECORD)
    assert read_json(path) == READ
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))  # other spaces, another order
    assert read_json(path) == READ
    flip(path, "12.5", "12.4")
    with pytest.raises(ValueError, match="checksum is another"):
        read_json(path)
    path.write_text(json.dumps({name: part for name, part in json.loads(path.read_text()).items() if name != CHECKSUM}))
    assert read_json(path)["time"] == 12.4  # changed on purpose, or of an older wsisurv


def test_a_line_that_is_another_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [RECORD])
    append_jsonl(path, {"time": 7})
    assert read_jsonl(path) == [READ, {"time": 7}]
    flip(path, '"time": 7', '"time": 8')
    with pytest.raises(FormatError, match=r"a\.jsonl, line 2: not what was written"):
        read_jsonl(path)


def test_records_for_others_hold_no_checksum(tmp_path):
    write_jsonl(tmp_path / "risk.jsonl", [{"a": 1}], checksums=False)
    assert json.loads((tmp_path / "risk.jsonl").read_text()) == {"a": 1}


def test_a_changed_row_of_a_cohort_or_of_risks_is_refused(tmp_path):
    cases = tuple(Case(CaseId(name), 10.0, True, None, slide_ids=(SlideId(f"{name}-1"),)) for name in "AB")
    counts = {each.name: 2 for each in fields(Audit) if each.type is int}
    audit = Audit(**counts, time_unit="days", median_time=None, sites={}, **dict.fromkeys(LISTS, ()))
    write_cohort(tmp_path / "trial", Cohort("trial", cases, CohortSettings()), audit)
    assert len(read_cohort(tmp_path / "trial")[0].cases) == 2
    flip(tmp_path / "trial" / "cohort.csv", "B,B-1,10.0", "B,B-1,90.0")
    with pytest.raises(FormatError, match=r"trial: cohort\.csv or audit\.json is damaged"):
        read_cohort(tmp_path / "trial")

    table = tmp_path / "risk.csv"
    write_risks(table, [Risk("A", ("A-1",), 3, 0.25, 50.0, "low")])
    record = write_notes(table, {})
    assert read_risks(table)[0].log_hazard == 0.25
    flip(table, "0.250000", "0.750000")
    with pytest.raises(FormatError, match=r"risk\.csv"):
        read_risks(table)
    record.unlink()
    assert read_risks(table)[0].log_hazard == 0.75


def test_half_a_picture_is_an_error_and_no_file(tmp_path):
    """A limit on the size of files stands in for a full disk, which takes a part of a write before it refuses."""
    program = f"""
import resource
from pathlib import Path
from PIL import Image
from wsisurv.errors import StorageError
from wsisurv.formats.pictures import write_picture
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try: write_picture(Path({str(tmp_path)!r}) / "a.jpg", Image.effect_noise((200, 200), 50), "JPEG")
except StorageError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "a.jpg: no room to write" in done.stdout
    assert list(tmp_path.iterdir()) == []
