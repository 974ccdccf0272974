"""What is asked and what may be answered."""

import json
from typing import Any

import pytest

from wsisurv.reports import prompt
from wsisurv.reports.example import PARROTED
from wsisurv.reports.grounding import ground
from wsisurv.reports.prompt import (
    MAX_STATEMENTS,
    Answer,
    Finding,
    Keep,
    answer_schema,
    messages,
    parse,
    prompt_sha256,
    salvage_answer,
    to_extraction,
)


def finding(**changes: Any) -> Finding:
    values = {"evidence": "No necrosis", "category": "necrosis", "polarity": "absent", "text": "No necrosis"}
    return Finding(**{**values, **changes})


def parts(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [part for item in schema for part in parts(item)]
    if isinstance(schema, dict):
        return [schema, *(part for item in schema.values() for part in parts(item))]
    return []


class TestSchema:
    def test_bounds_every_list_and_string(self) -> None:
        for part in parts(answer_schema()):
            if part.get("type") == "array":
                assert part["maxItems"] == MAX_STATEMENTS
            if part.get("type") == "string":
                assert "maxLength" in part or "enum" in part

    def test_has_nothing_that_llama_cpp_stumbles_on(self) -> None:
        text = json.dumps(answer_schema())
        for word in ("pattern", "minLength", "$ref", "$defs", "title", "description", "anyOf"):
            assert f'"{word}"' not in text

    def test_closes_every_object(self) -> None:
        for part in parts(answer_schema()):
            if part.get("type") == "object":
                assert part["additionalProperties"] is False
                assert set(part["required"]) == set(part["properties"])

    def test_asks_for_the_quote_first(self) -> None:
        items = answer_schema()["properties"]["statements"]["items"]
        assert next(iter(items["properties"])) == "evidence"


class TestPrompt:
    @pytest.mark.parametrize("keep", ["morphology", "all"])
    def test_example_would_be_proved_by_its_own_report(self, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wsisurv.reports.grounding.parroted", lambda *_: False)
        asked = messages("REPORT", keep)
        example = parse(Answer, asked[2]["content"])
        grounded = ground("x", to_extraction(example.statements, keep).claims, asked[1]["content"])
        assert not grounded.rejected
        assert len(grounded.statements) == len(example.statements)

    def test_parroted_example_is_never_proved_even_where_the_report_holds_it(self) -> None:
        asked = messages("", "morphology")
        findings = parse(Answer, asked[2]["content"]).statements
        louder = tuple(each.model_copy(update={"evidence": each.evidence.upper()}) for each in findings)
        restated = finding(text="No brimosal necrosis")
        claims = to_extraction((*findings, *louder, restated, finding()), "morphology").claims
        report = asked[1]["content"] + " No necrosis."
        grounded = ground("x", claims, report)
        assert [statement.evidence for statement in grounded.statements] == ["No necrosis"]
        assert {rejected.reason for rejected in grounded.rejected} == {PARROTED}
        assert len(grounded.rejected) == 2 * len(findings) + 1

    @pytest.mark.parametrize("keep", ["morphology", "all"])
    def test_all_but_the_report_is_the_same_byte_for_byte(self, keep: Keep) -> None:
        """A server keeps what it has read of a prompt up to the first byte that differs."""
        one, other = (json.dumps(messages(text, keep)) for text in ("ONE", "OTHER"))
        assert one.index('ONE"') == other.index('OTHER"')
        assert one.split('ONE"')[0] == other.split('OTHER"')[0]
        assert one.endswith('ONE"}]')

    def test_report_comes_last_and_whole(self) -> None:
        assert messages("THE {report}", "morphology")[-1] == {"role": "user", "content": "THE {report}"}

    def test_names_every_kind(self) -> None:
        system = messages("", "morphology")[0]["content"]
        for kind in answer_schema()["properties"]["statements"]["items"]["properties"]["category"]["enum"]:
            assert kind in system

    def test_hash_follows_what_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = prompt_sha256("morphology")
        assert before == prompt_sha256("morphology") != prompt_sha256("all")
        monkeypatch.setattr(prompt, "_SYSTEM", prompt._SYSTEM + " Be brief.")
        assert prompt_sha256("morphology") != before


class TestAnswer:
    def test_strict_json_of_the_schema_is_read(self) -> None:
        answer = Answer(statements=(finding(),))
        assert parse(Answer, answer.model_dump_json()) == answer
        assert parse(Answer, '{"statements": []}').statements == ()

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "no JSON"),
            ("PHI Smith has cancer", "no JSON"),
            ('{"statements": [', "no JSON"),
            ('```json\n{"statements": []}\n```', "fence"),
            ('<think>PHI Smith</think>{"statements": []}', "thinking"),
            ('{"statements": []} PHI Smith', "no JSON"),
            ("[]", "answer"),
            ("{}", "statements: missing"),
            ('{"statements": [], "PHI Smith": 1}', "extra"),
            ('{"statements": ["PHI Smith"]}', "statements.0"),
            (
                json.dumps({"statements": [{**finding().model_dump(), "category": "PHI Smith"}]}),
                "statements.0.category",
            ),
            (json.dumps({"statements": [{**finding().model_dump(), "evidence": "PHI Smith" * 99}]}), "too long"),
            (json.dumps({"statements": [{**finding().model_dump(), "text": 7}]}), "string type"),
            (json.dumps({"statements": [finding().model_dump()] * (MAX_STATEMENTS + 1)}), "too long"),
        ],
    )
    def test_anything_else_is_refused_without_its_words(self, content: str, words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            parse(Answer, content)
        if "category" not in words and "extra" not in words:
            assert "Smith" not in str(caught.value)


@pytest.mark.parametrize("whole", range(4))
def test_a_cut_answer_gives_its_complete_findings_wherever_it_was_cut(whole: int) -> None:
    findings = tuple(finding(text=f'Say "{n}" [{{') for n in range(4))
    content = Answer(statements=findings).model_dump_json()
    ends = [0, *(at for at in range(len(content)) if content[:at].endswith('[{"}')), len(content)]
    for cut in range(ends[whole], ends[whole + 1]):
        assert salvage_answer(content[:cut]) == findings[:whole]


@pytest.mark.parametrize("content", ["", "Sure!", "{", '{"statements": ', '{"statements": [7, 8', "[" * 100_000])
def test_nothing_is_salvaged_of_what_is_no_answer(content: str) -> None:
    assert salvage_answer(content) == ()
    assert salvage_answer('{"statements": [' + content) == ()


def test_empty_quote_is_rejected_and_loses_no_other() -> None:
    content = Answer(statements=(finding(evidence="", text=""), finding())).model_dump_json()
    grounded = ground("x", to_extraction(parse(Answer, content).statements, "morphology").claims, "No necrosis.")
    assert [statement.evidence for statement in grounded.statements] == ["No necrosis"]
    assert len(grounded.rejected) == 1


class TestKinds:
    def test_what_a_slide_cant_show_is_counted_and_left_out(self) -> None:
        given = (finding(), finding(category="gross"), finding(category="gross"), finding(category="history"))
        extraction = to_extraction(given, "morphology")
        assert [claim.category for claim in extraction.claims] == ["necrosis"]
        assert extraction.left_out == {"gross": 2, "history": 1}

    def test_all_of_it_is_kept_when_asked_but_identifiers(self) -> None:
        given = (finding(), finding(category="immunohistochemistry"), finding(category="identifiers"))
        extraction = to_extraction(given, "all")
        assert [claim.category for claim in extraction.claims] == ["necrosis", "non_morphology"]
        assert extraction.left_out == {"identifiers": 1}
