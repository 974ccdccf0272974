"""A retry that fits the cause, against a server that fails on command. Protocol, not a model's quality."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsisurv.errors import BackendError, OllamaUnavailableError, SettingsError
from wsisurv.reports import asking
from wsisurv.reports.asking import Asker, Patience, Plan, estimate_tokens, make_plan
from wsisurv.reports.ollama import Server
from wsisurv.reports.prompt import MAX_STATEMENTS
from wsisurv.reports.server_errors import ServerBusyError, ServerSlowError
from wsisurv.reports.server_models import Model

REPORT = "Moderately differentiated adenocarcinoma. No perineural invasion. " * 40
MakeAsker = Callable[..., Asker]


@pytest.fixture
def make_asker(ollama_server: Any) -> Iterator[MakeAsker]:
    servers = []

    def make(
        thinks: bool = False, passage_chars: int = 8000, num_ctx: int = 8192, labels: bool = False, **options: Any
    ) -> Asker:
        servers.append(Server(ollama_server.url, timeout_s=600))
        model = Model("tiny:latest", "a" * 64, 32768, thinks, "0.12.6")
        plan = Plan({**asking.DEFAULT_OPTIONS, **options}, num_ctx, passage_chars)
        return Asker(servers[-1], model, plan, "morphology", labels, Patience((0, 0)))

    yield make
    for server in servers:
        server.close()


def evidence(asker: Asker, text: str = REPORT) -> list[str]:
    return [claim.evidence for claim in asker.extract(text).claims]


class TestPlan:
    model = Model("m:latest", "d", 131072, False, "0.12.6")

    def test_window_holds_rules_longest_passage_and_answer(self) -> None:
        for length in (10, 3000, 7999, 30_000):
            plan = make_plan(self.model, "morphology", ["x" * length, ""], {})
            rules = estimate_tokens("".join(m["content"] for m in asking.messages("", "morphology")))
            assert plan.num_ctx >= rules + min(length, plan.passage_chars) / 2.5 + plan.options["num_predict"]

    def test_window_is_never_more_than_the_models(self) -> None:
        model = Model("m:latest", "d", 5000, False, "0.12.6")
        plan = make_plan(model, "all", ["x" * 100_000], {})
        assert plan.num_ctx == 5000
        assert plan.passage_chars < 8000

    def test_report_a_little_longer_leaves_the_window_as_it_is(self) -> None:
        windows = {make_plan(self.model, "morphology", ["x" * length], {}).num_ctx for length in (5000, 5100, 8000)}
        assert len(windows) == 1

    def test_model_that_is_too_small_is_told(self) -> None:
        with pytest.raises(SettingsError, match="2048 tokens has no room"):
            make_plan(Model("m:latest", "d", 2048, False, "0.12.6"), "morphology", ["x"], {})

    def test_options_given_win(self) -> None:
        plan = make_plan(self.model, "morphology", ["x"], {"seed": 7, "num_ctx": 16384})
        assert plan.options["seed"] == 7
        assert plan.num_ctx == 16384
        assert "num_ctx" not in plan.options


class TestAnswer:
    def test_goes_out_as_it_must(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        make_asker().extract("Adenocarcinoma.")
        (body,) = ollama_server.bodies()
        assert body["options"]["temperature"] == 0
        assert body["options"]["seed"] == 0
        assert body["options"]["num_ctx"] == 8192
        assert body["format"]["properties"]["statements"]["maxItems"] == MAX_STATEMENTS
        assert "think" not in body

    def test_model_that_thinks_is_told_not_to(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        make_asker(thinks=True).extract("Adenocarcinoma.")
        assert [body["think"] for body in ollama_server.bodies()] == [False]

    def test_blank_report_is_not_asked(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        assert evidence(make_asker(), " \n ") == []
        assert not ollama_server.requests

    def test_finding_of_two_passages_counts_once(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.model = lambda passage: ollama_server.answer(
            (passage.split()[0] + " cells", "stroma", "present", "x"), ("Adeno\ncarcinoma", "grade", "present", "x")
        )
        found = evidence(make_asker(passage_chars=900))
        assert found.count("Adeno\ncarcinoma") == 1
        assert len(ollama_server.passages()) > 1

    def test_every_word_of_a_long_report_is_asked(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        report = " ".join(f"word{n}" for n in range(2000))
        make_asker(passage_chars=1500).extract(report)
        asked = {word for passage in ollama_server.passages() for word in passage.split()}
        assert asked >= set(report.split())


class TestRetry:
    def test_cut_answer_gets_more_room(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.script.append(lambda wire: wire.say('{"statements": [', done_reason="length"))
        assert evidence(make_asker(num_predict=1000), "Adenocarcinoma.") == ["Adenocarcinoma"]
        assert [body["options"]["num_predict"] for body in ollama_server.bodies()] == [1000, 2000]
        assert len({body["options"]["num_ctx"] for body in ollama_server.bodies()}) == 1

    def test_cut_answer_without_more_room_is_asked_in_halves(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        asker = make_asker(num_predict=7900)
        ollama_server.script.append(lambda wire: wire.say('{"statements": [', done_reason="length"))
        assert evidence(asker)
        whole, first, second = ollama_server.passages()
        assert whole == REPORT
        assert max(len(first), len(second)) < len(whole) <= len(first) + len(second)

    def test_cut_answer_that_cannot_be_had_whole_gives_what_was_complete(
        self, ollama_server: Any, make_asker: MakeAsker
    ) -> None:
        text = "Adenocarcinoma. No necrosis. Mucin is seen."
        said = ollama_server.answer(*[(words, "stroma", "present", words) for words in text[:-1].split(". ")])
        second = said.index('"Mucin')
        ollama_server.model = lambda _: said[:second]
        ollama_server.script.append(lambda wire: wire.say(said[: second + 9], done_reason="length"))
        extraction = make_asker(num_predict=7900).extract(text)
        assert [claim.evidence for claim in extraction.claims] == ["Adenocarcinoma", "No necrosis"]
        assert extraction.salvaged == 2
        assert len(ollama_server.bodies()) == 1

    def test_answer_that_goes_round_is_not_asked_for_more(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        turns = [("Moderately", "grade", "present", "x"), ("No perineural", "stroma", "absent", "x")] * 5
        said = ollama_server.answer(*turns)
        ollama_server.script.append(lambda wire: wire.say(said[:-5], done_reason="length"))
        extraction = make_asker().extract(REPORT)
        assert [claim.evidence for claim in extraction.claims] == ["Moderately", "No perineural"]
        assert extraction.salvaged == 2
        assert ollama_server.passages() == [REPORT]

    def test_answer_that_ended_is_not_marked(self, make_asker: MakeAsker) -> None:
        assert make_asker().extract(REPORT).salvaged is None

    def test_cut_before_its_first_statement_fails(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.script.append(lambda wire: wire.say('{"statements": [{"evidence": "Ad', done_reason="length"))
        with pytest.raises(BackendError, match="no end after 7900 tokens, and a passage of 15 characters is not split"):
            make_asker(num_predict=7900).extract("Adenocarcinoma.")

    @pytest.mark.parametrize("fault", ["too long", "unfinished", "full"])
    def test_passage_is_asked_in_halves(self, ollama_server: Any, make_asker: MakeAsker, fault: str) -> None:
        full = ollama_server.answer(*[("Moderately", "grade", "present", "x")] * MAX_STATEMENTS)
        ollama_server.script.append(
            {
                "too long": lambda wire: wire.json(400, {"error": "the input length exceeds the context length"}),
                "unfinished": lambda wire: wire.stream([{"message": {"content": "{"}, "done": False}] * 9),
                "full": lambda wire: wire.say(full),
            }[fault]
        )
        assert evidence(make_asker())
        assert [len(passage) < len(REPORT) for passage in ollama_server.passages()] == [False, True, True]

    def test_short_passage_that_never_ends_fails(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.script.append(lambda wire: wire.stream([{"message": {"content": "{"}, "done": False}]))
        with pytest.raises(BackendError, match="not split"):
            make_asker().extract("Adenocarcinoma.")

    @pytest.mark.parametrize("content", ["", "```json\n{}\n```", "<think>hm</think>{}", '{"findings": []}', "Sure!"])
    def test_schema_ignored_by_a_thinking_model_is_asked_once_without_think(
        self, ollama_server: Any, make_asker: MakeAsker, content: str
    ) -> None:
        ollama_server.script.append(lambda wire: wire.say(content))
        assert evidence(make_asker(thinks=True), "Adenocarcinoma.") == ["Adenocarcinoma"]
        assert [body.get("think", "open") for body in ollama_server.bodies()] == [False, "open"]

    def test_model_that_keeps_the_schema_only_when_it_thinks_is_not_asked_twice_for_good(
        self, ollama_server: Any, make_asker: MakeAsker
    ) -> None:
        ollama_server.script.append(lambda wire: wire.say("Sure!"))
        asker = make_asker(thinks=True)
        for report in ("Adenocarcinoma.", "Adenoma."):
            assert asker.extract(report).claims
        assert [body.get("think", "open") for body in ollama_server.bodies()] == [False, "open", "open"]

    @pytest.mark.parametrize(("thinks", "asked"), [(True, 2), (False, 1)])
    def test_schema_ignored_for_good_fails(
        self, ollama_server: Any, make_asker: MakeAsker, thinks: bool, asked: int
    ) -> None:
        ollama_server.model = lambda _: '```json\n{"statements": []}\n```'
        with pytest.raises(BackendError, match="does not keep to the JSON schema.*fence"):
            make_asker(thinks=thinks).extract("Adenocarcinoma.")
        assert len(ollama_server.bodies()) == asked

    @pytest.mark.parametrize("status", [503, 500])
    def test_busy_server_is_waited_for(self, ollama_server: Any, make_asker: MakeAsker, status: int) -> None:
        busy = {"error": "server busy, please try again. maximum pending requests exceeded"}
        ollama_server.script.extend([lambda wire: wire.json(status, busy)] * 2)
        assert evidence(make_asker(), "Adenocarcinoma.") == ["Adenocarcinoma"]

    def test_busy_server_is_given_up_in_its_own_words(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.script.extend([lambda wire: wire.json(503, {"error": "server busy"})] * 3)
        with pytest.raises(ServerBusyError, match="server busy"):
            make_asker().extract("Adenocarcinoma.")
        assert len(ollama_server.bodies()) == 3

    def test_stalled_server_is_not_asked_again(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.script.append(lambda wire: wire.fake.released.wait())
        asker = make_asker()
        asker.server = Server(ollama_server.url, timeout_s=0.2)
        with asker.server, pytest.raises(ServerSlowError):
            asker.extract("Adenocarcinoma.")
        while not ollama_server.bodies():  # where the server is slower than the asker's patience
            time.sleep(0.02)
        assert len(ollama_server.bodies()) == 1


class TestCounts:
    @pytest.mark.parametrize("count", [None, 0, 100])
    def test_prompt_that_was_cut_is_noticed(self, ollama_server: Any, make_asker: MakeAsker, count: int | None) -> None:
        ollama_server.script.append(lambda wire: wire.say('{"statements": []}', prompt_eval_count=count))
        with pytest.raises(OllamaUnavailableError, match="they were cut"):
            make_asker().extract("Adenocarcinoma.")

    def test_half_of_a_prompt_is_noticed(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        def half(wire: Any) -> None:
            count = sum(len(message["content"].split()) for message in wire.body["messages"]) * 3 // 4
            wire.say('{"statements": []}', prompt_eval_count=count)

        ollama_server.script.append(half)
        with pytest.raises(OllamaUnavailableError, match="they were cut"):
            make_asker().extract(REPORT)

    def test_more_than_the_window_is_noticed(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.script.append(lambda wire: wire.say('{"statements": []}', prompt_eval_count=9000))
        with pytest.raises(OllamaUnavailableError, match="part of it was lost"):
            make_asker().extract("Adenocarcinoma.")

    def test_smaller_window_than_asked_is_noticed(self, ollama_server: Any, make_asker: MakeAsker) -> None:
        ollama_server.loaded_context = 4096
        with pytest.raises(OllamaUnavailableError, match="window of 4096 tokens, not the 8192"):
            make_asker().extract("Adenocarcinoma.")

    @pytest.mark.parametrize("reason", ["load", "", "abort"])
    def test_end_for_another_reason_is_no_answer(self, ollama_server: Any, make_asker: MakeAsker, reason: str) -> None:
        ollama_server.script.append(lambda wire: wire.say('{"statements": []}', done_reason=reason))
        with pytest.raises(BackendError, match="not with 'stop'"):
            make_asker().extract("Adenocarcinoma.")


def test_report_text_is_in_no_log(make_asker: MakeAsker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        make_asker().extract("Adenocarcinoma of Xylophone.")
    assert caplog.records  # httpx tells that it asked
    assert "Xylophone" not in caplog.text


def test_exchange_is_told_word_by_word_when_asked(make_asker: MakeAsker) -> None:
    asker = make_asker()
    told: list[tuple[str, str]] = []
    asker.exchange = lambda passage, content: told.append((passage, content))
    asker.extract("Adenocarcinoma.")
    ((passage, content),) = told
    assert passage == "Adenocarcinoma."
    assert json.loads(content)["statements"][0]["evidence"] == "Adenocarcinoma"
