"""The demo's pathology reports: four pathologists, each with their own way, none of whom exists."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from wsisurv.demo import phrases
from wsisurv.demo.population import MORPHOLOGIES, DemoCase, Morphology

MISSING_SHARE = 0.10
"""Share of findings that a report passes over."""
WRONG_SHARE = 0.07
"""Share of findings that a report grades wrongly."""
_GRADE_BOUNDS = (0.33, 0.67)


def true_grade(morphology: Morphology, share: float) -> int:
    """0 (not there) to 3 (a great deal), by where ``share`` lies in the morphology's range."""
    if share < morphology.least:
        return 0
    place = (share - morphology.least) / (morphology.most - morphology.least)
    return 1 + int(np.searchsorted(_GRADE_BOUNDS, place, side="right"))


def write_report(case: DemoCase, seed: int) -> str:
    """A raw report of the case in one of four voices, with what the scanner of paper did to it.

    The outcome is not in it; each morphology is graded, some not at all and some wrongly.
    """
    random = np.random.default_rng([seed, 3, case.number])
    voice = _VOICES[int(random.integers(len(_VOICES)))]
    text = voice(_Facts(case, random))
    return _scanned(text, random)


class _Facts:
    """What a voice may ask for: each answer is drawn once, in the order asked."""

    def __init__(self, case: DemoCase, random: np.random.Generator) -> None:
        self.case = case
        self.random = random
        size = round(float(random.uniform(2.0, 7.5)), 1)
        nodes = int(random.integers(12, 31))
        self.positive_nodes = int(random.integers(1, 9)) if case.stage >= 3 else 0
        self.numbers: dict[str, object] = {
            "age": case.age,
            "hospital": case.hospital.name,
            "where": self.pick(("caecum", "ascending colon", "transverse colon", "sigmoid colon", "rectosigmoid")),
            "weeks": int(random.integers(3, 20)),
            "length": int(random.integers(14, 42)),
            "size": size,
            "size2": round(size * float(random.uniform(0.6, 0.95)), 1),
            "depth": round(float(random.uniform(0.5, 1.8)), 1),
            "margin": round(float(random.uniform(2.0, 12.0)), 1),
            "nodes": nodes,
            "last": int(random.integers(6, 10)),
            "last2": int(random.integers(11, 14)),
            "few": int(random.integers(1, 4)),
            "some": int(random.integers(4, 9)),
            "many": int(random.integers(9, 18)),
            "lots": int(random.integers(18, 40)),
        }

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.random.integers(len(options)))]

    def say(self, options: Sequence[str]) -> str:
        return self.pick(options).format(**self.numbers)

    def findings(self) -> list[str]:
        """One sentence a morphology, in an order of the report's own."""
        said = []
        for row in self.random.permutation(len(MORPHOLOGIES)):
            morphology = MORPHOLOGIES[row]
            grade = true_grade(morphology, self.case.shares[morphology.name])
            chance = self.random.random()
            wrong = (grade + int(self.random.integers(1, 4))) % 4
            sentence = self.say(phrases.MORPHOLOGY_PHRASES[morphology.name][wrong if chance < WRONG_SHARE else grade])
            if chance < 1 - MISSING_SHARE:
                said.append(sentence)
        return said

    def invasion(self) -> str:
        return self.say(phrases.INVASION[int(self.random.random() < 0.15 + 0.12 * self.case.stage)])

    def perineural(self) -> str:
        return self.say(phrases.PERINEURAL[int(self.random.random() < 0.2)])

    def depth(self) -> str:
        return phrases.DEPTH[{1: 0, 2: int(self.random.integers(1, 3)), 3: 2, 4: 3}[self.case.stage]]

    def nodes(self) -> str:
        if self.positive_nodes:
            return f"Metastatic carcinoma in {self.positive_nodes} of {self.numbers['nodes']} lymph nodes."
        return f"{self.numbers['nodes']} lymph nodes, all free of tumour (0/{self.numbers['nodes']})."


def _sectioned(facts: _Facts) -> str:
    """An orderly pathologist with headings in capitals."""
    findings = facts.findings()
    return "\n\n".join(
        [
            f"PATHOLOGY REPORT   {facts.case.case_id}   (SYNTHETIC, NO PATIENT)",
            f"CLINICAL HISTORY:\n{facts.say(phrases.HISTORIES)}",
            f"GROSS DESCRIPTION:\n{facts.say(phrases.GROSS)}\n{facts.say(phrases.BLOCKS)}",
            "MICROSCOPIC DESCRIPTION:\nSections show an invasive adenocarcinoma. "
            + " ".join([*findings, facts.depth(), facts.invasion(), facts.perineural()]),
            f"{facts.say(phrases.IMMUNOHISTOCHEMISTRY)}",
            f"DIAGNOSIS:\nColon, {facts.numbers['where']}, resection: adenocarcinoma. {facts.nodes()} Margins clear.",
            facts.say(phrases.SIGNATURES),
        ]
    )


def _narrative(facts: _Facts) -> str:
    """A British voice in running prose: macroscopy, microscopy, conclusion."""
    findings = facts.findings()
    half = len(findings) // 2
    return "\n\n".join(
        [
            f"Histology {facts.case.case_id}. Synthetic demo report.",
            f"Clinical details. {facts.say(phrases.HISTORIES)}",
            f"Macroscopy. {facts.say(phrases.GROSS)} {facts.say(phrases.BLOCKS)}",
            f"Microscopy. The sections confirm an adenocarcinoma of the large bowel. {' '.join(findings[:half])} "
            f"{facts.depth()} {facts.invasion()}",
            f"{' '.join(findings[half:])} {facts.perineural()} The background mucosa shows no dysplasia. "
            f"{facts.nodes()} Both resection margins are free of tumour.",
            f"{facts.say(phrases.IMMUNOHISTOCHEMISTRY)}",
            f"Conclusion: adenocarcinoma of the {facts.numbers['where']}. {facts.say(phrases.SIGNATURES)}",
        ]
    )


def _diagnosis_first(facts: _Facts) -> str:
    """An American voice: the diagnosis first with a list, then a comment."""
    findings = facts.findings()
    lines = [facts.depth(), facts.invasion(), facts.perineural(), facts.nodes(), "Margins: uninvolved by carcinoma."]
    return "\n\n".join(
        [
            f"Case: {facts.case.case_id}\nInstitution: Pretend Hospital {facts.case.hospital.name} (synthetic data)",
            f"FINAL DIAGNOSIS\nA. COLON, {str(facts.numbers['where']).upper()}, SEGMENTAL RESECTION:\n"
            "    INVASIVE ADENOCARCINOMA.\n" + "\n".join(f"    - {line}" for line in lines),
            f"COMMENT\n{' '.join(findings)}",
            f"HISTORY\n{facts.say(phrases.HISTORIES)}",
            f"GROSS\n{facts.say(phrases.GROSS)}\n{facts.say(phrases.BLOCKS)}",
            facts.say(phrases.IMMUNOHISTOCHEMISTRY),
            facts.say(phrases.SIGNATURES),
        ]
    )


def _letter(facts: _Facts) -> str:
    """A terse dictated letter in capitals, no headings to speak of."""
    findings = facts.findings()
    body = " ".join(
        [
            f"Thank you for this specimen. {facts.say(phrases.HISTORIES)}",
            facts.say(phrases.GROSS),
            f"Under the microscope: {' '.join(findings)} {facts.depth()} {facts.invasion()} {facts.nodes()}",
            facts.say(phrases.IMMUNOHISTOCHEMISTRY),
            facts.say(phrases.BLOCKS),
        ]
    )
    signature = facts.say(phrases.SIGNATURES)
    return f"RE: {facts.case.case_id} (SYNTHETIC)\n\n{body.upper()}\n\n{signature}"


_VOICES: Sequence[Callable[[_Facts], str]] = (_sectioned, _narrative, _diagnosis_first, _letter)


def _scanned(text: str, random: np.random.Generator) -> str:
    """Lines broken at the paper's width, some words hyphenated there, and the odd speck read as a period."""
    width = int(random.integers(62, 96))
    hyphenated = random.random() < 0.5
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _broken(paragraph, width, hyphenated)
    page = "\n".join(lines)
    specks = random.random() < 0.3
    if specks:
        page = re.sub(r"(?<=[a-z]) (?=[a-z])", lambda _: " . " if random.random() < 0.004 else " ", page)
        page = re.sub(r"\. (?=[A-Z])", lambda _: ".  " if random.random() < 0.2 else ". ", page)
    return page + "\n"


def _broken(paragraph: str, width: int, hyphenated: bool) -> list[str]:
    indent = paragraph[: len(paragraph) - len(paragraph.lstrip())]
    lines, line = [], indent
    for word in paragraph.split():
        joined = f"{line} {word}" if line.strip() else line + word
        if len(joined) <= width:
            line = joined
            continue
        room = width - len(line) - 2
        if hyphenated and word.isalpha() and room >= 4 and len(word) - room >= 3:
            lines.append(f"{line} {word[:room]}-")
            line = indent + word[room:]
        else:
            lines.append(line)
            line = indent + word
    return [*lines, line]
