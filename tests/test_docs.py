"""Pages that are tables of the code say what the code says."""

import re
import runpy
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.formats.features import Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.units import SlideId

DOCS = Path(__file__).parents[1] / "docs"
PAGES: dict[str, str] = runpy.run_path(str(DOCS / "tables.py"))["pages"]()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_is_the_table_of_the_code(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name], "run `python docs/tables.py`"


def test_every_key_of_a_features_file_is_told(tmp_path):
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    coords = np.zeros((2, 2), np.int64)
    features = Features(SlideId("a"), np.zeros((2, 3)), coords, "histomics", tuple("abc"), {}, 0.5, units=tuple("abc"))
    write_features(tmp_path / "a.h5", features, make_header("wsisurv/features", {}, {}))
    of_all, of_features = page.split("## Root attributes")[1], page.split("## features/ENCODER")[1].split("\n## ")[0]
    with h5py.File(tmp_path / "a.h5") as file:
        untold = [name for name in [*file, *file.attrs] if f"`{name}`" not in of_features]
        assert [name for name in untold if f"| `{name}` |" not in of_all.split("\n## ")[0]] == []


def test_the_map_of_the_house_names_files_and_rooms_that_are_there():
    page, house = (DOCS / "architecture.md").read_text(encoding="utf-8"), DOCS.parent / "wsisurv"
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", page))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (house / name).exists() and not (DOCS.parent / name).exists()] == []
    rooms = {path.parent.name for path in house.glob("*/__init__.py")}
    assert [room for room in sorted(rooms) if not re.search(rf"^ .*│ {room}\b", page, re.M)] == []
    lines = {room: sum(len(path.read_bytes().splitlines()) for path in (house / room).rglob("*.py")) for room in rooms}
    assert {room: n for room, n in lines.items() if n > 0.12 * sum(lines.values())} == {}
    said = dict(re.findall(r"`(\w+)` ([\d,]+)", page.split("How large they are")[1].split("\n\n")[0]))
    assert said.keys() == rooms
    assert {room: n for room, n in said.items() if abs(int(n.replace(",", "")) / lines[room] - 1) > 0.25} == {}


def test_messages_of_the_troubleshooting_page_are_the_programs_own():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    assert len(messages) >= 15
    code = " ".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "wsisurv").rglob("*.py"))
    code = re.sub(r'"\s+f?"', "", code)  # a string that goes on in the next line
    assert [message for message in messages if message not in code] == []
    options = set(re.findall(r"`(--[a-z-]+)", page))
    spelled = {f"--{name}" for name in re.findall(r"\b([a-z][a-z_]+): Annotated", code.replace("_", "-"))}
    assert [one for one in options if one not in code and one not in spelled] == []
