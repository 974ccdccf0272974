"""One staleness check: what it says, and that nobody else decides."""

import ast
from pathlib import Path

import pytest

import wsisurv
from wsisurv.errors import StaleError
from wsisurv.formats.header import create, make_header
from wsisurv.workspace.freshness import Condition, Origin, all_done, check, compare, require_fresh

ROOM = Path(wsisurv.__file__).parent


def test_stale_is_raised_in_one_place_only():
    raising = set()
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "StaleError":
                raising.add(path.relative_to(ROOM).as_posix())
    assert raising == {"workspace/freshness.py"}


def test_equal_fingerprints_are_fresh_whatever_else_is_said():
    assert compare(Origin("a", {"x": 1}), Origin("a", {"x": 2}), also=["other"]).done


def test_settings_groups_inputs_and_words_are_all_named():
    seen = compare(
        Origin("a", {"teacher": {"epochs": 6, "hidden": 8}, "seed": 1}, {"slide": "x", "mask": "m"}),
        Origin("b", {"teacher": {"epochs": 7, "hidden": 8}, "seed": 1}, {"slide": "y", "mask": "m"}),
        also=["two cases gone"],
    )
    assert seen.condition is Condition.STALE
    assert set(seen.changes) == {"two cases gone", "teacher.epochs: 6 → 7", "slide is not the one it was made from"}


def test_where_nothing_tells_the_difference_it_is_said_to_be_in_the_inputs():
    assert "inputs" in compare(Origin("a"), Origin("b")).changes[0]


def test_the_message_names_a_file_how_many_more_what_changed_and_the_way_out():
    stale = compare(Origin("a", {"seed": 1}), Origin("b", {"seed": 2}))
    fresh = compare(Origin("a"), Origin("a"))
    require_fresh({Path("one"): fresh})
    with pytest.raises(StaleError, match=r"^two and 1 more: .*\(seed: 1 → 2\)\. Run this first\.$"):
        require_fresh({Path("one"): fresh, Path("two"): stale, Path("three"): stale}, remedy="Run this first.")


def test_files_of_a_run_are_done_all_together(tmp_path):
    wanted = {tmp_path / name: make_header("wsisurv/test", {"size": 1}, {}) for name in ("a.h5", "b.h5")}
    other = {path: make_header("wsisurv/test", {"size": 2}, {}) for path in wanted}
    assert not all_done(wanted, redo=False)
    for number, (path, header) in enumerate(wanted.items()):
        assert all_done(wanted, redo=False) is False, number
        with create(path, header):
            pass
    assert all_done(wanted, redo=False)
    with pytest.raises(StaleError, match=r"a\.h5 and 1 more: .*size: 1 → 2"):
        all_done(other, redo=False)
    assert not all_done(other, redo=True)
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    assert check(tmp_path / "a.h5", wanted[tmp_path / "a.h5"]).condition is Condition.DAMAGED
