"""Statements as a few numbers that pathology has a scale for: TNM codes, grade, invaded vessels, counts of nodes.

Only what the statements say is read, so each number rests on evidence that was proved. Words that no rule below knows
are left to the bag of words.
"""

import re
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.statements import Category, Statement

_ZERO = {"o": 0, "0": 0}
_CODES = {
    "T": r"(?<![^\W\d_])y?p?\s?T\s?([0-4])(?!\d)",
    "N": r"(?<![^\W\d_])(?:y?p?\s?N\s?(?=\d)|y?p\s?N\s?(?=[oO]\b)|(?<=T\d )N(?=O\b)|N(?=O\s+p?M[\dXx]))([0-3oO])(?!\d)",
    "M": r"(?<![^\W\d_])p?\s?M\s?([01])(?!\d)",
    "L": r"(?<![^\W\d_])L\s?([0-2]|[oO]\b)(?!\d)",
    "V": r"(?<![^\W\d_])V\s?([0-2]|[oO]\b)(?!\d)",
    "R": r"(?<![^\W\d_])R\s?([0-2]|[oO]\b)(?!\d)",
    "Pn": r"(?<![^\W\d_])Pn\s?([01]|[oO]\b)(?!\d)",
}
"""UICC's codes, a scanner's O for 0 among them ("No", "Low" are none); the worst that a report states counts."""
_GRADE_CODE = re.compile(r"(?<![^\W\d_])G\s?([1-4])(?!\d)|\bgrade:?\s+([1-4])\b", re.IGNORECASE)
_GRADE_WORDS = {
    3: re.compile(r"poorly|undifferentiat|anaplastic|high[\s-]+grade|grade\s+iii\b", re.IGNORECASE),
    2: re.compile(r"moderate|low[\s-]+grade|grade\s+ii\b", re.IGNORECASE),
    1: re.compile(r"\bwell[\s-]+diff|grade\s+i\b", re.IGNORECASE),
}
_ONES = "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_NUMBERS = {word: value for value, word in enumerate((_ONES + " eighteen nineteen twenty").split())}
_NUMBER = rf"(\d{{1,3}}|\b(?:{'|'.join(_NUMBERS)}))"
_OF_NODES = re.compile(rf"{_NUMBER}\s?(?:/|(?:out\s+)?of(?:\s+the)?)\s?{_NUMBER}\b", re.IGNORECASE)
_MOST_NODES = 150
_POLARITY = {"absent": 0.0, "uncertain": 0.5, "present": 1.0}
_CATEGORIES: tuple[str, ...] = tuple(name for name in get_args(Category) if name != "non_morphology")

FINDINGS = (*_CODES, "G", "nodes", "nodes examined", "share of nodes", *_CATEGORIES)
"""What each number of ``finding_values`` is of."""
COLUMNS_VERSION = 2
"""Raised when ``statement_columns`` gives others, so that vectors with the old ones are made anew."""
_HIGHEST = np.array([4, 3, 1, 2, 2, 2, 1, 4, np.log1p(_MOST_NODES), np.log1p(_MOST_NODES), 1, *[1] * len(_CATEGORIES)])
_LOWEST = np.array([float(name == "G") for name in FINDINGS])
_FIRST_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_LARGEST = 1000.0


def finding_values(statements: Sequence[Statement]) -> NDArray[np.float64]:
    """Numbers of one report, in the order of ``FINDINGS``.

    Codes, grade and nodes: the worst stated, nodes as log(1 + count). A category: 1 where a statement says that it is
    present, 0 where all deny it.

    Args:
        statements: of one report.

    Returns:
        float64 (n_findings,), NaN where nothing is said.
    """
    said = _Worst()
    for statement in statements:
        said.at_least(statement.category, _POLARITY[statement.polarity])
        said.codes(statement.text)
        if statement.category in ("grade", "histological_type") and statement.polarity == "present":
            said.grades(statement.text)
        if statement.category == "node":
            said.nodes(statement.text, denied=statement.polarity == "absent")
    return said.values()


def statement_columns(statements: Sequence[Statement]) -> NDArray[np.float32]:
    """Category, polarity, grade, codes and numbers of each statement, to stand beside its text vector.

    Args:
        statements: of any reports.

    Returns:
        float32 (n_statements, 2 × n_findings + 2), between -1 and 1: for each of ``FINDINGS`` whether the statement
        says it; how much, from -1 (absent, grade 1, T0) to 1 (present, grade 4, T4), 0 where it says nothing; then
        whether there is a number, and the logarithm of the first.
    """
    values = np.array([finding_values([statement]) for statement in statements]).reshape(len(statements), len(FINDINGS))
    scaled = 2 * (values - _LOWEST) / (_HIGHEST - _LOWEST) - 1
    numbers = [_FIRST_NUMBER.search(statement.text) for statement in statements]
    first = np.array([np.nan if found is None else float(found.group().replace(",", ".")) for found in numbers])
    logarithm = np.log1p(np.minimum(first, _LARGEST)) / np.log1p(_LARGEST)
    beside = np.stack([~np.isnan(first), logarithm], axis=1)
    columns = np.nan_to_num(np.concatenate([~np.isnan(values), scaled, beside], axis=1))
    return np.asarray(columns.clip(-1, 1), np.float32)


def text_values(text: str) -> NDArray[np.float64]:
    """The same numbers of a whole report that nobody has read: codes, grade and nodes; of categories nothing is known.

    Args:
        text: the report.

    Returns:
        float64 (n_findings,), NaN where nothing is said.
    """
    said = _Worst()
    said.codes(text)
    for sentence in re.split(r"[.;\n]", text):
        if re.search(r"differentiat|\bgrad|\bG\s?[1-4]\b", sentence):
            said.grades(sentence)
        if re.search(r"node|\bp?\s?N\s?[0-3]", sentence, re.IGNORECASE):
            said.nodes(sentence)
    return said.values()


class _Worst:
    """The highest value of each finding so far."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def at_least(self, name: str, value: float) -> None:
        self._said[name] = max(value, self._said.get(name, value))

    def codes(self, text: str) -> None:
        for name, pattern in _CODES.items():
            for code in re.findall(pattern, text):
                self.at_least(name, float(_ZERO.get(code.lower(), code)))

    def grades(self, text: str) -> None:
        for code in _GRADE_CODE.findall(text):
            self.at_least("G", float(code[0] or code[1]))
        for grade, pattern in _GRADE_WORDS.items():
            if pattern.search(text):
                self.at_least("G", float(grade))

    def nodes(self, text: str, *, denied: bool = False) -> None:
        """Count "3 of 27"; where tumour is denied, "9 of 9 lymph nodes" are those without, and only "0/9" counts."""
        for some, whole in _OF_NODES.findall(text):
            positive, examined = _count(some), _count(whole)
            if positive <= examined and 0 < examined <= _MOST_NODES and not (denied and positive):
                self.at_least("nodes", float(np.log1p(positive)))
                self.at_least("nodes examined", float(np.log1p(examined)))
                self.at_least("share of nodes", positive / examined)

    def values(self) -> NDArray[np.float64]:
        return np.array([self._said.get(name, np.nan) for name in FINDINGS])


def _count(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS[text.lower()]
