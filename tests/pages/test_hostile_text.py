"""Markup in any text that a page shows stays text: every template is filled with it, wherever a word may stand."""

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jinja2 import UndefinedError
from pydantic import BaseModel

from wsisurv.pages import cohort_page, contact_sheet, file_card, rendering, statements_page, tripod_files
from wsisurv.pages.card_parts import CardPart, FileCard
from wsisurv.pages.contact_sheet import SlideEntry
from wsisurv.pages.tripod import TripodRow
from wsisurv.pages.tripod_items import tripod_items
from wsisurv.workspace.paths import Workspace

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>`<b>`{{ 7 * 7 }}"
NAMED_BY_USERS = {"facts", "settings", "versions", "sites", "trained"}  # mappings whose keys are shown too
OURS = {"category", "id", "number", "script"}  # words that choose a colour or an anchor; never a user's

Shown = tuple[str, dict[str, Any]]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"pages_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


cohort_tests, statement_tests = load("test_cohort_page"), load("test_statements_page")
workspace, add_crossval = cohort_tests.workspace, cohort_tests.add_crossval


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch, without_figures: Callable[[pytest.MonkeyPatch], None]) -> None:
    without_figures(monkeypatch)


class Elements(HTMLParser):
    """Kinds of elements with the names of their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.kinds: set[tuple[str, str]] = set()
        self.scripts = 0
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.kinds |= {(tag, name) for name, _ in attrs} | {(tag, "")}

    def handle_data(self, data: str) -> None:
        self.text += data


def spoil(value: Any, name: str = "") -> Any:
    """The same value with markup at the end of every word in it."""
    if isinstance(value, str):
        return value if name in OURS else value + EVIL
    if isinstance(value, BaseModel):
        changed = {field: spoil(getattr(value, field), field) for field in type(value).model_fields}
        return value.model_copy(update=changed)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{one.name: spoil(getattr(value, one.name), one.name) for one in fields(value) if one.init}
        )
    if isinstance(value, Mapping):
        shown = name in NAMED_BY_USERS
        return {
            spoil(key) if shown and isinstance(key, str) else key: spoil(one, str(key)) for key, one in value.items()
        }
    if isinstance(value, tuple | list):
        return type(value)(spoil(one, name) for one in value)
    return value


def cohort(workspace: Workspace, add_crossval: Callable[[Workspace], None]) -> None:
    add_crossval(workspace)
    cohort_tests.add_heatmaps(workspace, "C001", "C002")
    cohort_tests.add_rest(workspace)
    cohort_tests.add_findings(workspace)
    cohort_tests.add_external(workspace, cohort_tests.NAME, "another student")
    cohort_page.write_report(workspace, cohort_tests.NAME, n_pictures=1, command=["wsisurv", "report"])


def empty_cohort(workspace: Workspace, _: Callable[[Workspace], None]) -> None:
    cohort_page.write_report(workspace, cohort_tests.NAME)


def statements(workspace: Workspace, _: Callable[[Workspace], None]) -> None:
    made = statement_tests.records()
    scores = statement_tests.evaluate_reports(made, statement_tests.REPORTS)
    statements_page.write_statements_page(
        workspace.root / "s.html", made, statement_tests.REPORTS, statement_tests.REJECTED, scores
    )


def card(workspace: Workspace, _: Callable[[Workspace], None]) -> None:
    part = CardPart("part", ("words",), {"name": "value"}, ("head",), (("cell",),))
    file_card.write_card(workspace.root / "c.html", FileCard("title", (part,), ("warning",), {}))


def tripod(workspace: Workspace, _: Callable[[Workspace], None]) -> None:
    rows = [TripodRow(item, ("known",), item.question) for item in tripod_items()]
    workspace.root.mkdir(exist_ok=True)
    tripod_files.write_tripod(workspace.root, "name", rows, b"<svg/>")


def sheet(workspace: Workspace, _: Callable[[Workspace], None]) -> None:
    slides = [SlideEntry("S", 3, 0.5, 0.25, ("flag",), "S.jpg"), SlideEntry("T", 0, None, None, (), "")]
    contact_sheet.write_page(workspace.contact_sheet, "contact_sheet.html", slides=slides)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """Each page that is rendered, with all that it was given."""
    seen: list[Shown] = []
    real = rendering.render

    def note(template: str, **given: Any) -> str:
        seen.append((template, given))
        return real(template, **given)

    monkeypatch.setattr(rendering, "render", note)
    monkeypatch.setattr(statements_page, "render", note)
    return seen


@pytest.mark.parametrize("make", [cohort, empty_cohort, statements, card, sheet, tripod])
def test_markup_in_every_text_field_stays_text(workspace, add_crossval, shown, make):
    make(workspace, add_crossval)
    ((template, given),) = shown
    clean = Elements(rendering.render(template, **given))
    page = rendering.render(template, **spoil(given))
    seen = Elements(page)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert seen.kinds <= clean.kinds | {("code", "")}
    assert seen.scripts == clean.scripts
    assert seen.text.count("<script>alert(1)</script>") >= 3
    assert "{{ 7 * 7 }}" in seen.text


def test_every_template_is_filled_in_here() -> None:
    folder = Path(rendering.__file__).parent / "templates"
    pages = {path.name for path in folder.glob("*.html") if "{% extends" in path.read_text(encoding="utf-8")}
    assert pages == {"cohort.html", "statements.html", "file_card.html", "contact_sheet.html", "tripod.html"}


def test_nothing_is_marked_as_safe_and_a_name_that_is_not_given_is_an_error() -> None:
    folder = Path(rendering.__file__).parent / "templates"
    for path in folder.iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup", path.read_text(encoding="utf-8")), path.name
    with pytest.raises(UndefinedError):
        rendering.render("contact_sheet.html")
