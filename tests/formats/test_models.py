"""A model file may be anybody's: what is not a plain array of its own size is refused before it is read."""

import json

import h5py
import numpy as np
import pytest

from wsisurv.errors import FormatError
from wsisurv.formats.cards import FigureRow
from wsisurv.formats.hdf5 import put_texts
from wsisurv.formats.header import make_header
from wsisurv.formats.models import STUDENT_FILES, ModelFile, add_figures, figures_of, read_model, write_model
from wsisurv.pages.model_card import model_card
from wsisurv.settings.training import DistillSettings

HEADER = make_header("wsisurv/student", DistillSettings(), {"cohort": "c" * 64})


@pytest.fixture
def student(tmp_path, student_card):
    path = tmp_path / "student.h5"
    write_model(path, ModelFile({"centres": np.zeros(2)}, student_card()), HEADER)
    return path


def test_an_array_larger_than_its_file_is_never_allocated(student):
    with h5py.File(student, "a") as file:
        file.create_dataset("huge", shape=(10**15,), dtype="f8", chunks=(10**6,))
    with pytest.raises(FormatError, match=r"huge of shape \(1000000000000000,\) is larger than the file"):
        read_model(student, "student")


def test_small_arrays_that_unfold_to_more_than_the_file_are_refused(student):
    with h5py.File(student, "a") as file:
        file.create_dataset("zeros", data=np.zeros(10**6), compression="gzip")
    with pytest.raises(FormatError, match="zeros .* larger than the file"):
        read_model(student, "student")


def test_numbers_that_lie_in_another_file_are_not_read(student, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(80))
    with h5py.File(student, "a") as file:
        file.create_dataset("elsewhere", shape=(10,), dtype="f8", external=[(str(tmp_path / "secret"), 0, 80)])
    with pytest.raises(FormatError, match="elsewhere lies in another file"):
        read_model(student, "student")


def test_links_are_not_followed(student, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.ones(3)
    with h5py.File(student, "a") as file:
        file["away"] = h5py.ExternalLink("other.h5", "/numbers")
        file["loop"] = h5py.SoftLink("/loop")
    with pytest.raises(FormatError, match="is a link to another place"):
        read_model(student, "student")


@pytest.mark.parametrize("card", ["[" * 100_000, "[1]", "nothing", 3])
def test_a_card_that_is_none(student, card):
    with h5py.File(student, "a") as file:
        del file["card"]
        put_texts(file, "card", card) if isinstance(card, str) else file.create_dataset("card", data=card)
    with pytest.raises(FormatError, match=r"student.h5: (the student's card is not usable|damaged).*distill"):
        read_model(student, "student")


FIGURES = {"covariates": 0.6, "plain": 0.65, "distilled": 0.7, "selected": 0.68, "student_and_covariates": 0.72}


def metrics(tmp_path, **changes):
    record = {
        "cohort": {"fingerprint": "c" * 64},
        "settings": {"student": DistillSettings().model_dump(mode="json")},
        "models": [{"model": name, "concordance": figure} for name, figure in FIGURES.items()],
        "folds": [{"name": "1-1"}],
        **changes,
    }
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(record))
    return path


def test_figures_of_the_same_cohort_and_settings_join_the_card(student, tmp_path, student_card):
    before = read_model(student, "student")[1].fingerprint
    assert add_figures(student, metrics(tmp_path))
    model, header = read_model(student, "student")
    assert {row.model: row.concordance for row in model.card.evaluation.models} == FIGURES
    assert model.card.evaluation.own == FigureRow(model="selected", concordance=0.68)
    assert model.card.model_copy(update={"evaluation": None}) == student_card()
    assert header.fingerprint == before


@pytest.mark.parametrize(("baseline", "told"), [("efron", 0), ("breslow", 1)])
def test_a_student_of_before_says_that_its_survival_is_too_long_under_ties(tmp_path, student_card, baseline, told):
    write_model(tmp_path / "student.h5", ModelFile({"centres": np.zeros(2)}, student_card(baseline=baseline)), HEADER)
    assert sum("Breslow" in line for line in model_card(tmp_path / "student.h5").warnings) == told


@pytest.mark.parametrize(("key", "guided"), [("plain", False), ("distilled", True)])
def test_the_card_of_another_student_carries_its_own_figures_alone(tmp_path, student_card, key, guided):
    path = tmp_path / STUDENT_FILES[key]
    settings = {**DistillSettings().model_dump(mode="json"), "guided": guided}
    header = make_header("wsisurv/student", settings, {"cohort": "c" * 64})
    write_model(path, ModelFile({"centres": np.zeros(2)}, student_card()), header)
    pairs = [("distilled", "plain"), ("selected", "covariates"), (key, "covariates")]
    record = metrics(
        tmp_path,
        verdict=["of the selected student"],
        added_by_slides={"model": "selected", "p": 0.01},
        differences=[{"model": model, "minus": minus, "value": 0.1} for model, minus in pairs],
    )
    assert add_figures(path, record)
    evaluation = read_model(path, "student")[0].card.evaluation
    assert evaluation.own.concordance == FIGURES[key]
    assert [row.model for row in evaluation.models] == ["covariates", key]
    assert [(row.model, row.minus) for row in evaluation.differences] == [(key, "covariates")]
    assert evaluation.verdict == ()
    assert evaluation.added_by_slides is None


def test_figures_without_the_selected_student_are_refused_with_the_way_out(student, tmp_path):
    """A metrics.json of an older version: the distilled student's figures are not those of student.h5."""
    older = metrics(tmp_path, models=[{"model": "plain", "concordance": 0.6}, {"model": "distilled"}])
    assert not add_figures(student, older)
    model, header = read_model(student, "student")
    evaluation, reason = figures_of(header, model.card, json.loads(older.read_text()))
    assert evaluation is None
    assert "selected student" in reason
    assert "crossval --redo" in reason
    assert model.card.evaluation is None


def test_figures_of_something_else_do_not(student, tmp_path):
    assert not add_figures(student, tmp_path / "none.json")
    assert not add_figures(tmp_path / "none.h5", metrics(tmp_path))
    assert not add_figures(student, metrics(tmp_path, cohort={"fingerprint": "d" * 64}))
    other = DistillSettings(epochs=3).model_dump(mode="json")
    assert not add_figures(student, metrics(tmp_path, settings={"student": other}))
    same = DistillSettings().model_dump(mode="json")
    settings = {"student": same, "teacher": {"encoder": "another"}}
    assert not add_figures(student, metrics(tmp_path, settings=settings))
    assert read_model(student, "student")[0].card.evaluation is None
    with pytest.raises(FormatError, match="wsisurv crossval"):
        add_figures(student, metrics(tmp_path, cohort=3))


def test_figures_of_another_type_are_refused_by_file_and_name(student, tmp_path):
    with pytest.raises(FormatError, match=r"metrics.json: not the figures .*models.0.concordance"):
        add_figures(student, metrics(tmp_path, models=[{"model": "distilled", "concordance": "good"}]))
