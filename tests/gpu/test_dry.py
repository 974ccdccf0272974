"""The GPU checks go every way on the CPU, so that no time on a card is spent on a typo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_the_checks_run_without_a_card(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(HERE / "run.sh"), "--dry"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "OUT": str(tmp_path),
            "PYTHON": sys.executable,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
    )
    said = done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert not found["failed"], said[-8000:]
    assert done.returncode == 0, said[-8000:]
    assert set(found["parts"]) == {"cpu", "suite", "embed", "training", "agreement"}
    assert all(part["ended"] == "done" for part in found["parts"].values())
    assert found["parts"]["embed"]["tiles"] > 0
    assert any("no room" in note for note in found["parts"]["embed"]["out_of_memory_notes"])
    assert found["parts"]["training"]["times_faster_than_cpu"].keys() == {"teacher_s", "distill_s"}
