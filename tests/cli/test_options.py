"""Options are made from the settings: none is missing, each reaches the step, and a screen of 80 columns shows it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from typer.main import get_command

from wsisurv.cli.app import app
from wsisurv.cli.from_settings import LEFT_OUT
from wsisurv.cohort import Case, Cohort, build_cohort, read_clinical, save_cohort
from wsisurv.settings.base import Settings
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.embedding import EmbedSettings, OwnEncoder, StainSettings
from wsisurv.settings.findings import FindingsSettings
from wsisurv.settings.reports import ReportSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings

COMMANDS = get_command(app).commands
STEPS: dict[type[Settings], tuple[list[str], str]] = {
    TileSettings: (["tile", "slides"], "wsisurv.pipeline.tile.tile"),
    EmbedSettings: (["embed"], "wsisurv.embedding.step.embed"),
    ReportSettings: (["extract-report", "reports"], "wsisurv.reports.step.extract"),
    CohortSettings: (
        ["train-teacher", "--clinical", "clinical.csv", "--cohort", "new"],
        "wsisurv.cohort.endpoints.make_cohort",
    ),
    TeacherSettings: (["train-teacher"], "wsisurv.training.teacher.train_teacher"),
    DistillSettings: (["distill"], "wsisurv.training.distill.distill"),
    CrossvalSettings: (["crossval"], "wsisurv.experiments.crossval.crossval"),
    FindingsSettings: (["findings"], "wsisurv.training.findings.learn_findings"),
}
"""The command of each model, and the function that it hands the settings to."""
VALUES = {"encoder": "uni2-h", "event_values": "Alive,Dead", "covariates": "age", "adjust_for": "age,stage"}
"""Where another value than the default can't be made up."""
TRAINING = ["train-teacher", "distill", "crossval", "ablate"]


def models(base: type[Settings] = Settings) -> Iterator[type[Settings]]:
    """All settings models of the package; those that only others inherit from have no fields of their own."""
    for model in base.__subclasses__():
        if model.model_fields and model.__module__.startswith("wsisurv."):
            yield model
        yield from models(model)


OFFERED = [(model, name) for model in STEPS for name in model.model_fields if name not in LEFT_OUT.get(model, {})]


def another(model: type[Settings], name: str) -> Any:
    """A value of a setting that is not its default."""
    field = model.model_fields[name]
    kind = next((one for one in get_args(field.annotation) if get_origin(one) is Literal), field.annotation)
    if name in VALUES:
        return VALUES[name]
    if get_origin(kind) is Literal:
        return next(one for one in get_args(kind) if one != field.default)
    if isinstance(field.default, bool):
        return not field.default
    if isinstance(field.default, int):
        return field.default + 1
    if isinstance(field.default, float) or float in get_args(kind):
        return (field.default or 0.6) * 0.75
    return "mean" if name == "aggregator" else "other"


def test_each_setting_is_an_option_or_on_the_list_of_those_that_are_none():
    for model in models():
        left_out = LEFT_OUT.get(model, {})
        assert left_out.keys() <= model.model_fields.keys(), model
        if model in STEPS:
            options = {one.name for one in COMMANDS[STEPS[model][0][0]].params}
            assert model.model_fields.keys() - left_out.keys() <= options, model
        else:
            assert left_out.keys() == model.model_fields.keys(), model


class HandedError(Exception):
    """Stops a command where it hands over."""


@pytest.fixture
def handed(monkeypatch, tmp_path):
    """``handed(model, *words)``: the settings that a command hands to its step."""
    monkeypatch.setenv("WSISURV_WORKSPACE", str(tmp_path / "workspace"))
    cohort = Cohort("trial", (Case("a", 1.0, True, None), Case("b", 2.0, False, None)), CohortSettings())
    table = tmp_path / "clinical.csv"
    table.write_text("case_id,time,event\na,1,1\nb,2,0\n")
    _, audit = build_cohort(
        "trial", read_clinical(table, cohort.settings), cohort.settings, slide_ids=(), report_case_ids=()
    )
    save_cohort(tmp_path / "workspace" / "cohorts" / "trial", cohort, audit, redo=False)

    def hand(model: type[Settings], *words: object) -> Settings:
        def stop(*args: object, **named: object) -> None:
            raise HandedError(next(one for one in (*args, *named.values()) if isinstance(one, model)))

        command, step = STEPS[model]
        monkeypatch.setattr(step, stop)
        with pytest.raises(HandedError) as seen:
            get_command(app).main([*command, *map(str, words)], standalone_mode=False)
        settings = seen.value.args[0]
        assert isinstance(settings, model)
        return settings

    return hand


@pytest.mark.parametrize(("model", "name"), OFFERED, ids=lambda one: getattr(one, "__name__", one))
def test_an_option_changes_its_setting_in_what_the_step_is_handed_and_no_other(handed, model, name):
    value = another(model, name)
    flag = "--" + name.replace("_", "-")
    more = ["--random-weights"] if name == "encoder" and model is EmbedSettings else []
    before = dict(handed(model))
    after = dict(handed(model, flag, *([] if value is True else [value]), *more))
    wanted = tuple(value.split(",")) if name in ("event_values", "covariates", "adjust_for") else value
    assert after[name] == wanted
    filled_in = {"weights", "precision", "version"} if model is EmbedSettings else set()
    assert {key for key in before if before[key] != after[key]} - filled_in == {name}


@pytest.mark.parametrize(("model", "name"), OFFERED, ids=lambda one: getattr(one, "__name__", one))
def test_a_value_beyond_the_range_of_the_setting_is_wrong_usage(run, model, name):
    field = model.model_fields[name]
    limits = {key: getattr(one, key) for one in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(one, key)}
    beyond = [limits[key] for key in ("gt", "lt") if key in limits]
    beyond += [limits["ge"] - 1] if "ge" in limits else []
    beyond += [limits["le"] + 1] if "le" in limits else []
    for value in beyond:
        ended = run(*STEPS[model][0], "--" + name.replace("_", "-"), value)
        assert ended.code == 2
        assert "--" + name.replace("_", "-") in ended.err


@pytest.mark.parametrize(
    ("model", "words", "changed"),
    [
        (DistillSettings, ["--tile-directions", "all"], {"feature_subspace": "all"}),
        (DistillSettings, ["--aggregator", "transmil"], {"aggregator": "selfattention"}),
        (TeacherSettings, ["--aggregator", "transmil"], {"aggregator": "selfattention"}),
        (TileSettings, ["--overlap", "8"], {"overlap_px": 8}),
    ],
)
def test_former_and_shorter_spellings_are_understood(handed, model, words, changed):
    assert handed(model, *words) == model(**changed)


def test_what_is_no_value_of_a_setting_is_wrong_usage(run):
    for words in (["--aggregator", "avg"], ["--tile-directions", "some"], ["--dropout", "nan"], ["--loss", "none"]):
        assert run("distill", *words).code == 2, words


def test_each_command_stands_in_a_panel():
    assert {command.rich_help_panel for command in COMMANDS.values()} == {
        "Start here",
        "Steps",
        "Checking and results",
        "On a cluster",
        "Files and encoders",
    }


@pytest.mark.parametrize("command", TRAINING)
def test_training_shows_ten_options_and_the_rest_as_advanced(command):
    shown = [one for one in COMMANDS[command].params if not one.hidden and one.name != "help"]
    panels = [one.rich_help_panel for one in shown]
    assert set(panels) == {None, "Advanced"}
    assert panels.count(None) == 10


@pytest.mark.parametrize("command", COMMANDS)
def test_help_can_be_read_at_80_columns(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = run(command, "--help").out
    assert max(map(len, page.splitlines())) <= 80
    words = set(re.findall(r"(?<!\S)--[a-z0-9-]+", page))
    for option in (one for one in COMMANDS[command].params if one.param_type_name == "option" and not one.hidden):
        assert words & set(option.opts), f"{option.opts} is cut short"
        assert option.help[0].isupper(), option.opts
    assert all(one.endswith(">") for one in re.findall(r"<[\w.,-]*\|\S*", page)), "a list of choices is broken"


TRAINED, OWN = "tests/training/test_effects.py", "tests/embedding/test_own.py"
SHOWN: dict[type[Settings], dict[str, str]] = {
    TileSettings: dict.fromkeys(TileSettings.model_fields, "tests/tiling/test_effects.py::test_no_setting_lacks"),
    CohortSettings: dict.fromkeys(CohortSettings.model_fields, "tests/test_cohort.py::test_every_setting_changes"),
    TeacherSettings: dict.fromkeys(TeacherSettings.model_fields, f"{TRAINED}::test_no_setting_lacks"),
    DistillSettings: dict.fromkeys(DistillSettings.model_fields, f"{TRAINED}::test_no_setting_lacks"),
    CrossvalSettings: {
        "folds": "tests/experiments/test_crossval.py::test_all_models_over_the_same_folds",
        "repeats": "tests/experiments/test_crossval.py::test_all_models_over_the_same_folds",
        "covariates": "tests/experiments/test_crossval.py::test_without_reports_and_covariates",
        "seed": "tests/experiments/test_folds.py::test_every_case_is_tested_once_a_repeat",
        "resamples": "tests/experiments/test_results.py::test_more_draws_give_other_intervals",
    },
    FindingsSettings: {
        **dict.fromkeys(FindingsSettings.model_fields, "tests/training/test_findings.py::test_each_setting_changes"),
        "encoder": "tests/training/test_findings.py::test_features_of_another_encoder",
    },
    EmbedSettings: {
        "encoder": "tests/embedding/test_encoders.py::test_any_architecture_of_timm_encodes",
        "weights": "tests/embedding/test_encoders.py::test_weights_of_a_file_are_what_computes",
        "precision": "tests/embedding/test_network.py::test_a_gpu_agrees_with_the_cpu",
        "version": "tests/embedding/test_step.py::test_columns_of_another_version_are_not_made",
        "dtype": "tests/embedding/test_step.py::test_float32_holds_it",
        "half_scale": "tests/slides/test_jpeg.py::test_half_the_scale_where_no_level_has_it",
        "of_tiles": "tests/cli/test_pool.py::test_rows_of_before_and_of_other_tools",
        "own": f"{OWN}::test_it_computes_what_the_file_says",
        "stain": "tests/embedding/test_staining.py::test_features_are_those_of_the_slide_in_the_colours",
        "augment_stain": "tests/embedding/test_staining.py::test_how_far_stain_shifts_move_features_is_written",
    },
    StainSettings: {
        "method": "tests/embedding/test_staining.py::test_features_are_those_of_the_slide_in_the_colours",
        "source": "tests/embedding/test_colours.py::test_a_reference_of_ones_own_is_estimated",
        "reference": "tests/embedding/test_colours.py::test_a_reference_of_ones_own_is_estimated",
    },
    OwnEncoder: {
        "arguments": f"{OWN}::test_it_computes_what_the_file_says",
        "swiglu": f"{OWN}::test_swiglu_blocks_are_other_blocks",
        **dict.fromkeys(
            ["name", "architecture", "pooling", "mean", "std", "resize_px", "input_px", "interpolation", "precision"],
            f"{OWN}::test_it_computes_what_the_file_says",
        ),
        **dict.fromkeys(["tile_px", "tile_mpp"], f"{OWN}::test_tiles_that_it_was_not_trained_on_are_refused"),
        "licence": f"{OWN}::test_its_file_is_in_the_features",
    },
    ReportSettings: {
        "backend": "tests/reports/test_step.py::test_other_backend_is_never_mixed_in",
        "model": "tests/reports/test_step.py::test_other_model_of_the_same_name_is_noticed",
        "model_digest": "tests/reports/test_step.py::test_other_model_of_the_same_name_is_noticed",
        "keep": "tests/reports/test_rules.py::test_keep_all_adds_the_rest",
        "ask": "tests/reports/test_step.py::test_pieces_are_labelled_one_by_one_and_quoted_as_they_are",
        **dict.fromkeys(
            ["prompt", "rules_version", "proof_version", "options"],
            "tests/test_settings.py::test_every_setting_of_reports_changes_the_fingerprint",
        ),
    },
}
"""Where a test shows what a setting does to a file; those of tiles, cohorts and training are complete by themselves."""


def test_no_setting_lacks_a_test_of_its_effect():
    root = Path(__file__).parents[2]
    for model in models():
        assert SHOWN[model].keys() == model.model_fields.keys(), model
        for where in SHOWN[model].values():
            file, name = where.split("::")
            assert f"def {name}" in (root / file).read_text(), where
