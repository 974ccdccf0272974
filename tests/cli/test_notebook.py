"""``examples/notebook``: the demo from Python, on the workspace that the commands made of the same cohort."""

import os
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import wsisurv
from wsisurv.errors import CohortError, EncoderMismatchError, InputError
from wsisurv.formats.features import read_features
from wsisurv.formats.risks import read_risks
from wsisurv.settings.training import DistillSettings, TeacherSettings

CASES = 30
"""As the demo of ``trained``."""
NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "demo.py"


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A copy of the demo through all steps."""
    folder = tmp_path_factory.mktemp("notebook") / "demo"
    shutil.copytree(trained, folder, copy_function=os.link)
    return folder


@pytest.fixture(scope="module")
def names(place, quick_settings, without_figures):
    """What the notebook's names stand for after its last cell; it trains as the commands did."""
    teacher, student = TeacherSettings(**quick_settings["train-teacher"]), DistillSettings(**quick_settings["distill"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wsisurv, "train_teacher", partial(wsisurv.train_teacher, settings=teacher))
        without_figures(patch)
        patch.setattr(wsisurv, "distill", partial(wsisurv.distill, settings=student))
        patch.setattr(sys, "argv", [str(NOTEBOOK), str(place), str(CASES)])
        return runpy.run_path(str(NOTEBOOK))


def test_what_the_commands_made_is_what_python_asks_for(names):
    """Every step finds its work done: the same settings, by whichever door."""
    for step in ("tiled", "embedded", "read"):
        assert names[step].kept
        assert not names[step].done
    assert names["teacher"].kept
    assert names["student"].kept


def test_results_are_data_frames(names, place):
    risks = names["risks"]
    by_command = {risk.case_id: risk for risk in read_risks(place / "risk.csv")}
    assert list(risks.index) == sorted(by_command)
    assert risks.index.name == "case_id"
    for case_id, row in risks.iterrows():
        assert row["log_hazard"] == pytest.approx(by_command[case_id].log_hazard, abs=1e-6)
    cohort = names["cohort"].to_frame()
    assert {"time", "event", "site", "age", "stage", "slide_ids"} <= set(cohort.columns)
    external = names["external"].to_frame()
    assert isinstance(external, pd.DataFrame)
    np.testing.assert_allclose(external["log_hazard"], risks["log_hazard"].reindex(external.index), atol=1e-5)
    assert (external["time"] > 0).all()
    assert names["page"].is_file()


def test_cases_of_the_training_are_refused_here_too(names, place):
    with pytest.raises(CohortError, match="were in the student's training"):
        wsisurv.evaluate(names["place"], place / "workspace/cohorts/demo/student.h5", cohort="demo")


def test_a_student_in_memory_gives_the_row_of_the_table(place):
    home = next((place / "workspace" / "predict").glob("*/features/histomics"))
    student = wsisurv.Student.load(place / "workspace" / "cohorts" / "demo" / "student.h5")
    alone = next(risk for risk in read_risks(place / "risk.csv") if len(risk.slides) == 1)
    features, _ = read_features(home / f"{alone.slides[0]}.h5")
    found = student.predict(features.values, features.coords, case_id=alone.case_id, encoder="histomics")
    assert found.risk.log_hazard == pytest.approx(alone.log_hazard, abs=1e-6)
    assert (found.risk.risk_group, found.risk.n_tiles) == (alone.risk_group, alone.n_tiles)
    tiles = found.to_frame()
    assert tiles["attention"].sum() == pytest.approx(1)
    assert tiles["contribution"].sum() == pytest.approx(found.risk.log_hazard, abs=1e-5)
    np.testing.assert_array_equal(tiles[["x", "y"]], features.coords)
    with pytest.raises(EncoderMismatchError, match="58 features a tile"):
        student.predict(features.values[:, 1:], features.coords)
    with pytest.raises(EncoderMismatchError, match="encoder 'uni'"):
        student.predict(features.values, features.coords, encoder="uni")
    with pytest.raises(InputError, match="coords of shape"):
        student.predict(features.values, features.coords[1:])
    with pytest.raises(InputError, match="finite"):
        student.predict(features.values * np.nan, features.coords)
