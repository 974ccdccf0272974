"""What is released says what it is, and the files of the release do not contradict each other."""

import re
import tomllib
from pathlib import Path

import yaml

import wsisurv
from wsisurv.formats.header import Header

ROOT = Path(__file__).parents[1]


def test_the_workflow_runs_what_the_makefile_has():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    paths = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert paths
    for path in paths:
        jobs = yaml.safe_load(path.read_text())["jobs"]
        ran = [step["run"].split() for job in jobs.values() for step in job["steps"] if "run" in step]
        assert {words[0] for words in ran} == {"make"}
        assert {words[1] for words in ran} <= targets
    here = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.M)
    assert {words[1] for words in ran} == set(here)


def test_the_pythons_of_workflow_classifiers_and_package_are_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [one.rsplit(" ", 1)[1] for one in project["classifiers"] if re.search(r"Python :: 3\.\d+$", one)]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"


def test_version_changelog_and_citation_agree():
    version = wsisurv.__version__
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert f'version: "{version}"' in (ROOT / "CITATION.cff").read_text()


def test_another_version_makes_no_file_stale():
    settings, inputs = {"tile_px": 224}, {"slide": "1"}
    prints = {Header("wsisurv/tiles", settings, inputs, wsisurv_version=one).fingerprint for one in ("0.1.0", "9.9.9")}
    assert prints == {Header("wsisurv/tiles", settings, inputs).fingerprint}


def test_every_name_of_the_python_interface_has_its_place_in_the_docs():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^::: wsisurv\.(\w+)$", page, re.M)) | set(re.findall(r"heading: wsisurv\.(\w+)", page))
    assert told == set(wsisurv.__all__) - {"__version__"}
