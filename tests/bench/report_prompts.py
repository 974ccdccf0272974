"""Other ways to ask a small language model for the findings of a report, against the one that extract-report has.

Run: ``python tests/bench/report_prompts.py DATA MODEL WAY …`` (models as in report_models.py; docs/reports.md has the
table). Reads the first ``--reports`` of the fixed hundred, all with a gold standard; answers are kept in
build/bench-prompts, so a run goes on where the last one stopped. The way ``fields`` asks as LLM-AIx does, one question
for the same fields of every report: it has no quotes, so it is counted by fields, as the rules are beside it. Prints,
never fails.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from report_models import GOLD, SMALL, kept_tokens, model_file, open_engine, read_texts, share

from wsisurv.formats.statements import ReportRecord
from wsisurv.reports.evaluation import evaluate_reports, read_gold
from wsisurv.reports.grounding import ground
from wsisurv.reports.prompt import (
    _LABELLED,
    Finding,
    Kind,
    Label,
    answer_schema,
    label_messages,
    messages,
    salvage_answer,
    to_extraction,
)
from wsisurv.reports.rules import cut_pieces, extract_rules
from wsisurv.reports.sections import find_sections

KINDS = [name for part in get_args(Kind) for name in (get_args(part) or (part,))]
GROUPS = (KINDS[:3] + KINDS[6:11] + ["precursor"], KINDS[3:6] + ["margin", "node", "other_morphology"])
SHORT = """\
Copy out the findings of a surgical pathology report that are seen under the microscope, one by one, as JSON.
evidence: words copied exactly from the report, one short stretch. category: one of {names}. polarity: present, absent \
(the report says it is not there; free of tumour) or uncertain. text: the finding, briefly, in the same words.
Give every finding once. Leave out the gross description, stains, history and handling."""
LABEL = """\
Each line is a piece of a surgical pathology report. Say of each line, by its number, what it is about and whether the \
report says that it is present, absent (not there, free of tumour) or uncertain. category: {names}."""
FILLED = """\
Below is a surgical pathology report. Fill in one JSON object. For each finding choose "present", "absent" (the report \
says that it is not there; margins or nodes free of tumour) or "not stated" (the report says nothing of it). \
histological_type and grade: the report's words, or "" where it has none.

Report:
{report}"""
FIELDS = ("lymphovascular_invasion", "perineural_invasion", "necrosis", "mucin", "inflammation", "precursor", "margin",
          "node")  # fmt: skip
Question = tuple[list[dict[str, str]], dict[str, Any]]


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def copying(passage: str, kinds: list[str] = KINDS, quotes: list[str] | None = None) -> Question:
    schema = json.loads(json.dumps(answer_schema()))
    of_finding = schema["properties"]["statements"]["items"]["properties"]
    of_finding["category"]["enum"] = kinds
    if quotes:
        of_finding["evidence"] = {"type": "string", "enum": quotes}
    asked = [{"role": "system", "content": SHORT.format(names=", ".join(kinds))}, {"role": "user", "content": passage}]
    return asked, schema


def labelling(lines: list[str]) -> Question:
    """One question after the labels of all lines, by their numbers."""
    shown = compact({number: label.model_dump() for number, (_, label) in enumerate(_LABELLED, 1)})
    asked = [
        {"role": "system", "content": LABEL.format(names=", ".join(KINDS))},
        {"role": "user", "content": numbered([line for line, _ in _LABELLED])},
        {"role": "assistant", "content": shown},
        {"role": "user", "content": numbered(lines)},
    ]
    return asked, closed(**{str(n + 1): answer_schema(Label) for n in range(len(lines))})


def fields(report: str) -> Question:
    """One question after the same fields of every report, words for two and a choice for the others."""
    words = dict.fromkeys(("histological_type", "grade"), {"type": "string", "maxLength": 80})
    choices = dict.fromkeys(FIELDS, {"type": "string", "enum": ["present", "absent", "not stated"]})
    return [{"role": "user", "content": FILLED.format(report=report)}], closed(**words, **choices)


def stated_fields(record: ReportRecord) -> dict[str, str]:
    """What statements say of each field; none where they only doubt it."""
    held = {}
    for name in FIELDS:
        said = {one.polarity for one in record.statements if one.category == name}
        held[name] = next((one for one in ("present", "absent", "uncertain") if one in said), "not stated")
    return held


def compare_fields(said: dict[str, dict[str, str]], gold: dict[str, dict[str, str]]) -> str:
    """Fields that agree with the gold standard, out of those that it states and those that it says nothing of."""
    pairs = [(said[case][name], gold[case][name]) for case in said for name in FIELDS]
    stated = [given == true for given, true in pairs if true in {"present", "absent"}]
    turned = sum({given, true} == {"present", "absent"} for given, true in pairs)
    silent = [given in {"present", "absent"} for given, true in pairs if true == "not stated"]
    counts = [Counter(given for given, _ in pairs).most_common(1)[0], Counter(true for _, true in pairs).most_common(3)]
    return (
        f"of the fields that the gold standard states {share(sum(stated), len(stated))} right, {turned} turned round; "
        f"stated where it says nothing {share(sum(silent), len(silent))}; most given {counts[0]}, gold {counts[1]}"
    )


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def numbered(lines: list[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def questions(way: str, text: str) -> list[Question]:
    if way == "now":
        return [(messages(text, "morphology"), answer_schema())]
    if way == "short":
        return [copying(text)]
    if way == "short, example":
        asked, schema = copying(text)
        return [([asked[0], *messages(text, "morphology")[1:]], schema)]
    if way == "groups":
        return [copying(text, group) for group in GROUPS]
    if way == "sections":
        return [copying(text[one.start : one.end]) for one in find_sections(text) if one.kind == "microscopic"]
    if way == "chosen":
        asked, schema = copying(text, quotes=cut_pieces(text))
        return [(messages(text, "morphology"), schema)]
    if way == "labels":
        return [labelling(cut_pieces(text))]
    if way == "fields":
        return [fields(text)]
    return [(label_messages(piece), answer_schema(Label)) for piece in cut_pieces(text)]


WAYS = ("now", "short", "short, example", "groups", "sections", "chosen", "labels", "labels, one by one", "fields")


def findings(way: str, text: str, answers: list[dict[str, Any]]) -> list[Finding]:
    if not way.startswith("labels"):
        return [finding for one in answers for finding in salvage_answer(one["content"])]
    lines, said = cut_pieces(text), [json.loads(one["content"]) for one in answers if one["reason"] == "stop"]
    labels = list(said[0].values()) if way == "labels" and said else said
    return [
        Finding.model_construct(evidence=line, text=line, **label) for line, label in zip(lines, labels, strict=False)
    ]


def report_fields(name: str, texts: dict[str, str], done: dict[str, list[dict[str, Any]]]) -> None:
    """The lines of the fields, the rules on the same reports first."""
    read = read_gold(GOLD / "statements.jsonl", texts)
    gold = {case_id: stated_fields(read[case_id]) for case_id in done}
    filled, quoted = {}, []
    for case_id, (answer,) in done.items():
        if answer["reason"] == "stop":
            given = filled[case_id] = json.loads(answer["content"])
            plain = "".join(texts[case_id].casefold().split())
            quoted += ["".join(given[key].casefold().split()) in plain for key in ("histological_type", "grade")]
    ruled = {}
    for case_id in filled:
        proved = ground(case_id, extract_rules(texts[case_id], keep="morphology").claims, texts[case_id])
        ruled[case_id] = stated_fields(ReportRecord(
            case_id=case_id, fingerprint="", report_sha256="", statements=proved.statements, left_out={}, rejected=0
        ))  # fmt: skip
    print(f"rules, fields: {len(ruled)} reports, {compare_fields(ruled, gold)}")
    answers = [answer for (answer,) in done.values()]
    print(
        f"{name}, fields: {len(filled)} of {len(done)} reports, {compare_fields(filled, gold)}; type and grade in the "
        f"report's words, or left empty {share(sum(quoted), len(quoted))}; "
        f"{sum(one['tokens'] for one in answers) / len(done):.0f} tokens and "
        f"{sum(one['seconds'] for one in answers) / len(done):.0f} s a report",
        flush=True,
    )


def report(name: str, way: str, texts: dict[str, str], done: dict[str, list[dict[str, Any]]]) -> None:
    """One line of the table."""
    records, refused = {}, Counter[str]()
    for case_id, answers in done.items():
        found = {(" ".join(one.evidence.split()).casefold(), one.category, one.polarity): one
                 for one in reversed(findings(way, texts[case_id], answers))}  # fmt: skip
        extraction = to_extraction(tuple(reversed(found.values())), "morphology")
        proved = ground(case_id, extraction.claims, texts[case_id])
        refused.update(one.reason.split(":")[0] for one in proved.rejected)
        records[case_id] = ReportRecord(
            case_id=case_id, fingerprint="", report_sha256="", statements=proved.statements,
            left_out=extraction.left_out, rejected=len(proved.rejected),
        )  # fmt: skip
    gold = {case_id: one for case_id, one in read_gold(GOLD / "statements.jsonl", texts).items() if case_id in records}
    scores = evaluate_reports(records, texts, gold)
    given = [one for answers in done.values() for one in answers]
    against = scores.against_gold
    assert against is not None
    print(
        f"{name}, {way}: {len(records)} reports, {len(given)} questions, proved "
        f"{share(scores.statements, scores.statements + refused.total())}, coverage "
        f"{share(scores.covered, scores.sentences)}, supported {share(against.supported, against.statements)}, found "
        f"{share(against.found, against.gold)}, polarity errors {against.polarity_errors}, cut "
        f"{share(sum(one['reason'] == 'length' for one in given), len(given))}, "
        f"{sum(one['tokens'] for one in given) / len(done):.0f} tokens and "
        f"{sum(one['seconds'] for one in given) / len(done):.0f} s a report, prompt kept {share(*kept_tokens(given))}; "
        f"refused: {refused.most_common(4)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", choices=SMALL)
    parser.add_argument("ways", nargs="*", default=WAYS)
    parser.add_argument("--output", type=Path, default=Path("build/bench-prompts"))
    parser.add_argument("--reports", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=60, help="processor time for each way in this run")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    texts = read_texts(options.data)
    chosen, engine = list(texts)[: options.reports], None
    for way in options.ways:
        kept = options.output / f"{options.model}.{way.replace(', ', '.')}.jsonl"
        lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
        done = {one["case_id"]: one["answers"] for one in map(json.loads, lines)}
        until = time.process_time() + 60 * options.minutes
        for case_id in chosen:
            if case_id in done or time.process_time() > until:
                continue
            engine = engine or open_engine(model_file(options.model, options.output) or Path("no wheel"), 1)
            answers = []
            for asked, schema in questions(way, texts[case_id]):
                started = time.process_time()
                held = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
                limits = {"temperature": 0, "seed": 0, "max_tokens": 1024 if way == "labels" else 512}
                given = engine.handle_chat_completions({"messages": asked, "response_format": held, **limits})
                choice, timings = given["choices"][0], given["timings"]
                answers.append({
                    "content": choice["message"]["content"] or "", "reason": choice["finish_reason"],
                    "tokens": given["usage"]["completion_tokens"], "seconds": time.process_time() - started,
                    "read": timings["prompt_n"], "kept": timings["cache_n"],
                })  # fmt: skip
            done[case_id] = answers
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"case_id": case_id, "answers": answers}) + "\n")
        asked_of = {case_id: done[case_id] for case_id in chosen if case_id in done}
        if way == "fields":
            report_fields(options.model, texts, asked_of)
        else:
            report(options.model, way, texts, asked_of)


if __name__ == "__main__":
    main()
