"""docs/tutorial.md: its commands are run in their order, and print what the page says."""

import re
import shlex
from pathlib import Path

import pytest

from wsisurv.cli import console

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(console|toml)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_LAST_PLACES = 0.08
"""By how much figures of a training may differ between processors."""


def _same(stated: str, seen: str) -> bool:
    """Whether a line is as stated: words and counts equal, other figures nearly; what follows a … is left out."""
    stated, seen = (" ".join(re.sub("[│┃]", " ", line).split()) for line in (stated, seen))
    if stated.endswith("…"):
        stated = stated[:-1].rstrip()
        seen = seen[: len(stated)]
    if _NUMBER.sub("#", stated) != _NUMBER.sub("#", seen):
        return False
    pairs = zip(_NUMBER.findall(stated), _NUMBER.findall(seen), strict=True)
    return all(a == b or ("." in a and abs(float(a) - float(b)) <= _LAST_PLACES) for a, b in pairs)


def _commands() -> list[tuple[str, list[str]]]:
    """What is done, in order: a command and the lines it is said to print, or text for run.toml."""
    found: list[tuple[str, list[str]]] = []
    for kind, text in BLOCKS:
        if kind == "toml":
            found.append(("", text.splitlines()))
            continue
        dry = False  # --dry-run prints commands, which are no commands of the page
        for line in text.splitlines():
            if line.startswith("$ ") and not dry:
                found.append((line[2:], []))
                dry = "--dry-run" in line
            else:
                found[-1][1].append(line)
    return found


@pytest.mark.slow
def test_the_tutorial_prints_what_it_says(run, tmp_path, monkeypatch, without_figures):
    without_figures(monkeypatch)
    for terminal in (console.out, console.err):  # COLUMNS is not asked where TERM is dumb
        monkeypatch.setattr(terminal, "_width", 400)
        monkeypatch.setattr(terminal, "_height", 100)
    monkeypatch.delenv("WSISURV_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    ran = 0
    for command, stated in _commands():
        if not command:
            with Path("run.toml").open("a") as file:
                file.write("\n" + "\n".join(stated) + "\n")
            continue
        program, *words = shlex.split(command)
        if program == "cd":
            monkeypatch.chdir(words[0])
            continue
        assert program == "wsisurv"
        ended = run(*words)
        assert ended.code == 0, ended.err
        printed = ended.out.splitlines(), ended.err.splitlines()
        for line in filter(lambda line: line.strip() != "…", stated):
            where = [next((at for at, seen in enumerate(lines) if _same(line, seen)), None) for lines in printed]
            assert where != [None, None], f"{command}\nsaid: {line}\nprinted: {ended.out}{ended.err}"
            for lines, at in zip(printed, where, strict=True):
                if at is not None:
                    del lines[: at + 1]  # in this order
                    break
        ran += 1
    assert ran == 8


@pytest.mark.parametrize(
    ("seen", "same"), [("a 3 cases, 0.61", True), ("a 3 cases, 0.9", False), ("a 4 cases, 0.61", False), ("b", False)]
)
def test_counts_are_compared_exactly_and_figures_nearly(seen, same):
    assert _same("a 3 cases, 0.632", seen) is same
