"""The switches of the method on the command line: each is a setting, and ``ablate`` tries each."""

from typing import Literal, get_args, get_origin

import pytest
from typer.main import get_command

from wsisurv.cli.app import app
from wsisurv.errors import SettingsError
from wsisurv.experiments.switches import SWITCHES, switched
from wsisurv.settings.training import DistillSettings, TeacherSettings

TEACHER, STUDENT = TeacherSettings(), DistillSettings()


def test_every_switch_of_ablate_changes_one_setting_of_one_of_the_two():
    for word in SWITCHES:
        teacher, student = switched(word, TEACHER, STUDENT)
        before, after = (
            {**t.model_dump(), **{f"student {k}": v for k, v in s.model_dump().items()}}
            for t, s in ((TEACHER, STUDENT), (teacher, student))
        )
        assert sum(before[name] != after[name] for name in before) == 1, word


def test_ablate_tries_every_choice_of_the_method():
    """Whoever adds a choice to the settings is told to let ablate try it."""
    tried = {word.partition("=")[0::2] for word in SWITCHES}
    for settings in (STUDENT, TEACHER):
        for name, field in type(settings).model_fields.items():
            if name == "precision" or get_origin(field.annotation) is not Literal:
                continue
            for choice in get_args(field.annotation):
                assert choice == field.default or (name, choice) in tried


def test_a_setting_of_the_teacher_is_found_by_its_name_and_shared_ones_by_a_prefix():
    assert switched("text_epochs=3", TEACHER, STUDENT)[0].text_epochs == 3
    assert switched("teacher.hidden=8", TEACHER, STUDENT)[0].hidden == 8
    assert switched("hidden=8", TEACHER, STUDENT)[1].hidden == 8
    assert switched("adjust_for=age,stage", TEACHER, STUDENT)[1].adjust_for == ("age", "stage")


@pytest.mark.parametrize("word", ["filter", "filter=", "=soft", "filter=loud", "nonsense=1", "a/b=1"])
def test_what_is_no_switch_is_refused(word):
    with pytest.raises(SettingsError):
        switched(word, TEACHER, STUDENT)


@pytest.mark.parametrize(("command", "settings"), [("distill", STUDENT), ("train-teacher", TEACHER)])
def test_every_switch_is_an_option_with_help_and_the_settings_default(command, settings):
    options = {one.name: one for one in get_command(app).commands[command].params}
    named = [word.partition("=")[0] for word in SWITCHES]
    for name in {one for one in named if one in type(settings).model_fields}:
        assert options[name].help, name
        assert options[name].default == getattr(settings, name)


def test_a_student_of_many_switches_is_distilled_and_used(run, folder, trained):
    import shutil

    shutil.copytree(trained / "workspace", folder / "workspace", dirs_exist_ok=True)
    words = ["-w", folder / "workspace", "--epochs", 2, "--pretrain-epochs", 1, "--redo"]
    switches = ["--aggregator", "mean", "--loss", "discrete", "--distill", "hazard-kl", "--filter", "hard", "--ema"]
    ended = run("distill", *words, *switches, "--keep-share", 0.5, "--merge-duplicates", "--mixup", "random")
    assert ended.code == 0, ended.err
    refused = run("distill", *words[:-1], *switches, "--keep-share", 0.6)
    assert refused.code == 1
    assert "keep_share: 0.5 → 0.6" in refused.err
    assert run("distill", *words, "--filter", "loud").code == 2
