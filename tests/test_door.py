"""The Python door: what ``import wsisurv`` gives, and what it costs."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import wsisurv

HEAVY = {"torch", "openslide", "numpy", "pydantic", "scipy", "pandas", "timm", "matplotlib", "typer", "h5py"}
FUNCTIONS = [name for name in wsisurv.__all__ if name[0].islower()]


def loaded_after(code: str) -> set[str]:
    """Packages that a new interpreter has loaded after some code."""
    words = [sys.executable, "-c", f"{code}\nimport sys; print('LOADED', *sys.modules)"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.rpartition("LOADED")[2].split()}


def test_importing_loads_nothing_heavy():
    assert not loaded_after("import wsisurv; dir(wsisurv)") & HEAVY


def test_importing_takes_less_than_50_ms():
    """Processor time, which the load of the machine does not change as it does the time on the clock."""
    code = "import time; a = time.process_time(); import wsisurv; print(time.process_time() - a)"
    words = [sys.executable, "-c", code]
    taken = [float(subprocess.run(words, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(taken) < 0.05


@pytest.mark.parametrize("name", wsisurv.__all__)
def test_each_name_is_there_and_says_what_it_is(name):
    found = getattr(wsisurv, name)
    if name != "__version__":
        assert inspect.getdoc(found)


@pytest.mark.parametrize("name", [*FUNCTIONS, "Student"])
def test_each_function_has_an_example_that_parses(name):
    doc = inspect.getdoc(getattr(wsisurv, name))
    lines = [line.strip() for line in doc.splitlines() if line.strip().startswith((">>>", "..."))]
    assert lines, name
    ast.parse("\n".join(line[4:] for line in lines))
    assert f"wsisurv.{name}" in doc


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_step_tells_how_far_it_is_to_a_callable(name):
    if name not in {"make_cohort", "make_endpoints", "report", "resolve_settings"}:
        assert "progress" in inspect.signature(getattr(wsisurv, name)).parameters


def test_what_type_checkers_see_is_what_there_is():
    tree = ast.parse(Path(wsisurv.__file__).read_text())
    seen = {}
    for block in ast.walk(tree):
        if isinstance(block, ast.If):
            for line in block.body:
                if isinstance(line, ast.ImportFrom):
                    for name in line.names:
                        seen[name.asname or name.name] = f"{line.module.removeprefix('wsisurv.')}:{name.name}"
    assert seen == wsisurv._WHERE
    assert sorted(wsisurv._WHERE) == sorted(set(wsisurv.__all__) - {"__version__"})
    assert set(wsisurv.__all__) <= set(dir(wsisurv))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'patches'"):
        _ = wsisurv.patches


def test_types_are_shipped():
    assert (Path(wsisurv.__file__).parent / "py.typed").is_file()
