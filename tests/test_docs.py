"""Pages that are tables of the code say what the code says."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES: dict[str, str] = runpy.run_path(str(DOCS / "tables.py"))["pages"]()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_is_the_table_of_the_code(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name], "run `python docs/tables.py`"
