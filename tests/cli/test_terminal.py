"""Names of files and words of servers reach the terminal as words: no orders to it, no markup."""

import io
import json

import pytest
from rich.console import Console
from rich.table import Table

from wsisurv.cli.console import Terminal, visible

HOSTILE = "a\x1b[31mRED\x1b]0;title\x07\x9b2J\u202egnp.[bold]b[/bold]:smile:[/]\r\x08"
RAW = ("\x1b", "\x07", "\x9b", "\u202e", "\r", "\x08")


def printed(what: object, monkeypatch: pytest.MonkeyPatch) -> str:
    terminal = Terminal(width=200)
    monkeypatch.setattr(terminal, "_file", io.StringIO())
    terminal.print(what)
    return terminal.file.getvalue()


@pytest.mark.parametrize("where", ["text", "cell", "title"])
def test_nothing_raw_and_no_markup(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what: object = HOSTILE
    if where != "text":
        what = Table(title=HOSTILE if where == "title" else None)
        what.add_column("name")
        what.add_row(HOSTILE)
    shown = printed(what, monkeypatch)
    assert not any(raw in shown for raw in RAW)
    for kept in ("RED", "[bold]b[/bold]", ":smile:", "\\u001b"):
        assert kept in shown


def test_names_of_all_the_world_stay() -> None:
    for name in ("Müller-ß.svs", "腺癌", "Łódź\tx\ny", "naïve 🔬"):
        assert visible(name) == name
    assert json.loads('"' + visible("\x9b\x1b") + '"') == "\x9b\x1b"
    assert visible("\udcff") == "\\udcff"


def test_no_other_console_prints() -> None:
    from wsisurv.cli import console

    assert isinstance(console.out, Terminal)
    assert isinstance(console.err, Terminal)
    assert Console not in (type(console.out), type(console.err))


def test_a_slide_with_escapes_in_its_name(run, tmp_path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "a\x1b[31mRED\x1b]0;title\x07[bold].svs").write_text("x")
    ended = run("tile", folder, "-w", tmp_path / "w")
    assert ended.code == 1
    assert "RED" in ended.err
    assert "[bold]" in ended.err
    assert not any(raw in ended.err + ended.out for raw in RAW)


def test_an_error_that_names_such_a_file(run, tmp_path) -> None:
    reports = tmp_path / "r\x1b[31m.jsonl"
    reports.write_text("[" * 100_000)
    ended = run("extract-report", reports, "--backend", "rules", "-w", tmp_path / "w")
    assert ended.code == 1
    assert "nested too deeply" in ended.err
    assert "\x1b" not in ended.err
