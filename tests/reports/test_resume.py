"""Killed again and again: REPORTS=1000 KILLS=20 python -m pytest tests/reports/test_resume.py is the long one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from wsisurv.formats.statements import read_statements
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.reports.step import extract
from wsisurv.settings.reports import ReportSettings
from wsisurv.workspace.paths import Workspace

REPORTS, KILLS = int(os.environ.get("REPORTS", 40)), int(os.environ.get("KILLS", 3))
CODE = (
    "import sys; from pathlib import Path; from wsisurv.reports.step import extract;"
    "from wsisurv.settings.reports import ReportSettings; from wsisurv.workspace.paths import Workspace;"
    "extract(Workspace(Path(sys.argv[1])), Path(sys.argv[2]), ReportSettings(model='tiny'), host=sys.argv[3],"
    "concurrency=int(sys.argv[4]))"
)


def written(workspace: Workspace) -> set[str]:
    """Cases whose lines are whole: a kill may cut the last one."""
    if not workspace.statements.exists():
        return set()
    whole = workspace.statements.read_text().rpartition("\n")[0].splitlines()
    return {json.loads(line)["case_id"] for line in whole}


def test_killed_again_and_again_asks_nothing_twice_and_loses_nothing(tmp_path: Path, ollama_server: Any) -> None:
    """What was under way at a kill is asked again, what was written never; whole lines outlive every kill."""
    concurrency = 4
    cases = [f"case{number:04}" for number in range(REPORTS)]
    source, workspace = tmp_path / "reports.jsonl", Workspace(tmp_path / "workspace")
    texts = {case: f"Adenocarcinoma of {case}. No necrosis." for case in cases}
    source.write_text("".join(json.dumps({"case_id": case, "text": text}) + "\n" for case, text in texts.items()))
    case_of = {text: case for case, text in texts.items()}
    command = [sys.executable, "-c", CODE, str(workspace.root), str(source), ollama_server.url, str(concurrency)]
    dice = random.Random(KILLS)
    asked: Counter[str] = Counter()
    for kill in range(KILLS):
        target = max(1, round(REPORTS * (kill + dice.random()) / (KILLS + 1)) - sum(asked.values()))
        kept = written(workspace)
        ollama_server.requests.clear()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while len(ollama_server.bodies()) < target:
                assert process.poll() is None
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
        now = {case_of[text] for text in ollama_server.passages()}
        assert not now & kept
        assert kept <= written(workspace)
        asked.update(now)
    ollama_server.requests.clear()
    kept = written(workspace)
    summary = extract(workspace, source, ReportSettings(model="tiny"), host=ollama_server.url, concurrency=concurrency)
    now = [case_of[text] for text in ollama_server.passages()]
    assert (set(summary.kept), set(now)) == (kept, set(cases) - kept)
    asked.update(now)
    assert set(asked) == set(read_statements(workspace.statements)) == set(cases)
    assert asked.total() <= REPORTS + KILLS * concurrency
    assert len(workspace.statements.read_text().splitlines()) == REPORTS
    assert sorted(set(read_text_vectors(workspace.vectors("hashing"))[0].case_ids)) == cases
