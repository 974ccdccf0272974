"""examples/workflows: what the rules of Snakemake, Nextflow's processes and the images run, run here without them."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from wsisurv.formats.risks import read_risks
from wsisurv.workspace.paths import Workspace

HERE = Path(__file__).parents[2] / "examples" / "workflows"
SHARES = 2


def of_snakemake(values: dict[str, str]) -> list[list[str]]:
    """Commands of the rules in their order, a share after the other."""
    text, found = (HERE / "Snakefile").read_text(), []
    for block in re.findall(r'shell:\s*((?:"[^"]*"\s*)+)', text):
        joined = "".join(re.findall(r'"([^"]*)"', block))
        for share in range(1, SHARES + 1) if "wildcards.share" in joined else [1]:
            filled = joined.replace("{wildcards.share}", str(share)).replace("{SHARES}", str(SHARES))
            filled = filled.replace("{COLUMNS}", values["columns"])
            filled = re.sub(r"\{(\w+):q\}", lambda name: shlex.quote(values[name[1].lower()]), filled)
            found += filled.split(" && ")
    return [shlex.split(one) for one in found]


def of_nextflow(values: dict[str, str]) -> list[list[str]]:
    """Commands of the processes in their order, a share after the other."""
    found = []
    for block in re.findall(r'"""\n(.*?)"""', (HERE / "main.nf").read_text(), re.DOTALL):
        for share in range(1, SHARES + 1) if "${share}" in block else [1]:
            filled = block.replace("${share}", str(share)).replace("${params.shares}", str(SHARES))
            found += re.sub(r"\$\{params\.(\w+)\}", lambda name: values[name[1]], filled).strip().splitlines()
    return [shlex.split(one) for one in found]


def test_both_engines_run_the_same_commands_which_lead_from_slides_to_risks(run, trained, quick, tmp_path):
    place = Workspace(shutil.copytree(trained / "workspace", tmp_path / "my workspace", copy_function=os.link))
    shutil.rmtree(place.root / "cohorts")
    data = trained / "data"
    values = {
        **{"slides": str(data / "slides"), "reports": str(data / "reports"), "clinical": str(data / "clinical.csv")},
        **{"workspace": str(place.root), "w": str(place.root), "encoder": "histomics", "backend": "rules"},
        "columns": "--time days --event event",
    }
    commands = of_snakemake(values)
    assert commands == of_nextflow(values)
    assert [one[1] for one in commands] == (
        ["tile"] * SHARES + ["embed"] * SHARES + ["extract-report", "train-teacher", "distill", "predict"]
    )
    slide_id = place.tiled_slides()[0]
    place.tiles(slide_id).unlink()
    for program, *words in commands:
        assert program == "wsisurv"
        ended = run(*quick(words))
        assert ended.code == 0, ended.err
    assert place.tiles(slide_id).exists()
    assert read_risks(place.cohort("study") / "risk.csv")


def test_the_images_install_the_wheel_and_their_shell_is_sound():
    docker = re.sub(r"\\\n", " ", (HERE / "Dockerfile").read_text())
    runs = re.findall(r"^RUN (.*)$", docker, re.MULTILINE)
    sections = re.split(r"^%(\w+)$", (HERE / "wsisurv.def").read_text(), flags=re.MULTILINE)
    shell = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert 'exec wsisurv "$@"' in shell["runscript"]
    assert 'ENTRYPOINT ["wsisurv"]' in docker
    for text in (*runs, shell["post"], shell["environment"], shell["test"], shell["runscript"]):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for text in ("\n".join(runs), shell["post"]):
        assert "pip install --no-cache-dir /tmp/dist/*.whl" in text


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="snakemake is not installed")
def test_snakemake_plans_its_rules(tmp_path):
    given = [f"{name}={tmp_path / name}" for name in ("slides", "reports", "clinical", "workspace")]
    words = ["snakemake", "-n", "-s", HERE / "Snakefile", "-d", tmp_path, "--config", "shares=3", *given]
    seen = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^tile +3$", seen, re.MULTILINE)
    assert re.search(r"^total +10$", seen, re.MULTILINE)
