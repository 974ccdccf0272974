"""The step from reports to statements: killed, stale, failing, side by side. Protocol, not a model's quality."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from wsisurv.engine.shards import Shard
from wsisurv.errors import (
    BackendError,
    ModelNotPulledError,
    OllamaUnavailableError,
    ReportError,
    SettingsError,
    StaleError,
)
from wsisurv.formats.statements import read_rejected, read_statements
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.reports import step
from wsisurv.reports.asking import Patience
from wsisurv.reports.blotting import blotted
from wsisurv.reports.example import PARROTED
from wsisurv.reports.prompt import messages
from wsisurv.reports.step import extract
from wsisurv.settings.reports import ReportSettings
from wsisurv.workspace.ledger import Summary, read_failures
from wsisurv.workspace.paths import Workspace

RULES = ReportSettings(backend="rules")
OLLAMA = ReportSettings(model="tiny")
TEXT = "DIAGNOSIS: Moderately differentiated adenocarcinoma. No perineural invasion identified."


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    for number in range(6):
        (folder / f"case{number}.txt").write_text(f"{TEXT} Block A{number}.")
    return folder


def run(fake: Any, workspace: Workspace, source: Path, settings: ReportSettings = OLLAMA, **changes: Any) -> Summary:
    wanted: dict[str, Any] = {"host": fake.url, "patience": Patience(()), "timeout_s": 600}
    return extract(workspace, source, settings, **{**wanted, **changes})


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestRules:
    def test_every_report_gets_a_record_and_its_statements_a_vector(self, workspace: Workspace, source: Path) -> None:
        (source / "empty.txt").write_text("")
        summary = extract(workspace, source, RULES)
        records = read_statements(workspace.statements)
        assert (
            sorted(summary.done) == sorted(records) == ["case0", "case1", "case2", "case3", "case4", "case5", "empty"]
        )
        assert records["empty"].statements == ()
        for case_id, record in records.items():
            text = (source / f"{case_id}.txt").read_text()
            for statement in record.statements:
                assert " ".join(text[statement.start : statement.end].split()) == " ".join(statement.evidence.split())
        polarities = {statement.category: statement.polarity for statement in records["case0"].statements}
        assert polarities["perineural_invasion"] == "absent"
        vectors, _ = read_text_vectors(workspace.vectors("hashing"))
        assert set(vectors.case_ids) == set(records) - {"empty"}
        assert any("gave no statement: empty" in note for note in summary.notes)

    def test_blank_report_is_recorded_and_not_asked(
        self, workspace: Workspace, tmp_path: Path, ollama_server: Any
    ) -> None:
        (tmp_path / "reports.csv").write_text('case_id,text\nA,\nB," \n "\n')
        assert run(ollama_server, workspace, tmp_path / "reports.csv").done == ["A", "B"]
        assert not ollama_server.bodies()
        assert [record.statements for record in read_statements(workspace.statements).values()] == [(), ()]

    def test_no_server_is_asked(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        run(ollama_server, workspace, source, RULES)
        assert not ollama_server.requests

    def test_done_is_kept(self, workspace: Workspace, source: Path) -> None:
        extract(workspace, source, RULES)
        before = workspace.statements.read_bytes()
        (source / "new.txt").write_text(TEXT)
        summary = extract(workspace, source, RULES)
        assert summary.done == ["new"]
        assert len(summary.kept) == 6
        assert workspace.statements.read_bytes().startswith(before)

    def test_side_by_side_gives_the_same(self, tmp_path: Path, source: Path) -> None:
        one, many = Workspace(tmp_path / "one"), Workspace(tmp_path / "many")
        extract(one, source, RULES)
        extract(many, source, RULES, concurrency=4)
        assert read_statements(one.statements) == read_statements(many.statements)

    def test_case_that_is_gone_from_the_source_is_kept_and_told(self, workspace: Workspace, source: Path) -> None:
        extract(workspace, source, RULES)
        (source / "case0.txt").unlink()
        summary = extract(workspace, source, RULES)
        assert "case0" in read_statements(workspace.statements)
        assert any("not in the source: case0" in note for note in summary.notes)


class TestStale:
    def test_other_settings_stop_before_any_work(self, workspace: Workspace, source: Path) -> None:
        extract(workspace, source, RULES)
        (source / "new.txt").write_text(TEXT)
        before = workspace.statements.read_bytes()
        with pytest.raises(StaleError, match="keep: morphology → all.*--redo"):
            extract(workspace, source, ReportSettings(backend="rules", keep="all"))
        assert workspace.statements.read_bytes() == before

    def test_other_text_stops_with_its_case(self, workspace: Workspace, source: Path) -> None:
        extract(workspace, source, RULES)
        (source / "case3.txt").write_text("Another report.")
        with pytest.raises(StaleError, match="the text of case3 is another"):
            extract(workspace, source, RULES)

    def test_other_model_of_the_same_name_is_noticed(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        run(ollama_server, workspace, source)
        ollama_server.models["tiny:latest"]["digest"] = "b" * 64
        with pytest.raises(StaleError, match="model_digest: a+ → b+"):
            run(ollama_server, workspace, source)

    def test_other_backend_is_never_mixed_in(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        extract(workspace, source, RULES)
        with pytest.raises(StaleError, match="backend: rules → ollama"):
            run(ollama_server, workspace, source)

    def test_redo_replaces_and_leaves_no_old_line(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        ollama_server.model = lambda _: ollama_server.answer(("not in it", "grade", "present", "not in it"))
        run(ollama_server, workspace, source)
        assert len(read_rejected(workspace.rejected)) == 6
        ollama_server.model = type(ollama_server)().model
        run(ollama_server, workspace, source, ReportSettings(model="tiny", options={"seed": 1}), redo=True)
        assert len(lines(workspace.statements)) == 6
        assert {record.settings["options"]["seed"] for record in read_statements(workspace.statements).values()} == {1}
        assert read_rejected(workspace.rejected) == []

    def test_longer_report_makes_no_other_stale(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        run(ollama_server, workspace, source)
        (source / "long.txt").write_text("No necrosis. " * 1500)
        assert run(ollama_server, workspace, source).done == ["long"]
        windows = [body["options"]["num_ctx"] for body in ollama_server.bodies()]
        assert len(set(windows[6:])) == 1
        assert windows[-1] > windows[0]


class TestFailures:
    def test_report_that_fails_does_not_stop_the_others(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        (source / "latin.txt").write_bytes(b"Gr\xf6sse")
        ollama_server.script.append(lambda wire: wire.say("Sure! Here is PHI."))
        summary = run(ollama_server, workspace, source)
        assert sorted(failure.id for failure in summary.failed) == ["case0", "latin"]
        assert len(summary.done) == 5
        ledger = {failure.id: failure for failure in read_failures(workspace, step.STEP)}
        assert "JSON schema" in ledger["case0"].message
        assert "PHI" not in ledger["case0"].message
        assert ledger["latin"].path.endswith("latin.txt")
        (source / "latin.txt").write_text("Grösse")
        again = run(ollama_server, workspace, source)
        assert sorted(again.done) == ["case0", "latin"]
        assert not read_failures(workspace, step.STEP)

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_five_in_a_row_stop_the_run_with_the_servers_words(
        self, workspace: Workspace, source: Path, ollama_server: Any, concurrency: int
    ) -> None:
        ollama_server.script.extend([lambda wire: wire.json(503, {"error": "out of memory"})] * 6)
        with pytest.raises(OllamaUnavailableError, match="5 reports in a row.*out of memory"):
            run(ollama_server, workspace, source, concurrency=concurrency)
        assert len(read_failures(workspace, step.STEP)) == 5
        ollama_server.script.clear()
        assert len(run(ollama_server, workspace, source).done) == 6

    def test_four_in_a_row_do_not(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        ollama_server.script.extend([lambda wire: wire.json(503, {"error": "out of memory"})] * 4)
        summary = run(ollama_server, workspace, source)
        assert (len(summary.failed), len(summary.done)) == (4, 2)

    def test_eight_with_one_that_works_among_them_do_not(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        for number in range(6, 9):
            (source / f"case{number}.txt").write_text(TEXT)
        fails = [lambda wire: wire.json(503, {"error": "out of memory"})] * 4
        ollama_server.script.extend([*fails, lambda wire: wire.say(wire.fake.model("A b.")), *fails])
        summary = run(ollama_server, workspace, source)
        assert (len(summary.failed), len(summary.done)) == (8, 1)

    def test_no_server_is_told_before_any_work(self, workspace: Workspace, source: Path) -> None:
        with pytest.raises(OllamaUnavailableError, match="ollama serve"):
            extract(workspace, source, OLLAMA, host="127.0.0.1:1")
        assert not workspace.statements.exists()

    def test_missing_model_is_told_before_any_work(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        with pytest.raises(ModelNotPulledError, match="ollama pull other"):
            run(ollama_server, workspace, source, ReportSettings(model="other"))

    def test_pull_fetches_it(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        ollama_server.pullable = ("other:latest",)
        summary = run(ollama_server, workspace, source, ReportSettings(model="other"), pull=True)
        assert len(summary.done) == 6

    def test_bad_source(self, workspace: Workspace, tmp_path: Path) -> None:
        with pytest.raises(ReportError, match="no such file"):
            extract(workspace, tmp_path / "none", RULES)

    def test_cut_and_parroted_answers_are_counted_and_lose_no_report(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        said = ollama_server.answer(
            *[("Moderately differentiated", "grade", "present", "Moderately differentiated")] * 6
        )
        ollama_server.script.append(lambda wire: wire.say(said[:-9], done_reason="length"))
        example = json.dumps({"statements": json.loads(messages("", "morphology")[2]["content"])["statements"]})
        ollama_server.script.append(lambda wire: wire.say(example))
        summary = run(ollama_server, workspace, source)
        records = read_statements(workspace.statements)
        assert [records[f"case{n}"].salvaged for n in range(6)] == [1, None, None, None, None, None]
        assert "salvaged" not in lines(workspace.statements)[1]
        assert records["case1"].rejected == 4
        assert {rejected.reason for rejected in read_rejected(workspace.rejected)} == {PARROTED}
        assert any(note.startswith("1 reports were read in part") and "1 statements" in note for note in summary.notes)
        assert any("(4 in all) that the model parroted" in note and "case1" in note for note in summary.notes)
        ollama_server.requests.clear()
        assert len(run(ollama_server, workspace, source).kept) == 6
        assert not ollama_server.bodies()

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            (("Kein Tumor", "other_morphology", "absent", "Kein Tumor"), "not in the report"),
            (("Moderately differentiated", "grade", "present", "Grade 2 of 3"), "says '3'"),
            (("Moderately differentiated", "grade", "present", "Schlecht differenziert"), "says 'poor'"),
            (("adenocarcinoma", "histological_type", "present", "Kein adenocarcinoma"), "in another language"),
            (("adenocarcinoma", "histological_type", "present", "pas d'adenocarcinoma"), "in another language"),
            (
                ("No perineural invasion", "perineural_invasion", "absent", "Keine Nervenscheiden"),
                "in another language",
            ),
            (("adenocarcinoma", "histological_type", "present", "没有 adenocarcinoma"), "in another language"),
        ],
    )
    def test_what_the_report_does_not_say_is_counted_with_its_reason(
        self, workspace: Workspace, source: Path, ollama_server: Any, said: tuple[str, str, str, str], reason: str
    ) -> None:
        ollama_server.model = lambda _: ollama_server.answer(said)
        assert len(run(ollama_server, workspace, source).done) == 6
        assert all(reason in rejected.reason for rejected in read_rejected(workspace.rejected))
        assert [record.rejected for record in read_statements(workspace.statements).values()] == [1] * 6

    @pytest.mark.parametrize("said", ["The report describes a carcinoma.", "Il s'agit d'un carcinome.", "[]", ""])
    def test_prose_costs_its_report_alone_and_five_in_a_row_stop(
        self, workspace: Workspace, source: Path, ollama_server: Any, said: str
    ) -> None:
        ollama_server.script.extend([lambda wire: wire.say(said)] * 2)
        summary = run(ollama_server, workspace, source)
        assert (len(summary.done), [one.id for one in summary.failed]) == (4, ["case0", "case1"])
        ollama_server.requests.clear()
        assert run(ollama_server, workspace, source).done == ["case0", "case1"]  # those that failed are asked again
        assert len(ollama_server.bodies()) == 2
        ollama_server.model = lambda _: said
        with pytest.raises(OllamaUnavailableError, match="5 reports in a row"):
            run(ollama_server, Workspace(workspace.root / "other"), source)

    def test_endless_list_costs_its_report_alone(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        """A list beyond the schema's bound, of a server that does not hold to it."""
        many = ollama_server.answer(*[("Moderately differentiated", "grade", "present", str(n)) for n in range(500)])
        ollama_server.script.append(lambda wire: wire.say(many))
        summary = run(ollama_server, workspace, source)
        assert len(summary.done) == 5
        assert "too long" in summary.failed[0].message

    def test_server_that_loses_the_model_stops_the_run_and_nothing_is_asked_twice(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        answer = [lambda wire: wire.say(wire.fake.model("A b."))] * 2
        gone = {"error": "model 'tiny:latest' not found"}
        ollama_server.script.extend([*answer, lambda wire: wire.json(404, gone)])
        with pytest.raises(OllamaUnavailableError, match="not found.*stopped at case2.*kept"):
            run(ollama_server, workspace, source)
        assert len(ollama_server.bodies()) == 3
        assert len(read_statements(workspace.statements)) == 2
        summary = run(ollama_server, workspace, source)
        assert (len(summary.kept), len(summary.done)) == (2, 4)
        assert len(ollama_server.bodies()) == 3 + 4


class TestLabels:
    LABELS = OLLAMA.model_copy(update={"ask": "labels"})

    def test_pieces_are_labelled_one_by_one_and_quoted_as_they_are(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        said = {"adenocarcinoma": ("histological_type", "present"), "No perineural": ("perineural_invasion", "absent")}

        def label(piece: str) -> str:
            category, polarity = next((one for words, one in said.items() if words in piece), ("handling", "present"))
            return json.dumps({"category": category, "polarity": polarity})

        ollama_server.model = label
        summary = run(ollama_server, workspace, source, self.LABELS)
        assert len(summary.done) == 6
        record = read_statements(workspace.statements)["case0"]
        assert [(one.category, one.polarity, one.evidence) for one in record.statements] == [
            ("histological_type", "present", "Moderately differentiated adenocarcinoma"),
            ("perineural_invasion", "absent", "No perineural invasion identified"),
        ]
        assert record.left_out == {"handling": 1}
        bodies = ollama_server.bodies()
        assert [body["messages"][-1]["content"] for body in bodies[:3]] == [
            *(one.evidence for one in record.statements), "Block A0",
        ]  # fmt: skip
        assert len({json.dumps([body["messages"][:-1], body["format"]]) for body in bodies}) == 1  # kept by the server
        ollama_server.requests.clear()
        assert len(run(ollama_server, workspace, source, self.LABELS).kept) == 6
        assert not ollama_server.bodies()
        with pytest.raises(StaleError, match="ask"):
            run(ollama_server, workspace, source)

    def test_a_wrong_label_proves_nothing(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        ollama_server.model = lambda _: '{"category": "necrosis", "polarity": "present"}'
        run(ollama_server, workspace, source, self.LABELS)
        records = read_statements(workspace.statements)
        assert all(record.statements == () and record.rejected == 3 for record in records.values())

    def test_prose_costs_its_report_alone(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        good = json.dumps({"category": "grade", "polarity": "present"})
        ollama_server.script.extend([lambda wire: wire.say(good), lambda wire: wire.say("It is a carcinoma.")])
        ollama_server.model = lambda _: good
        summary = run(ollama_server, workspace, source, self.LABELS)
        assert ([one.id for one in summary.failed], len(summary.done)) == (["case0"], 5)

    def test_are_asked_of_a_model_and_not_of_rules(self, workspace: Workspace, source: Path) -> None:
        with pytest.raises(SettingsError, match="--ask labels"):
            extract(workspace, source, ReportSettings(backend="rules", ask="labels"))


class TestOneWorkspace:
    def test_two_processes_never_write_at_once(self, workspace: Workspace, source: Path) -> None:
        with workspace.claim(step.STEP, "statements") as claimed:
            assert claimed
            code = (
                "import sys; from pathlib import Path; from wsisurv.reports.step import extract;"
                "from wsisurv.settings.reports import ReportSettings; from wsisurv.workspace.paths import Workspace;"
                "s = extract(Workspace(Path(sys.argv[1])), Path(sys.argv[2]), ReportSettings(backend='rules'));"
                "print(len(s.elsewhere), len(s.done))"
            )
            command = [sys.executable, "-c", code, str(workspace.root), str(source)]
            seen = subprocess.run(command, capture_output=True, text=True, check=True)
        assert seen.stdout.split() == ["6", "0"]
        assert not workspace.statements.exists()

    def test_shares_write_the_same_files_as_one_run(self, tmp_path: Path, source: Path, ollama_server: Any) -> None:
        (source / "case3.txt").write_text("")
        (source / "spoilt.txt").write_bytes(b"\xff")  # fails in each, and no share waits for it
        ollama_server.model = lambda passage: ollama_server.answer(
            ("Moderately differentiated", "grade", "present", "grade"),
            ("not in it", "grade", "present", passage[-3:-1]),
        )
        whole, shared = Workspace(tmp_path / "whole"), Workspace(tmp_path / "shared")
        run(ollama_server, whole, source)
        n_asked = len(ollama_server.bodies())
        for number in (3, 1, 2):
            assert not shared.vectors("hashing").exists()
            part = run(ollama_server, shared, source, shard=Shard(number, 3))
            assert len(part.done) == 2
        assert len(ollama_server.bodies()) == 2 * n_asked
        for path in (whole.statements, whole.rejected, whole.vectors("hashing")):
            assert (shared.root / path.relative_to(whole.root)).read_bytes() == path.read_bytes()
        assert run(ollama_server, shared, source, shard=Shard(2, 3)).kept == ["case1", "case4"]
        shared.statements.write_bytes(
            shared.statements.read_bytes().partition(b"\n")[2]
        )  # one of them lost: by a later run
        assert run(ollama_server, shared, source).done == ["case0"]
        assert len(lines(shared.statements)) == 6

    def test_shares_that_write_at_once_lose_no_line(self, workspace: Workspace, source: Path) -> None:
        for number in range(6, 60):
            (source / f"case{number}.txt").write_text(f"{TEXT} Block A{number}.")
        threads = [
            threading.Thread(target=extract, args=(workspace, source, RULES), kwargs={"shard": Shard(number, 4)})
            for number in range(1, 5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(read_statements(workspace.statements)) == sorted(path.stem for path in source.iterdir())
        assert len(lines(workspace.statements)) == 60
        assert len(set(read_text_vectors(workspace.vectors("hashing"))[0].case_ids)) == 60

    @pytest.mark.parametrize("concurrency", [1, 3])
    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_killed_run_goes_on_where_it_was(
        self, workspace: Workspace, source: Path, ollama_server: Any, how: signal.Signals, concurrency: int
    ) -> None:
        answered = 2
        ollama_server.script.extend([lambda wire: wire.say(wire.fake.model("A b."))] * answered)
        ollama_server.script.extend([lambda wire: wire.fake.released.wait()] * 4)
        code = (
            "import sys; from pathlib import Path; from wsisurv.reports.step import extract;"
            "from wsisurv.settings.reports import ReportSettings; from wsisurv.workspace.paths import Workspace;"
            "extract(Workspace(Path(sys.argv[1])), Path(sys.argv[2]), ReportSettings(model='tiny'), host=sys.argv[3],"
            "concurrency=int(sys.argv[4]))"
        )
        command = [sys.executable, "-c", code, str(workspace.root), str(source), ollama_server.url, str(concurrency)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                while len(ollama_server.bodies()) < answered + 1 or not _written(workspace, answered):
                    assert process.poll() is None
                    time.sleep(0.02)
                os.kill(process.pid, how)
                assert process.wait() != 0  # it does not wait for the server, which never answers
            finally:
                process.kill()
        ollama_server.released.set()
        ollama_server.script.clear()
        ollama_server.requests.clear()
        summary = run(ollama_server, workspace, source)
        assert len(summary.kept) == answered
        assert len(summary.done) == len(ollama_server.bodies()) == 6 - answered
        assert len(lines(workspace.statements)) == 6

    def test_rejections_written_twice_by_a_killed_run_count_once(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        ollama_server.model = lambda _: ollama_server.answer(("not in it", "grade", "present", "not in it"))
        run(ollama_server, workspace, source)
        whole = workspace.statements.read_text().splitlines(keepends=True)
        workspace.statements.write_text("".join(whole[:-1]) + whole[-1][:40])  # killed in its last line
        run(ollama_server, workspace, source)
        assert len(lines(workspace.statements)) == 6
        assert len(read_rejected(workspace.rejected)) == 6

    def test_as_many_at_once_as_asked(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        all_three = threading.Barrier(3)

        def slow(wire: Any) -> None:
            all_three.wait()
            wire.fake.released.wait(0.3)  # a fourth would come meanwhile
            wire.say(wire.fake.model("A b."))

        ollama_server.script.extend([slow] * 6)
        run(ollama_server, workspace, source, concurrency=3)
        assert ollama_server.most_under_way == 3
        ollama_server.most_under_way = 0
        run(ollama_server, Workspace(workspace.root / "other"), source)
        assert ollama_server.most_under_way == 1


def _written(workspace: Workspace, count: int) -> bool:
    return workspace.statements.exists() and workspace.statements.read_bytes().count(b"\n") >= count


class TestText:
    def test_is_nowhere_but_in_the_evidence(
        self, workspace: Workspace, source: Path, ollama_server: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(6):
            (source / f"case{number}.txt").write_text(f"{TEXT} Xylophone.")
        ollama_server.script.append(lambda wire: wire.say('{"statements": ["Xylophone"]}'))
        with caplog.at_level("DEBUG"):
            run(ollama_server, workspace, source)
        assert "Xylophone" not in caplog.text
        for file in workspace.root.rglob("*"):
            if file.is_file():
                assert b"Xylophone" not in file.read_bytes(), file

    def test_is_logged_when_asked(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        run(ollama_server, workspace, source, log_text=True)
        logged = lines(workspace.root / "reports" / "exchanges.jsonl")
        assert [entry["passage"] for entry in logged] == ollama_server.passages()


class TestTextEncoder:
    def test_of_the_server(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        ollama_server.models["embedder:latest"] = {"digest": "e" * 64}
        ollama_server.shown |= {"capabilities": ["completion", "embedding"], "license": "CC-BY-NC 4.0"}
        summary = run(ollama_server, workspace, source, text_encoder="ollama:embedder")
        vectors, header = read_text_vectors(workspace.vectors("ollama-embedder"))
        assert vectors.values.shape == (6, 3)
        assert header.settings["digest"] == "e" * 64
        assert any("CC-BY-NC" in note for note in summary.notes)
        assert all(body["truncate"] is False for body in ollama_server.bodies("/api/embed"))

    def test_statement_without_a_vector_is_a_failure_and_loses_no_other(
        self, workspace: Workspace, source: Path, ollama_server: Any
    ) -> None:
        (source / "case2.txt").write_text("The colon is too long. No necrosis.")
        ollama_server.shown["capabilities"] = ["completion", "embedding"]
        summary = run(ollama_server, workspace, source, text_encoder="ollama:tiny")
        vectors, _ = read_text_vectors(workspace.vectors("ollama-tiny"))
        assert set(vectors.case_ids) == {f"case{number}" for number in (0, 1, 3, 4, 5)}
        assert "1 statements have no vector" in summary.failed[0].message

    @pytest.mark.parametrize("name", ["hash", "ollama:", "openai:x"])
    def test_that_is_unknown_is_told_before_any_work(self, workspace: Workspace, source: Path, name: str) -> None:
        with pytest.raises(SettingsError, match="Known: hashing, tfidf"):
            extract(workspace, source, RULES, text_encoder=name)
        assert not workspace.statements.exists()

    def test_missing_folder_is_told_before_any_work(self, workspace: Workspace, source: Path) -> None:
        with pytest.raises(BackendError, match="no such folder"):
            extract(workspace, source, RULES, text_encoder=f"st:{source}/none")
        assert not workspace.statements.exists()


def test_live_server_answers(workspace: Workspace, source: Path) -> None:
    """A real Ollama: WSISURV_OLLAMA_HOST and WSISURV_OLLAMA_MODEL. It proves protocol and proof, not quality."""
    if not (os.environ.get("WSISURV_OLLAMA_HOST") and os.environ.get("WSISURV_OLLAMA_MODEL")):
        pytest.skip("WSISURV_OLLAMA_HOST and WSISURV_OLLAMA_MODEL name no live server")
    summary = extract(workspace, source, ReportSettings(model=os.environ["WSISURV_OLLAMA_MODEL"]))
    assert len(summary.done) == 6
    assert not summary.failed


PERMANENT = [
    (500, "model requires more system memory (9.1 GiB) than is available (4.0 GiB)"),
    (500, "unable to load model: /models/blobs/sha256-aa"),
    (500, "llama runner process has terminated: error loading model: unknown model architecture: 'new'"),
    (500, "CUDA error: out of memory"),
    (500, "failed to allocate buffer for kv cache"),
    (404, "model 'tiny:latest' not found"),
    (401, "unauthorized"),
]


class TestTheRunStops:
    @pytest.mark.parametrize(("status", "words"), PERMANENT, ids=[words[:30] for _, words in PERMANENT])
    def test_at_an_error_that_stays(
        self, workspace: Workspace, source: Path, ollama_server: Any, status: int, words: str
    ) -> None:
        ollama_server.script.extend([lambda wire: wire.json(status, {"error": words})] * 9)
        with pytest.raises(OllamaUnavailableError, match=re.escape(words)):
            run(ollama_server, workspace, source, patience=Patience((600,)))
        assert len(ollama_server.bodies()) == 1

    @pytest.mark.parametrize("digest", ["b" * 64, ""])
    def test_when_the_model_is_another(
        self, workspace: Workspace, source: Path, ollama_server: Any, digest: str
    ) -> None:
        def replaced(wire: Any) -> None:
            ollama_server.models["tiny:latest"] = {"digest": digest}
            wire.say('{"statements": []}')

        ollama_server.script.append(replaced)
        with pytest.raises(OllamaUnavailableError, match="was changed while the run went on"):
            run(ollama_server, workspace, source)
        assert len(ollama_server.bodies()) == 1
        assert not workspace.statements.exists()

    def test_when_the_model_is_gone(self, workspace: Workspace, source: Path, ollama_server: Any) -> None:
        def removed(wire: Any) -> None:
            ollama_server.models.clear()
            wire.say('{"statements": []}')

        ollama_server.script.append(removed)
        with pytest.raises(OllamaUnavailableError, match="was changed while the run went on"):
            run(ollama_server, workspace, source)

    @pytest.mark.parametrize("where", ["shown", "tags", "answer"])
    def test_when_text_would_leave_this_machine(
        self, workspace: Workspace, source: Path, ollama_server: Any, where: str
    ) -> None:
        def sent_on(wire: Any) -> None:
            told = {"remote_host": "https://elsewhere.example"}
            if where == "shown":
                ollama_server.shown.update(told)
            if where == "tags":
                ollama_server.models["tiny:latest"].update(told)
            wire.say('{"statements": []}', **(told if where == "answer" else {}))

        ollama_server.models["tiny:latest"] = dict(ollama_server.models["tiny:latest"])
        ollama_server.script.append(sent_on)
        with pytest.raises(OllamaUnavailableError, match=r"elsewhere\.example"):
            run(ollama_server, workspace, source)
        assert len(ollama_server.bodies()) == 1


class TestBlotting:
    @pytest.mark.parametrize("status", [400, 500, 503, 404])
    def test_an_error_that_repeats_the_prompt_is_kept_without_it(
        self, workspace: Workspace, source: Path, ollama_server: Any, status: int
    ) -> None:
        for number in range(6):
            (source / f"case{number}.txt").write_text("Mrs Xylophone,\nZürich 2231987: Adenocarcinoma.")
        escaped = json.dumps({"prompt": "Mrs Xylophone,\nZürich 2231987: Adenoc"})[:-2]
        ollama_server.script.extend([lambda wire: wire.json(status, {"error": f"invalid token in {escaped}"})] * 9)
        with pytest.raises(BackendError, match="invalid token") as caught:
            run(ollama_server, workspace, source)
        kept = "".join(failure.message for failure in read_failures(workspace, "extract-report"))
        for told in (str(caught.value), kept):
            assert "invalid token" in told
            for word in ("Xylophone", "rich", "2231987", "Adenoc"):
                assert word not in told

    def test_a_servers_own_words_stay(self) -> None:
        words = "model requires more system memory (9.1 GiB) than is available (4.0 GiB)"
        assert blotted(words, "The model requires more memory than the system. Adenocarcinoma.") == words
