"""The rules and the proof on real reports: how many give statements, what the proof refuses, what altered claims pass.

Run: ``python tests/bench/reports.py REPORTS.jsonl`` (one ``{"case_id": …, "text": …}`` a line). Prints, never fails.
"""

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from wsisurv.formats.statements import ReportRecord
from wsisurv.reports.evaluation import evaluate_reports
from wsisurv.reports.grounding import Claim, Proof, ground, prove
from wsisurv.reports.rules import extract_rules

NEGATION = re.compile(r"\b(?:not|no|without|negative|absent|free|uninvolved)\b", re.IGNORECASE)
GRADE = re.compile(r"\b(?:well|moderately|poorly|high|low)\b", re.IGNORECASE)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def altered(claim: Claim, dice: random.Random) -> Iterator[tuple[str, Claim]]:
    """The claim with one number, grade or negation changed, in the evidence or in the restated text."""
    for kind, pattern, new in (
        ("number", NUMBER, str(dice.randint(400, 999))),
        ("grade", GRADE, dice.choice(["well", "moderately", "poorly"])),
        ("negation", NEGATION, ""),
    ):
        for part in ("evidence", "text"):
            found = list(pattern.finditer(getattr(claim, part)))
            if not found or any(match.group().lower() == new for match in found):
                continue
            match, source = dice.choice(found), getattr(claim, part)
            changed = {"text": claim.text, "evidence": claim.evidence}
            changed[part] = re.sub(" +", " ", source[: match.start()] + new + source[match.end() :]).strip()
            if kind == "negation" and claim.polarity != "absent":
                continue
            polarity = "present" if kind == "negation" else claim.polarity
            yield f"{kind} changed in {part}", Claim(claim.category, polarity, changed["text"], changed["evidence"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--show", type=int, default=0, metavar="N", help="N statements at random, to be read")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.reports.read_text(encoding="utf-8").splitlines()]
    reports = {line["case_id"]: line["text"] for line in lines}
    started = time.perf_counter()
    records: dict[str, ReportRecord] = {}
    refused: Counter[str] = Counter()
    for case_id, text in reports.items():
        extraction = extract_rules(text, keep="morphology")
        grounded = ground(case_id, extraction.claims, text)
        refused.update(record.reason for record in grounded.rejected)
        records[case_id] = ReportRecord(
            case_id=case_id,
            fingerprint="",
            report_sha256="",
            statements=grounded.statements,
            left_out=extraction.left_out,
            rejected=len(grounded.rejected),
        )
    print(f"{time.perf_counter() - started:.1f} s for {len(reports)} reports, proof included")
    scores = evaluate_reports(records, reports)
    print(f"reports with a statement {scores.with_statements / scores.reports:.1%}")
    print(f"statements a report {scores.statements / scores.reports:.1f}; refused by the proof {refused.total()}")
    print(f"coverage {scores.coverage:.1%}; leakage that the rules see {scores.leakage}; left out {scores.left_out}")
    dice = random.Random(options.seed)
    tried: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for case_id, record in records.items():
        for statement in record.statements:
            claim = Claim(statement.category, statement.polarity, statement.text, statement.evidence)
            for kind, lie in altered(claim, dice):
                tried[kind] += 1
                passed[kind] += isinstance(prove(lie, reports[case_id]), Proof)
    for kind in tried:
        print(f"{kind}: {passed[kind]} of {tried[kind]} altered claims passed the proof")
    everything = [statement for record in records.values() for statement in record.statements]
    for statement in dice.sample(everything, min(options.show, len(everything))):
        print(f"{statement.statement_id} {statement.category} {statement.polarity} | {statement.text}")


if __name__ == "__main__":
    main()
