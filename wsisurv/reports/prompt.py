"""What the language model is asked, and the one shape that its answer may have.

The schema is made from the pydantic model that also checks the answer, so the two can't drift. It is bounded, lists
and strings, because an unbounded one lets a model that repeats itself run to its token limit. It has no ``pattern``,
which llama.cpp turns into grammars that some of its versions refuse, and no lower bound, which the engine of our tests
does not keep: an empty quote is rejected by the proof, and must not lose the report's other findings.
"""

import json
import re
from functools import cache
from hashlib import sha256
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsisurv.formats.statements import Category, Morphology, Polarity
from wsisurv.reports.example import PASSAGE
from wsisurv.reports.grounding import Claim, Extraction

MAX_STATEMENTS = 40
"""Statements in one answer. A full list is taken as one that was cut: the passage is asked again in two halves."""
MAX_TEXT = 160
"""Characters of a restated finding."""
MAX_EVIDENCE = 320
"""Characters of a quote."""

Keep = Literal["morphology", "all"]

Kind = Literal[Morphology, "gross", "immunohistochemistry", "history", "handling", "identifiers"]
"""Categories of statements, then the kinds that a slide can't show.

The model is given names for what is left out as well: with no honest name for an immunohistochemistry result, a model
that is held to the schema files it under morphology.
"""
_CATEGORY: dict[str, Category] = {name: name for name in get_args(Category) if name != "non_morphology"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Part = TypeVar("Part", bound=_Part)


class Finding(_Part):
    """One finding as the model gives it. The quote comes first: what is copied before it is restated stays true."""

    evidence: str = Field(max_length=MAX_EVIDENCE)
    category: Kind
    polarity: Polarity
    text: str = Field(max_length=MAX_TEXT)


class Label(_Part):
    """What the model says of one piece of a report."""

    category: Kind
    polarity: Polarity


class Answer(_Part):
    """All that the model may answer."""

    statements: tuple[Finding, ...] = Field(max_length=MAX_STATEMENTS)


_SYSTEM = """\
You read surgical pathology reports and copy out findings, one by one.

List every finding that a pathologist sees on the H&E slide under the microscope:
histological_type; grade (differentiation); growth_pattern (architecture, tumour border, budding);
invasion (depth, structures reached); lymphovascular_invasion; perineural_invasion; necrosis; mucin
(and signet-ring cells); mitoses; stroma (desmoplasia, fibrosis); inflammation (lymphocytes and other
immune cells); margin (as seen under the microscope); node (lymph nodes under the microscope);
precursor (adenoma, dysplasia, in situ); other_morphology (any other microscopic finding).

Rules
- evidence: copy the words of the report exactly, letter for letter, numbers and negations included. One short
  stretch, a sentence or less, never joined from two places.
- text: the finding restated briefly, in the words of the evidence where you can. No number, grade or amount that
  the evidence does not say.
- polarity: "present"; "absent" when the report says that it is not there (absence matters as much as presence);
  "uncertain" when the report doubts or could not assess it. A margin or node that is free of tumour is "absent".
- One finding, one statement: split sentences that hold several. Do not repeat a finding.
- {others}
- A report without any finding gives an empty list.
Answer with JSON only."""

_OTHERS: dict[Keep, str] = {
    "morphology": (
        "What a slide can't show is not wanted: gross description, immunohistochemistry and molecular results, "
        "clinical history, specimen handling, identifiers. If you list such a finding, name its kind honestly (gross, "
        "immunohistochemistry, history, handling, identifiers)."
    ),
    "all": (
        "List the findings that a slide can't show as well, each under its kind: gross (seen without a microscope), "
        "immunohistochemistry (and molecular results), history, handling (specimen and blocks). Leave out names, "
        "addresses and numbers of persons."
    ),
}

_EXAMPLE_ANSWER = Answer(
    statements=(
        Finding(
            evidence="Brimosal carcinoma",
            category="histological_type",
            polarity="present",
            text="Brimosal carcinoma",
        ),
        Finding(evidence="brimosal grade 9", category="grade", polarity="present", text="Brimosal grade 9"),
        Finding(
            evidence="30% ornelic mucin",
            category="mucin",
            polarity="present",
            text="Ornelic mucin in 30% of the tumour",
        ),
        Finding(
            evidence="No perineural invasion of tarvic nerves",
            category="perineural_invasion",
            polarity="absent",
            text="No perineural invasion",
        ),
    )
)
"""Each quote has a word that no report has, so that a model which repeats them is found out."""


_LABELLER = """\
Each line is a piece of a surgical pathology report. Say what it is about and whether the report says that it is \
present, absent (not there, free of tumour) or uncertain. category: {names}."""
_LABELLED = (
    ("Adenocarcinoma", Label(category="histological_type", polarity="present")),
    ("poorly differentiated", Label(category="grade", polarity="present")),
    ("Invasion of the muscularis propria", Label(category="invasion", polarity="present")),
    ("No lymphovascular invasion", Label(category="lymphovascular_invasion", polarity="absent")),
    ("Margins free of tumor", Label(category="margin", polarity="absent")),
    ("Two of ten lymph nodes positive", Label(category="node", polarity="present")),
    ("RECEIVED in formalin", Label(category="handling", polarity="present")),
)


@cache
def answer_schema(answer: type[Answer | Label] = Answer) -> dict[str, Any]:
    """JSON schema of ``answer`` with its parts written in place: no ``$ref``, no titles, no descriptions."""
    schema = answer.model_json_schema()
    parts = schema.pop("$defs", {})

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return plain(parts[value["$ref"].rsplit("/", 1)[1]])
            return {key: plain(item) for key, item in value.items() if key not in {"title", "description"}}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return dict(plain(schema))


def messages(passage: str, keep: Keep) -> list[dict[str, str]]:
    """The conversation that asks for the findings of ``passage``: rules, one worked example, the passage.

    All but the passage is the same for every report, byte for byte, so that a server reads it once and keeps it.
    """
    return [
        {"role": "system", "content": _SYSTEM.format(others=_OTHERS[keep])},
        {"role": "user", "content": PASSAGE},
        {"role": "assistant", "content": _EXAMPLE_ANSWER.model_dump_json()},
        {"role": "user", "content": passage},
    ]


def label_messages(piece: str) -> list[dict[str, str]]:
    """The conversation that asks what ``piece`` is about: all but it the same for every piece."""
    names = ", ".join(answer_schema(Label)["properties"]["category"]["enum"])
    shown = [
        {"role": role, "content": content}
        for said, label in _LABELLED
        for role, content in (("user", said), ("assistant", label.model_dump_json()))
    ]
    system = {"role": "system", "content": _LABELLER.format(names=names)}
    return [system, *shown, {"role": "user", "content": piece}]


def prompt_sha256(keep: Keep, ask: Literal["findings", "labels"] = "findings") -> str:
    """sha256 of all that is asked, apart from the report: messages and schema."""
    asked: list[Any] = [messages("", keep), answer_schema()]
    if ask == "labels":
        asked = [label_messages(""), answer_schema(Label), keep]
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def parse(answer: type[Part], content: str) -> Part:
    """The model's answer, when it is strict JSON of the schema of ``answer``.

    Raises:
        ValueError: it is not. The message holds no word of the answer, which may quote the report.
    """
    try:
        return answer.model_validate_json(content)
    except ValidationError as error:
        if content.lstrip().startswith("```"):
            raise ValueError("JSON inside a Markdown fence") from None
        if content.lstrip().startswith("<think"):
            raise ValueError("thinking text in front of the answer") from None
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            raise ValueError("no JSON") from None
        raise ValueError(f"{place or 'answer'}: {first['type'].replace('_', ' ')}") from None


def salvage_answer(content: str) -> tuple[Finding, ...]:
    """Read the complete findings of an answer that was cut, up to the first that is none."""
    opening = re.match(r'\s*\{\s*"statements"\s*:\s*\[\s*', content)
    found: list[Finding] = []
    at = opening.end() if opening else len(content)
    while at < len(content):
        try:
            value, at = json.JSONDecoder().raw_decode(content, at)
            found.append(Finding.model_validate(value))
        except (ValueError, RecursionError):  # cut, or no finding
            break
        at += len(content[at:]) - len(content[at:].lstrip(", \n\r\t"))
    return tuple(found)


def to_extraction(findings: tuple[Finding, ...], keep: Keep) -> Extraction:
    """Findings as claims to be proved; the kinds that a slide can't show are counted and left out, or kept.

    With ``keep="all"`` they become ``non_morphology``, all but identifiers, which are never kept.
    """
    claims: list[Claim] = []
    left_out: dict[str, int] = {}
    for finding in findings:
        category = _CATEGORY.get(finding.category, "non_morphology")
        if category == "non_morphology" and (keep == "morphology" or finding.category == "identifiers"):
            left_out[finding.category] = left_out.get(finding.category, 0) + 1
            continue
        claims.append(
            Claim(
                category=category,
                polarity=finding.polarity,
                text=finding.text,
                evidence=finding.evidence,
            )
        )
    return Extraction(claims=tuple(claims), left_out=left_out)
