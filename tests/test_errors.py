"""The tree in the docstring is the tree in the code, and near misses of names are answered with what was meant."""

import re

import pytest

from wsisurv import errors
from wsisurv.cohort import Case, Cohort, read_table
from wsisurv.embedding.table import find_spec
from wsisurv.errors import WsisurvError, did_you_mean, near_names
from wsisurv.experiments.fold_settings import named_covariates
from wsisurv.settings.base import parse_settings
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.training import DistillSettings
from wsisurv.workspace.paths import Workspace


def _tree(error: type[Exception]) -> list[str]:
    return [error.__name__, *(name for child in error.__subclasses__() for name in _tree(child))]


def test_every_error_is_drawn_in_the_docstring():
    assert errors.__doc__ is not None
    drawn = [line.strip(" │├└").split("  ")[0] for line in errors.__doc__.splitlines() if "Error" in line]
    drawn = [name for name in drawn if name.isidentifier()]
    ours = [name for name in _tree(errors.WsisurvError) if name in vars(errors)]
    assert drawn == ours


def test_a_name_that_is_nearly_right_is_answered_with_those_it_may_be():
    assert near_names("Hospitl", ["hospital", "age"]) == ["hospital"]
    assert near_names("tile-px", ["tile_px", "tile_mpp"])[0] == "tile_px"
    assert near_names("x", ["hospital"]) == near_names("x", []) == []
    assert did_you_mean("os_day", ["os_days", "os_date", "age"]) == "; did you mean os_days or os_date?"
    assert did_you_mean("zzz", ["age"]) == ""


def test_every_place_where_a_name_is_looked_up_asks_what_was_meant(tmp_path):
    place = Workspace(tmp_path)
    cohort = Cohort("crc", (Case("a", 1.0, True, None),), CohortSettings(covariates=("age", "stage")))
    place.cohort("crc").mkdir(parents=True)
    (place.cohort("crc") / "cohort.csv").touch()
    (tmp_path / "t.csv").write_text("case_id,days,hospital\na,1,b\n")
    for meant, look in {
        "crc": lambda: place.the_cohort("crcc"),
        "uni2-h": lambda: find_spec("uni2h"),
        "hospital for 'hospitl'": lambda: read_table(tmp_path / "t.csv", "case_id", "hospitl"),
        "stage": lambda: named_covariates(cohort, ["stge"]),
        "mixup": lambda: parse_settings(DistillSettings, {"mixp": "none"}),
    }.items():
        with pytest.raises(WsisurvError, match=re.escape(f"did you mean {meant}")):
            look()
