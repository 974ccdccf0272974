"""Competing events from the clinical table to the risk table, the figures, the page and another cohort."""

import csv
import json
import re

import pytest

from wsisurv.cohort import read_cohort
from wsisurv.formats.models import read_model
from wsisurv.survival.prognosis import load_prognosis

SMALL = ["--epochs", "3", "--device", "cpu"]


@pytest.fixture
def place(simulated):
    """60 cases, of whom every third of those who die dies of something else; other.csv is of 30 further ones."""

    def row(number, case):
        return [case.time, int(case.event), int(case.event and number % 3 > 0), case.time / 4]

    workspace = simulated(90, ["days", "died", "of_it", "came"], row)
    lines = (workspace.root.parent / "clinical.csv").read_text().splitlines()
    for name, chosen in (("clinical.csv", lines[:61]), ("other.csv", [lines[0], *lines[61:]])):
        (workspace.root.parent / name).write_text("\n".join(chosen) + "\n")
    return workspace


def test_risk_beside_competing_deaths_from_table_to_page(run, place, monkeypatch, without_figures):
    table, at = str(place.root.parent / "clinical.csv"), ["-w", str(place.root)]
    ends = ["--endpoint", "dss=days,of_it,died"]
    made = ["train-teacher", *at, "--cohort", "crc", "--clinical", table]
    assert "--endpoint dss=dss_days,dss_event,died" in run(*made, *ends, "--competing", "died").err
    quick = ["--folds", "2", "--repeats", "1", "--text-epochs", "5", "--text-folds", "2"]
    ended = run(*made, *ends, *SMALL, *quick)
    assert ended.code == 0, ended.err
    cohort, audit = read_cohort(place.cohort("crc/dss"))
    n = sum(case.competing for case in cohort.cases)
    assert n > 5
    assert audit.competing == n
    assert "competing ones" in ended.out
    one = [*at, "--cohort", "crc/dss"]
    assert run("distill", *one, *SMALL, "--pretrain-epochs", "1", "--members", "2").code == 0
    model, _ = read_model(place.cohort("crc/dss") / "student.h5", "student")
    assert model.card.cohort.competing == n
    assert load_prognosis(model.arrays).competing is not None
    assert run("predict", *one, "--horizons", "0.5,1", "--force-unfamiliar").code == 0
    with (place.cohort("crc/dss") / "risk.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["survival_0.5y"]]
    assert len(rows) > 30
    assert all(0 <= float(row["risk_0.5y"]) <= 1 - float(row["survival_0.5y"]) + 1e-6 for row in rows)
    assert sum(1 - float(row["survival_0.5y"]) - float(row["risk_0.5y"]) for row in rows) > 0
    assert "Aalen and Johansen" in json.loads((place.cohort("crc/dss") / "risk.json").read_text())["columns"]["risk_…y"]
    folds = ["--folds", "2", "--repeats", "1", "--resamples", "100"]
    cross = ["crossval", *one, *folds, "--device", "cpu", "--workers", "1"]
    ended = run(*cross, "--landmark", "0.2y")
    assert ended.code == 0, ended.err
    assert "cases alive at 0.2 years" in " ".join(ended.out.split())
    record = json.loads((place.cohort("crc/dss") / "evaluation" / "metrics.json").read_text())
    assert record["competing"] == n
    assert all(0 < row["uno"] < 1 and 0 < row["auc"] < 1 for row in record["models"])
    assert 0 <= record["groups"]["gray_p"] <= 1
    assert sum(row["competing"] or 0 for row in record["groups"]["rows"]) == n
    assert record["landmarks"][0]["models"][0]["concordance"] > 0
    without_figures(monkeypatch)
    assert run("report", *one).code == 0
    page = (place.cohort("crc/dss") / "evaluation" / "index.html").read_text()
    for words in ("Cumulative incidence", "Gray's test of cumulative incidence", "Among those alive at 0.2 years"):
        assert words in page, words
    assert "count as censored" not in page
    judged_elsewhere(run, place)


def judged_elsewhere(run, place):
    """The student on the further cases: landmarks there, competing events beside, and tables that can't be."""
    student, table = place.cohort("crc/dss") / "student.h5", place.root.parent / "other.csv"
    asked = ["evaluate", "--student", student, "--cohort", "other", "-w", place.root, "--device", "cpu"]
    columns = ["--clinical", table, "--time", "days", "--event", "of_it", "--competing", "died"]
    quick = ["--resamples", "100", "--horizons", "0.5,1", "--force-unfamiliar"]
    for typed, message in (("0", "years above 0"), ("-1", "years above 0"), ("1y,1", "different"), ("1m", "years are")):
        ended = run(*asked, *columns, f"--landmark={typed}")
        assert ended.code == 2
        assert message in " ".join(ended.err.split())
    for wrong, message in ((["--entry", "died"], "same column twice: 'died'"), (["--event-values", "0,1,2"], "twice")):
        ended = run(*asked, *columns, *wrong)
        assert ended.code == 1
        assert message in " ".join(ended.err.split())
    assert not place.cohort("other").exists()
    ended = run(*asked, *columns, *quick, "--landmark", "0.2y,50")
    assert ended.code == 0, ended.err
    assert "Among those alive at a landmark" in ended.out
    assert "no figures of those alive at 50 years: nobody was followed so long" in " ".join(ended.err.split())
    found = json.loads((place.cohort("other") / "evaluation" / "external.json").read_text())["external"]
    cases = read_cohort(place.cohort("other"))[0].cases
    here, beyond = found["landmarks"]
    alive = [case for case in cases if case.time > 0.2 * 365.25]
    assert (here["cases"], here["events"]) == (len(alive), sum(case.event for case in alive))
    assert 0 < here["concordance"]["value"] < 1
    assert (beyond["cases"], beyond["concordance"], beyond["slope"]) == (0, None, None)
    assert found["competing"] == sum(case.competing for case in cases)
    assert 0 < found["uno"] < 1
    assert run("report", "--cohort", "other", "-w", place.root).code == 0
    page = (place.cohort("other") / "evaluation" / "index.html").read_text()
    assert "alive" in page
    assert "Gray's test" in page


def test_without_it_a_disease_specific_endpoint_says_what_other_deaths_are(run, place):
    table = str(place.root.parent / "clinical.csv")
    made = ["train-teacher", "-w", str(place.root), "--cohort", "crc", "--clinical", table]
    assert "count as censored" in " ".join(run(*made, "--endpoint", "dss=days,of_it", "--audit-only").err.split())
    ended = run(*made, "--endpoint", "os=days,died", "--audit-only")
    assert ended.code == 0
    assert "count as censored" not in " ".join(ended.err.split())


WRONG = (
    ({"came": "9999"}, ["--entry", "came"], r"came is not before days: row 4 \(.*\): came is 9999"),
    ({"came": "AS days"}, ["--entry", "came"], "came is not before days: row 4 "),
    ({"came": "-1"}, ["--entry", "came"], "row 4 .*came is '-1'"),
    ({"came": "late"}, ["--entry", "came"], "row 4 .*came is 'late', not a number"),
    ({"came": "", "of_it": "0"}, ["--entry", "came"], "row 4 .*came is missing.*--drop-incomplete"),
    ({"died": "7"}, ["--competing", "died"], "row 4 .*died is '7', not 0/1/true/false.*Code it as 1"),
    ({"died": "of else"}, ["--competing", "died"], "row 4 .*died is 'of else'.*Code it as 1"),
    ({"died": "", "of_it": "0"}, ["--competing", "died"], "row 4 .*died is missing.*--drop-incomplete"),
    ({"of_it": "2"}, [], "row 4 .*of_it is '2'.*--event-values 0,1,2"),
    ({"of_it": "3"}, ["--event-values", "0,1,2"], "row 4 .*of_it is '3', not '0' or '1' or '2'"),
    ({}, ["--competing", "of_it"], "the same column twice: 'of_it'"),
    ({}, ["--competing", "days"], "the same column twice: 'days'"),
    ({}, ["--competing", "died", "--covariates", "died"], "the same column twice: 'died'"),
    ({}, ["--competing", "gone"], "no column 'gone'"),
    ({}, ["--event-values", "0,1,2", "--competing", "died"], "the competing event is named twice"),
)
"""Cells of the third case, options, and what is said."""


@pytest.mark.parametrize(
    "command",
    [["cohort", "crc"], ["train-teacher", "--cohort", "crc"], ["crossval", "--reports-only", "--cohort", "crc"]],
)
def test_columns_that_can_not_be_are_named_with_row_and_way_out(run, place, command):
    """By each command that makes a cohort; none leaves anything."""
    table = place.root.parent / "clinical.csv"
    head, *rows = read_rows(table)
    for cells, options, message in WRONG:
        third = dict(zip(head, rows[2], strict=True)) | cells
        if third["came"] == "AS days":
            third["came"] = third["days"]
        write_rows(table, [head, *rows[:2], list(third.values()), *rows[3:]])
        columns = ["--clinical", table, "--time", "days", "--event", "of_it", *options, "-w", place.root]
        ended = run(*command, *columns)
        assert ended.code == 1, message
        assert re.search(message, " ".join(ended.err.split()))
    assert place.cohorts() == []


def read_rows(table):
    return list(csv.reader(table.read_text().splitlines()))


def write_rows(table, rows):
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_odd_tables_that_can_be(run, place):
    """Events at 0, one competing event alone, and none at all; nobody with the event is an error."""
    table = place.root.parent / "clinical.csv"
    head, *rows = read_rows(table)
    died, of_it = head.index("died"), head.index("of_it")

    def made(name):
        write_rows(table, [head, *rows])
        columns = ["--time", "days", "--event", "of_it", "--competing", "died"]
        return run("cohort", name, "--clinical", table, *columns, "-w", place.root)

    for row in rows:
        row[died] = row[of_it]
    alone = next(row for row in rows if row[of_it] == "0")
    assert "no competing event in 60 cases: all is as without --competing" in " ".join(made("none").err.split())
    alone[1], alone[died] = "0", "1"
    ended = made("one")
    assert "1 with an event count at" in " ".join(ended.err.split())
    (competing,) = [case for case in read_cohort(place.cohort("one"))[0].cases if case.competing]
    assert competing.time == min(float(row[1]) for row in rows if float(row[1]))
    for row in rows:
        row[of_it], row[died] = "0", "1"
    ended = made("all")
    assert ended.code == 1
    assert "no event in 60 cases" in ended.err
