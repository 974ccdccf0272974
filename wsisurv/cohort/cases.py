"""Cases of a cohort, and the audit of what went into it and what was left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsisurv.settings.base import canonical_json, fingerprint
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId, SlideId
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    import pandas as pd


_OF_DISEASE = frozenset(
    "dss css pcss bcss ccss lcss cbcs dfs dfi rfs rfi pfi ttp ttr bcr dmfs mfs lrr specific relapse recurrence "
    "recurred progression progressed".split()
)
"""Words in the names of endpoints of which death of another cause is often no event."""


@dataclass(frozen=True)
class Case:
    """One patient.

    Attributes:
        case_id: the patient.
        time: follow-up in the cohort's time unit, positive.
        event: True when the event happened at ``time``, False when follow-up ended without it.
        site: hospital, where a site column was named; empty text where it is missing.
        covariates: the named columns as written in the table, decimal commas made points; empty text where missing.
        slide_ids: slides with features.
        entry: time from which the case was followed, before ``time``; 0 where no entry column was named.
        competing: True when an event happened at ``time`` after which the event can't; ``event`` is False then.
    """

    case_id: CaseId
    time: float
    event: bool
    site: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    slide_ids: tuple[SlideId, ...] = ()
    entry: float = 0.0
    competing: bool = False


def cause_of(cases: Sequence[Case]) -> NDArray[np.int64] | None:
    """0 censored, 1 the event, 2 a competing one, int64 (n,); None where no case has a competing event."""
    cause = np.array([2 if case.competing else int(case.event) for case in cases], dtype=np.int64)
    return cause if (cause == 2).any() else None


def entry_of(cases: Sequence[Case]) -> NDArray[np.float64] | None:
    """Time from which each case was followed, float64 (n,); None where all were followed from 0."""
    entry = np.array([case.entry for case in cases], dtype=np.float64)
    return entry if entry.any() else None


@dataclass(frozen=True)
class Dropped:
    """A row of the clinical table that was left out, and why."""

    row: int
    case_id: str
    reason: str


@dataclass(frozen=True)
class Clinical:
    """A clinical table as read: cases without slides yet.

    Attributes:
        cases: sorted by case_id.
        dropped: rows left out.
        warnings: what should be looked at before the figures are believed, such as the unit of time.
    """

    cases: tuple[Case, ...]
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What went into a cohort and what did not.

    ``cases`` have follow-up and a slide; or, in a cohort of reports alone, a report, and the others are in
    ``cases_without_report``. ``slides_of_dropped`` are of rows that were left out. ``clinical_…`` is of all usable
    rows, whether they have a slide or not.
    """

    clinical_rows: int
    clinical_cases: int
    clinical_events: int
    clinical_cases_with_report: int
    cases: int
    events: int
    slides: int
    cases_with_report: int
    cases_of_several_slides: int
    time_unit: str
    median_time: float | None
    sites: dict[str, int]
    dropped: tuple[Dropped, ...]
    cases_without_slide: tuple[str, ...]
    slides_without_case: tuple[str, ...]
    reports_without_case: tuple[str, ...]
    cases_without_report: tuple[str, ...] = ()
    slides_of_dropped: tuple[str, ...] = ()
    clinical_median_time: float | None = None
    clinical_sites: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    competing: int | None = None  # cases with a competing event; None where the table doesn't say
    clinical_competing: int | None = None
    encoder: str = ""  # whose features the cases were matched with; empty of reports alone, and in files of before


@dataclass(frozen=True)
class Cohort:
    """Cases to train on, sorted by case_id."""

    name: str
    cases: tuple[Case, ...]
    settings: CohortSettings

    @property
    def fingerprint(self) -> str:
        """sha256 of settings and cases."""
        cases = [asdict(case) for case in self.cases]
        unused = {name for name in ("entry", "competing") if not any(getattr(case, name) for case in self.cases)}
        cases = [{name: value for name, value in case.items() if name not in unused} for case in cases]  # as before
        return fingerprint(self.settings, {"cases": canonical_json(cases)})

    @property
    def outcome_note(self) -> str:
        """What a reader must know of other deaths where no competing event was named; empty where nothing."""
        called = f"{self.name.partition('/')[2]} {self.settings.event}".lower()
        if self.settings.knows_competing or _OF_DISEASE.isdisjoint(re.split(r"[^a-z]+", called)):
            return ""
        return (
            f"deaths of other causes that are no event of {self.settings.event!r} count as censored: survival is that "
            "of cases who could die of nothing else, and one minus it overstates the risk. Name the competing event "
            "with --competing, or as a third column of --endpoint"
        )

    @classmethod
    def load(cls, workspace: Workspace, name: str | None = None) -> "Cohort":
        """The cohort of this name in a workspace; None for the only one there is.

        Raises:
            InputError: there is none of that name, or several.
            FormatError: its files are damaged.
        """
        from wsisurv.cohort.files import read_cohort  # files are of cases

        return read_cohort(workspace.cohort(workspace.the_cohort(name)))[0]

    def to_frame(self) -> "pd.DataFrame":
        """Follow-up, site, covariates and slides of each case, by case_id; times in ``settings.time_unit``."""
        import pandas as pd

        rows = [
            {**vars(case), "slide_ids": list(case.slide_ids), "covariates": None, **case.covariates}
            for case in self.cases
        ]
        later = [name for name in ("entry", "competing") if not any(getattr(case, name) for case in self.cases)]
        unused = ["covariates", *later]
        return pd.DataFrame(rows).drop(columns=unused).set_index("case_id")
