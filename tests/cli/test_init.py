"""`wsisurv init`: proposes what the columns of a table mean, and never guesses in silence."""

import tomllib

import pytest

from wsisurv.cli.run_file import parse_run

CASES = [f"P{number:02d}" for number in range(12)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with slides, by their names alone."""
    (tmp_path / "slides").mkdir()
    for case in CASES:
        (tmp_path / "slides" / f"{case}-1.svs").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(place, head, *columns):
    """A clinical table of twelve rows; a column is a function of the row's number."""
    rows = [",".join(str(column(number)) for column in columns) for number in range(len(CASES))]
    (place / "t.csv").write_text("\n".join([head, *rows]) + "\n")


def start(run, *words):
    return run("init", "slides", "--clinical", "t.csv", *words)


def case(n):
    return CASES[n]


def days(n):
    return 300 + 97 * n


def said(text):
    return " ".join(text.replace("│", " ").split())


def test_what_is_clear_is_proposed_with_its_reason_and_can_be_run(run, place):
    table(place, "lab,patient,os_days,vital_status,hospital,age,stage,note", lambda n: 100 + n, case, days,
          lambda n: ["Alive", "Dead"][n % 2], lambda n: f"H{n % 3}",
          lambda n: 50 + n, lambda _: "I", lambda _: "x")  # fmt: skip
    ended = start(run, "--cohort", "crc")
    assert ended.code == 0, ended.err
    written = tomllib.loads((place / "run.toml").read_text())
    assert written["slides"] == ["slides"]
    assert written["cohort"] == {
        "name": "crc",
        "case": "patient",
        "time": "os_days",
        "event": "vital_status",
        "event_values": ["Alive", "Dead"],
        "time_unit": "days",
        "site": "hospital",
        "covariates": ["age", "stage"],
    }
    assert "case: patient (its ids begin the names of 12 slides)" in said(ended.out)
    for row in range(5):
        assert f"{CASES[row]} {days(row)} {['Alive → censored', 'Dead → event'][row % 2]}" in said(
            ended.out.replace("│", " ")
        )
    assert CASES[5] not in ended.out
    file = parse_run(place / "run.toml", written, "w")
    assert "--event-values" in file.words["cohort"]
    before = (place / "run.toml").read_bytes()
    assert start(run).code == 2  # it is there
    assert (place / "run.toml").read_bytes() == before
    assert start(run, "--force", "--cohort", "other").code == 0
    assert tomllib.loads((place / "run.toml").read_text())["cohort"]["name"] == "other"


def test_what_could_be_several_is_listed_and_not_guessed(run, place):
    table(place, "case_id,os_days,os_event,pfi_days,pfi_event,center,hospital", case, days, lambda n: n % 2,
          lambda n: days(n) // 2, lambda n: 1 - n % 2, lambda _: "a", lambda _: "b")  # fmt: skip
    ended = start(run)
    assert ended.code == 2
    for words in ("os_days or pfi_days?", "os_event or pfi_event?", "center or hospital?", "--time, --event, --site"):
        assert words in said(ended.err), words
    assert not (place / "run.toml").exists()
    ended = start(run, "--time", "pfi_days", "--event", "pfi_event", "--site", "center")
    assert ended.code == 0, ended.err
    assert tomllib.loads((place / "run.toml").read_text())["cohort"]["time"] == "pfi_days"


@pytest.mark.parametrize(
    ("name", "codes"),
    [("status", (1, 2)), ("status", ("here", "gone")), ("censored", (0, 1)), ("death", ("a", "b", "c"))],
)
def test_a_coding_that_may_be_either_way_is_asked(run, place, name, codes):
    table(place, f"case_id,days,{name}", case, days, lambda n: codes[n % len(codes)])
    ended = start(run)
    assert ended.code == 2
    assert "--event-values" in ended.err
    assert not (place / "run.toml").exists()


def test_the_unit_is_that_of_the_name_or_the_only_likely_one_or_asked(run, place):
    for head, column, unit in (
        ("follow_up_months", lambda n: 12 + 5 * n, "months"),
        ("survival", lambda n: 900 + 170 * n, "days"),
        ("survival", lambda n: 1 + n / 2, "years"),
    ):
        table(place, f"case_id,{head},event", case, column, lambda n: n % 2)
        ended = start(run, "--force")
        assert ended.code == 0, ended.err
        assert tomllib.loads((place / "run.toml").read_text())["cohort"]["time_unit"] == unit
    table(place, "case_id,survival,event", case, lambda n: 60 + 5 * n, lambda n: n % 2)  # weeks, or months
    ended = start(run, "--force")
    assert ended.code == 2
    assert "weeks or months" in said(ended.err)


def test_on_a_terminal_it_asks(run, place, monkeypatch):
    table(place, "case_id,os_days,pfi_days,event", case, days, lambda n: days(n) // 2, lambda n: n % 2)
    answers = iter(["os_dys", "os_days"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda _: next(answers))
    ended = start(run)
    assert ended.code == 0, ended.err
    assert "did you mean os_days" in ended.out
    assert tomllib.loads((place / "run.toml").read_text())["cohort"]["time"] == "os_days"


def test_what_can_not_be_is_refused_and_nothing_is_written(run, place):
    table(place, "case_id,days,event", case, lambda n: "" if n == 3 else days(n), lambda n: n % 2)
    assert "--drop-incomplete" in start(run).err
    for words in (["--time", "dayz"], ["--clinical", "none.csv"]):
        ended = start(run, *words)
        assert ended.code == 1
    assert "did you mean days" in said(start(run, "--time", "dayz").err)
    assert run("init", "gone", "--clinical", "t.csv").code == 1
    assert not (place / "run.toml").exists()
    assert start(run, "--drop-incomplete").code == 0
    assert tomllib.loads((place / "run.toml").read_text())["cohort"]["drop_incomplete"] is True
