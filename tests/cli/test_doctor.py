"""`wsisurv doctor`: what this machine has and lacks, with the way out."""

import errno
import json

import pytest

from wsisurv.pipeline.doctor import check_claims
from wsisurv.workspace import claims


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch):
    """No Ollama server, and no network."""
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def seen(ended):
    return {one["what"]: one for one in json.loads(ended.out)}


def test_each_line_says_what_was_seen_and_nothing_stays(run, tmp_path):
    ended = run("doctor", "-w", tmp_path / "work", "--json")
    assert ended.code == 0, ended.err
    found = seen(ended)
    assert {"wsisurv", "versions", "encoder", "Ollama", "workspace", "locks", "temporary files", "GPU", "machine"} <= {
        *found
    }
    assert "torch " in found["versions"]["said"]
    assert found["encoder"]["state"] == "good"
    assert found["Ollama"]["state"] == "warning"
    assert "ollama serve" in found["Ollama"]["way_out"]
    assert list(tmp_path.iterdir()) == []
    plain = run("doctor", "-w", tmp_path / "work").out
    assert plain.count("good") >= 5
    assert "0 fault" in plain


def test_a_fault_is_in_the_exit_code_with_its_way_out(run, tmp_path):
    ended = run("doctor", "-w", tmp_path, "--model", "qwen3:8b", "--json")
    assert ended.code == 1
    assert seen(ended)["Ollama"]["state"] == "fault"
    ended = run("doctor", "-w", tmp_path, "--encoder", "uni2h", "--json")
    assert ended.code == 1
    assert "did you mean uni2-h" in seen(ended)["encoder"]["said"]
    (tmp_path / "file").touch()
    ended = run("doctor", "-w", tmp_path / "file" / "work", "--json")
    assert ended.code == 1
    assert seen(ended)["workspace"]["state"] == "fault"


def test_libraries_locks_and_room_that_are_missing(run, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(claims, "_without_locks", set())
    monkeypatch.setattr(claims.FileLock, "acquire", refuse)
    monkeypatch.setattr("wsisurv.pipeline.doctor._LIBRARIES", ("torch", "no-such-library"))
    monkeypatch.setattr("wsisurv.pipeline.doctor._LEAST_FREE", float("inf"))
    ended = run("doctor", "-w", tmp_path, "--json")
    assert ended.code == 1
    found = seen(ended)
    assert found["locks"]["state"] == "warning"
    assert found["workspace"]["state"] == "warning"
    assert found["libraries"]["said"] == "not installed: no-such-library"


def test_locks_that_are_given_to_two_processes_are_a_fault(tmp_path, monkeypatch):
    assert check_claims(tmp_path / "work").state == "good"
    monkeypatch.setattr(claims.FileLock, "acquire", lambda *_, **__: None)  # says yes, and keeps nobody out
    told = check_claims(tmp_path / "work")
    assert told.state == "fault"
    assert "given to a second too" in told.said
    monkeypatch.undo()
    monkeypatch.setattr("wsisurv.pipeline.doctor.try_claims", lambda _: claims.ClaimsTrial(False, True, False))
    assert check_claims(tmp_path).state == "fault"  # neither locks nor O_EXCL
    assert list(tmp_path.iterdir()) == []
