"""Statements of reports as a table of findings that are present, absent, or not stated."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.statements import ReportRecord, Statement
from wsisurv.models.findings import FINDINGS, finding_values


@dataclass(frozen=True)
class FindingKind:
    """A finding that a report states or not."""

    name: str  # as in files and options
    what: str  # when it is present
    # whether reports tell it only where it is there: one that says nothing of it then counts as absent
    silent: bool = False


_TYPES = {
    "papillary": r"papill(?!om)",
    "solid": r"\bsolid\b",
    "lepidic": r"lepidic|bronchi?olo-?\s?alveolar|\bBAC\b",
    "squamous": r"squamous",
    "serous": r"\b(?:papillary\s+)?serous",
    "signet_ring": r"signet",
    "clear_cell": r"clear[\s-]cell",
    "sarcomatoid": r"sarcomat|spindle",
}
"""Types and patterns of growth: words in statements of these categories that say they are present."""
_OF_TYPES = ("histological_type", "growth_pattern")
_BY_CATEGORY = ("lymphovascular_invasion", "perineural_invasion", "necrosis", "mucin", "inflammation", "mitoses")
_INVOLVED = re.compile(r"\b(?:positive|involved|involves|present at|tumou?r at|transected)\b", re.IGNORECASE)

KINDS = (
    FindingKind("high_grade", "grade 3 or 4, or high grade"),
    FindingKind("t3_or_t4", "pT3 or pT4"),
    FindingKind("positive_nodes", "pN1 or more, or a node with tumour"),
    FindingKind("lymphovascular_invasion", "tumour in lymphatic or blood vessels"),
    FindingKind("perineural_invasion", "tumour along nerves"),
    FindingKind("positive_margin", "R1 or R2, or a margin involved"),
    FindingKind("necrosis", "necrosis", silent=True),
    FindingKind("mucin", "mucin, or a mucinous tumour", silent=True),
    FindingKind("inflammation", "inflammation, or a lymphocytic infiltrate", silent=True),
    FindingKind("mitoses", "mitoses, or many of them", silent=True),
    FindingKind("precursor", "adenoma, dysplasia, carcinoma in situ or hyperplasia", silent=True),
    *(FindingKind(name, f"{name.replace('_', ' ')} type or growth", silent=True) for name in _TYPES),
)
"""The findings, in the order of the columns of a ``FindingTable``."""


@dataclass(frozen=True)
class FindingTable:
    """What the reports of some cases state."""

    case_ids: tuple[str, ...]
    stated: NDArray[np.float64]  # (n_cases, n_kinds): 1 present, 0 absent, NaN not stated
    reported: NDArray[np.bool_]  # (n_cases,), whether a report gave any statement

    def target(self, kind: int) -> NDArray[np.float64]:
        """What a model learns: (n_cases,), 1 present, 0 absent, NaN unknown.

        A report that doesn't speak of a finding which reports tell only where it is there counts as absent.
        """
        column = self.stated[:, kind]
        return np.where(self.reported & np.isnan(column), 0.0, column) if KINDS[kind].silent else column


def make_table(records: Mapping[str, ReportRecord], case_ids: Sequence[str]) -> FindingTable:
    """Make the table of findings.

    Args:
        records: of ``extract-report``, by case; others than those asked for are passed over.
        case_ids: the rows.
    """
    of_case = [records[case_id].statements if case_id in records else () for case_id in case_ids]
    stated = np.array([_stated(statements) for statements in of_case]).reshape(len(of_case), len(KINDS))
    return FindingTable(tuple(case_ids), stated, np.array([bool(one) for one in of_case], dtype=np.bool_))


def speaks_of(statement: Statement, name: str) -> bool:
    """Whether a statement is one that a finding is read from."""
    alone = make_table({"": ReportRecord(case_id="", fingerprint="", report_sha256="", statements=(statement,))}, [""])
    return bool(np.isfinite(alone.stated[0, [kind.name for kind in KINDS].index(name)]))


def _stated(statements: Sequence[Statement]) -> list[float]:
    """One report's row; a finding that is doubted, and nowhere said to be there, is not stated."""
    value = dict(zip(FINDINGS, finding_values(statements).tolist(), strict=True))
    found = {name: _sure(value[name]) for name in (*_BY_CATEGORY, "precursor")}
    found["high_grade"] = _at_least(value["G"], 3)
    found["t3_or_t4"] = _at_least(value["T"], 3)
    # a statement of "present" may be of a node or a margin that is only there; a denial is always of tumour
    found["positive_nodes"] = _known(_at_least(value["N"], 1), _at_least(value["nodes"], 0.1), _denied(value["node"]))
    texts = [one.text for one in statements if one.category == "margin" and one.polarity == "present"]
    involved = 1.0 if any(_INVOLVED.search(text) for text in texts) else np.nan
    found["positive_margin"] = _known(_at_least(value["R"], 1), involved, _denied(value["margin"]))
    found["lymphovascular_invasion"] = _highest(
        found["lymphovascular_invasion"], _at_least(value["L"], 1), _at_least(value["V"], 1)
    )
    found["perineural_invasion"] = _highest(found["perineural_invasion"], _at_least(value["Pn"], 1))
    of_types = [one for one in statements if one.category in _OF_TYPES and one.polarity == "present"]
    for name, pattern in _TYPES.items():
        if any(re.search(pattern, one.text, re.IGNORECASE) for one in of_types):
            found[name] = 1.0
    return [found.get(kind.name, np.nan) for kind in KINDS]


def _sure(value: float) -> float:
    return value if value in (0.0, 1.0) else np.nan


def _at_least(value: float, limit: float) -> float:
    return np.nan if np.isnan(value) else float(value >= limit)


def _denied(value: float) -> float:
    return 0.0 if value == 0 else np.nan


def _known(*values: float) -> float:
    return next((value for value in values if not np.isnan(value)), np.nan)


def _highest(*values: float) -> float:
    return max((value for value in values if not np.isnan(value)), default=np.nan)
