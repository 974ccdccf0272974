import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from wsisurv import __version__
from wsisurv.cli.app import PANELS, app

ROOT = Path(__file__).parents[2]
COMMANDS = [name for names in PANELS.values() for name in names]


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


HEAVY = {"torch", "timm", "skimage", "openslide", "matplotlib", "pandas", "lifelines", "ollama", "scipy", "jinja2"}


def loaded_by(*words: str) -> set[str]:
    """Modules that a command has loaded when it ends."""
    program = (
        "import sys, wsisurv.cli.app as a\n"
        f"sys.argv = ['wsisurv', *{words!r}]\n"
        "try: a.main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = python("-c", program)
    assert "LOADED" in done.stdout, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_the_list_of_commands_imports_none_of_them():
    """What a person waits for most often: the help, the version, and a mistyped name."""
    for words in (["--help"], ["--version"], [], ["tiel"]):
        loaded = loaded_by(*words)
        assert not loaded & (HEAVY | {"numpy", "h5py"}), words
        assert {one for one in loaded if one.startswith("wsisurv.cli.")} <= {
            "wsisurv.cli.app",
            "wsisurv.cli.interrupts",
        }


def test_a_command_imports_no_other():
    loaded = loaded_by("show", "--help")
    assert not loaded & (HEAVY | {"numpy", "h5py"})
    assert "wsisurv.cli.show" in loaded
    assert not loaded & {f"wsisurv.cli.{name}" for name in ("tile", "embed", "predict", "crossval")}


def test_a_table_is_shown_without_the_libraries_of_arrays(tmp_path):
    table = tmp_path / "risk.csv"
    table.write_text("case_id,log_hazard,risk_group\na,0.1,low\n")
    loaded = loaded_by("show", str(table))
    assert "wsisurv.formats.shown" in loaded
    assert not loaded & (HEAVY | {"numpy", "h5py"})


def test_the_list_says_of_each_command_what_its_help_begins_with():
    made = get_command(app).commands
    for names in PANELS.values():
        for name, text in names.items():
            assert made[name].help.split("\n\n")[0] == text
    with pytest.raises(KeyError):
        made["tiel"]


def test_version_and_module_say_the_same():
    assert python("-m", "wsisurv", "--version").stdout == f"wsisurv {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_reads_and_writes(run, command):
    ended = run(command, "--help")
    assert ended.code == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.out).split())
    assert re.search(r"[Rr]eads|Draws", text)
    assert re.search(r"[Ww]rites|into", text)


@pytest.mark.parametrize("words", [["tile"], ["nonsense"], ["tile", "--nonsense"], ["embed", "--batch-size", "x"]])
def test_wrong_usage_is_exit_code_2(run, words):
    ended = run(*words)
    assert ended.code == 2
    assert "Usage" in ended.err


def test_completion_can_be_shown(monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = python("-m", "wsisurv", "--show-completion", "bash")
    assert "complete" in done.stdout.lower(), done.stderr


def test_the_readme_names_every_command_and_no_other():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\bwsisurv ([a-z][a-z-]+)", "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S))))
    assert named <= set(COMMANDS)
    assert {"tile", "embed", "extract-report", "train-teacher", "distill", "predict"} <= named


def test_every_option_that_readme_and_examples_use_exists(run):
    sources = [ROOT / "README.md", *sorted((ROOT / "examples").rglob("*.sh"))]
    joined = "\n".join(re.sub(r"\\\n\s*", " ", path.read_text()) for path in sources)
    helps = {command: run(command, "--help").out for command in COMMANDS}
    used = re.findall(r"^\s*wsisurv ([a-z-]+)(.*)$", joined, re.M)
    assert len(used) > 15
    for command, rest in used:
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest.split("#")[0]):
            assert option in helps[command], f"wsisurv {command} has no {option}"
