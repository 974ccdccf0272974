"""Clinical table → cohort: cases with follow-up, their slides and reports, and the audit of what was left out."""

import csv
import io
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from wsisurv.errors import CohortError, FormatError, MissingArtifactError
from wsisurv.formats.atomic import write_text
from wsisurv.formats.statements import read_statements
from wsisurv.settings.base import canonical_json, fingerprint
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId, SlideId
from wsisurv.workspace.freshness import Origin, compare, require_fresh
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5
_FALSE, _TRUE = {"0", "0.0", "false"}, {"1", "1.0", "true"}
_MISSING = {"", "na", "nan", "n/a", "none", "null", "."}
_COVARIATE = "covariate:"


@dataclass(frozen=True)
class Case:
    """One patient.

    Attributes:
        case_id: the patient.
        time: follow-up in the cohort's time unit, positive.
        event: True when the event happened at ``time``, False when follow-up ended without it.
        site: hospital, where a site column was named.
        covariates: the named columns as written in the table; empty text where missing.
        slide_ids: slides with features.
    """

    case_id: CaseId
    time: float
    event: bool
    site: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    slide_ids: tuple[SlideId, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """A row of the clinical table that was left out, and why."""

    row: int
    case_id: str
    reason: str


@dataclass(frozen=True)
class Clinical:
    """A clinical table as read: cases without slides yet."""

    cases: tuple[Case, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class Audit:
    """What went into a cohort and what did not.

    ``cases`` have follow-up and a slide; or, in a cohort of reports alone, a report, and the others are in
    ``cases_without_report``.
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


@dataclass(frozen=True)
class Cohort:
    """Cases to train on, sorted by case_id."""

    name: str
    cases: tuple[Case, ...]
    settings: CohortSettings

    @property
    def fingerprint(self) -> str:
        """sha256 of settings and cases."""
        return fingerprint(self.settings, {"cases": canonical_json([asdict(case) for case in self.cases])})

    @classmethod
    def load(cls, workspace: Workspace, name: str | None = None) -> "Cohort":
        """The cohort of this name in a workspace; None for the only one there is.

        Raises:
            InputError: there is none of that name, or several.
            FormatError: its files are damaged.
        """
        return read_cohort(workspace.cohort(workspace.the_cohort(name)))[0]

    def to_frame(self) -> "pd.DataFrame":
        """Follow-up, site, covariates and slides of each case, by case_id; ``time`` in ``settings.time_unit``."""
        import pandas as pd

        rows = [
            {**vars(case), "slide_ids": list(case.slide_ids), "covariates": None, **case.covariates}
            for case in self.cases
        ]
        return pd.DataFrame(rows).drop(columns="covariates").set_index("case_id")


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV (or, by its ending, TSV) as text; the row number of ``rows[i]`` in the file is ``i + 2``.

    Raises:
        CohortError: missing, not UTF-8, empty, or a row with more or fewer cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CohortError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise CohortError(f"{path}: a folder, not a table") from error
    except UnicodeDecodeError as error:
        raise CohortError(f"{path}: not UTF-8 (byte {error.start}). Save it as UTF-8 CSV.") from error
    delimiter = "\t" if path.suffix.lower() in {".tsv", ".tab"} else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise CohortError(f"{path}: empty")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise CohortError(f"{path}: column {', '.join(repeated)} occurs twice")
    rows = []
    for number, cells in enumerate(reader, start=2):
        if len(cells) != len(header):
            raise CohortError(f"{path}, row {number}: {len(cells)} cells, but the header has {len(header)}")
        rows.append(dict(zip(header, (cell.strip() for cell in cells), strict=True)))
    return rows


def read_clinical(path: Path, settings: CohortSettings, *, drop_incomplete: bool = False) -> Clinical:
    """Read the clinical table.

    Args:
        path: CSV or TSV with a header.
        settings: which columns mean what.
        drop_incomplete: leave out (and list) rows with a missing or unusable time or event, instead of stopping.

    Raises:
        CohortError: a missing column; a case twice; a time that is missing, no number or not positive; an event
            that is none of 0/1/true/false or the named pair; no case or no event at all. Rows are named.
    """
    rows = read_table(path)
    columns = [settings.case, settings.time, settings.event, *settings.covariates]
    columns += [settings.site] if settings.site else []
    have = list(rows[0]) if rows else []
    if missing := [name for name in columns if name not in have]:
        raise CohortError(
            f"{path}: no column {', '.join(map(repr, missing))}; it has {', '.join(have) or 'no rows'}. "
            "Name the right ones with --case, --time, --event, --site, --covariates."
        )
    cases: dict[str, Case] = {}
    first_row: dict[str, int] = {}
    dropped, twice = [], []
    for number, row in enumerate(rows, start=2):
        case_id = row[settings.case]
        if case_id in first_row:
            twice.append(f"{case_id!r} in rows {first_row[case_id]} and {number}")
            continue
        first_row[case_id] = number
        try:
            cases[case_id] = _case(row, settings)
        except ValueError as error:
            dropped.append(Dropped(number, case_id, str(error)))
    if twice:
        raise CohortError(f"{path}: a case twice: {_some(twice)}. Keep one row a case.")
    if dropped and not drop_incomplete:
        listed = _some([f"row {drop.row} ({drop.case_id}): {drop.reason}" for drop in dropped])
        raise CohortError(f"{path}: {listed}. Mend the rows, or leave them out with --drop-incomplete.")
    if not cases:
        raise CohortError(f"{path}: no case left")
    if not any(case.event for case in cases.values()):
        raise CohortError(f"{path}: no event in {len(cases)} cases: survival can't be learned from follow-up alone")
    return Clinical(tuple(cases[case_id] for case_id in sorted(cases)), tuple(dropped))


def _some(items: Sequence[str]) -> str:
    more = f"; and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(items[:_SHOWN]) + more


def _case(row: Mapping[str, str], settings: CohortSettings) -> Case:
    """One row as a case; ValueError with the reason where it can't be one."""
    case_id = row[settings.case]
    if not case_id:
        raise ValueError(f"{settings.case} is empty")
    if "/" in case_id or "\\" in case_id or case_id.startswith("."):
        raise ValueError(f"{settings.case} {case_id!r} can't be a file name")
    return Case(
        case_id=CaseId(case_id),
        time=_time(row[settings.time], settings.time),
        event=_event(row[settings.event], settings),
        site=row[settings.site] if settings.site else None,
        covariates={name: "" if row[name].lower() in _MISSING else row[name] for name in settings.covariates},
    )


def _time(text: str, column: str) -> float:
    if text.lower() in _MISSING:
        raise ValueError(f"{column} is missing")
    try:
        time = float(text)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, not a number") from None
    if not math.isfinite(time) or time <= 0:
        raise ValueError(f"{column} is {text}, not a positive number")
    return time


def _event(text: str, settings: CohortSettings) -> bool:
    if text.lower() in _MISSING:
        raise ValueError(f"{settings.event} is missing")
    if settings.event_values:
        if text in settings.event_values:
            return text == settings.event_values[1]
        raise ValueError(f"{settings.event} is {text!r}, not {' or '.join(map(repr, settings.event_values))}")
    if text.lower() in _FALSE | _TRUE:
        return text.lower() in _TRUE
    raise ValueError(
        f"{settings.event} is {text!r}, not 0/1/true/false (name other words with --event-values ALIVE,DEAD)"
    )


def read_slide_map(path: Path) -> dict[str, str]:
    """Read a table ``slide_id,case_id`` that says whose each slide is.

    Raises:
        CohortError: a missing column, or one slide of two cases.
    """
    cases: dict[str, str] = {}
    for number, row in enumerate(read_table(path), start=2):
        if "slide_id" not in row or "case_id" not in row:
            raise CohortError(f"{path}: columns slide_id and case_id are needed; it has {', '.join(row)}")
        slide_id, case_id = row["slide_id"], row["case_id"]
        if cases.setdefault(slide_id, case_id) != case_id:
            raise CohortError(f"{path}, row {number}: slide {slide_id!r} belongs to {cases[slide_id]!r} already")
    return cases


def match_case(slide_id: str, case_ids: Collection[str]) -> str | None:
    """The case of a slide by its name: the longest case_id that is the slide_id or begins it up to ``-``, ``_``, ``.``.

    ``TCGA-AA-3672-01Z-00-DX1`` is of ``TCGA-AA-3672``; ``case10_a`` is not of ``case1``.
    """
    if slide_id in case_ids:
        return slide_id
    for cut in reversed([found.start() for found in re.finditer(r"[-_. ]", slide_id)]):
        if slide_id[:cut] in case_ids:
            return slide_id[:cut]
    return None


def build_cohort(
    name: str,
    clinical: Clinical,
    settings: CohortSettings,
    *,
    slide_ids: Collection[str],
    report_case_ids: Collection[str],
    slide_map: Mapping[str, str] | None = None,
    reports_only: bool = False,
) -> tuple[Cohort, Audit]:
    """Match follow-up, slides and reports. Cases without a slide are listed in the audit and not in the cohort.

    With ``reports_only`` no slide is looked for, and the cases are those with a report.
    """
    known = {str(case.case_id) for case in clinical.cases}
    slides_of: dict[str, list[SlideId]] = {}
    orphans = []
    for slide_id in sorted(slide_ids):
        case_id = slide_map.get(slide_id) if slide_map is not None else match_case(slide_id, known)
        if case_id in known:
            slides_of.setdefault(str(case_id), []).append(SlideId(slide_id))
        else:
            orphans.append(slide_id)
    there: Collection[str] = set(report_case_ids) if reports_only else slides_of.keys()
    cases = tuple(
        Case(**{**vars(case), "slide_ids": tuple(slides_of.get(case.case_id, ()))})
        for case in clinical.cases
        if case.case_id in there
    )
    times = sorted(case.time for case in cases)
    sites: dict[str, int] = {}
    for case in cases:
        if case.site is not None:
            sites[case.site] = sites.get(case.site, 0) + 1
    audit = Audit(
        clinical_rows=len(clinical.cases) + len(clinical.dropped),
        clinical_cases=len(clinical.cases),
        clinical_events=sum(case.event for case in clinical.cases),
        clinical_cases_with_report=sum(case.case_id in report_case_ids for case in clinical.cases),
        cases=len(cases),
        events=sum(case.event for case in cases),
        slides=sum(len(case.slide_ids) for case in cases),
        cases_with_report=sum(case.case_id in report_case_ids for case in cases),
        cases_of_several_slides=sum(len(case.slide_ids) > 1 for case in cases),
        time_unit=settings.time_unit,
        median_time=times[len(times) // 2] if times else None,
        sites=dict(sorted(sites.items())),
        dropped=clinical.dropped,
        cases_without_slide=() if reports_only else tuple(sorted(known - slides_of.keys())),
        slides_without_case=tuple(orphans),
        reports_without_case=tuple(sorted(set(report_case_ids) - known)),
        cases_without_report=tuple(sorted(known - set(there))) if reports_only else (),
    )
    return Cohort(name, cases, settings), audit


def make_cohort(
    workspace: Workspace,
    name: str,
    clinical: Path,
    columns: CohortSettings | None = None,
    *,
    encoder: str = "histomics",
    slide_map: Path | None = None,
    drop_incomplete: bool = False,
    save: bool = True,
    redo: bool = False,
) -> tuple[Cohort, Audit]:
    """Match a clinical table with a workspace's features and statements; writes cohort.csv and audit.json.

    Args:
        workspace: holds features and statements.
        name: of the new cohort.
        clinical: follow-up table, CSV or TSV, a row a case.
        columns: which of its columns mean what; None for ``case_id``, ``time`` (days) and ``event``.
        encoder: folder of the features.
        slide_map: table slide_id,case_id; without it a slide is of the case whose id begins its name.
        drop_incomplete: leave out, and list, rows without a usable time or event.
        save: False writes nothing.
        redo: replace another cohort of this name.

    Raises:
        CohortError: the table can't be used, or matches nothing.
        StaleError: another cohort of this name is there, and not ``redo``.

    Example:
        >>> import wsisurv
        >>> columns = wsisurv.CohortSettings(time="os_days", event="os_event")
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> cohort, audit = wsisurv.make_cohort(place, "crc", Path("followup.csv"), columns)  # doctest: +SKIP
    """
    settings = columns or CohortSettings()
    statements = read_statements(workspace.statements) if workspace.statements.exists() else {}
    cohort, audit = build_cohort(
        name,
        read_clinical(clinical, settings, drop_incomplete=drop_incomplete),
        settings,
        slide_ids=workspace.embedded_slides(encoder),
        report_case_ids=[case_id for case_id, record in statements.items() if record.statements],
        slide_map=read_slide_map(slide_map) if slide_map else None,
    )
    if save:
        save_cohort(workspace.cohort(name), cohort, audit, redo=redo)
    return cohort, audit


def write_cohort(folder: Path, cohort: Cohort, audit: Audit) -> None:
    """Write ``cohort.csv`` and ``audit.json`` (with the cohort's settings) into the cohort's folder.

    Raises:
        StorageError: no room or no permission.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    covariates = cohort.settings.covariates
    writer.writerow(["case_id", "slides", "time", "event", "site", *(_COVARIATE + name for name in covariates)])
    for case in cohort.cases:
        values = [case.covariates[name] for name in covariates]
        row = [case.case_id, ";".join(case.slide_ids), repr(case.time), int(case.event), case.site or ""]
        writer.writerow([*row, *values])
    audit_json = {"name": cohort.name, "settings": cohort.settings.model_dump(mode="json"), "audit": asdict(audit)}
    write_text(folder / "audit.json", json.dumps(audit_json, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "cohort.csv", text.getvalue())


def read_cohort(folder: Path) -> tuple[Cohort, Audit]:
    """Read a cohort that ``train-teacher`` made.

    Raises:
        MissingArtifactError: there is none.
        FormatError: its files are damaged.
    """
    table, record = folder / "cohort.csv", folder / "audit.json"
    if not table.exists() or not record.exists():
        raise MissingArtifactError(
            f"{folder}: no cohort there. `wsisurv train-teacher --cohort {folder.name} --clinical FILE` makes it."
        )
    try:
        saved = json.loads(record.read_text(encoding="utf-8"))
        settings = CohortSettings(**saved["settings"])
        audit = TypeAdapter(Audit).validate_python(saved["audit"])
        cases = tuple(
            Case(
                case_id=CaseId(row["case_id"]),
                time=float(row["time"]),
                event=row["event"] == "1",
                site=row["site"] if settings.site else None,
                covariates={name: row[_COVARIATE + name] for name in settings.covariates},
                slide_ids=tuple(SlideId(slide_id) for slide_id in row["slides"].split(";") if slide_id),
            )
            for row in read_table(table)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{folder}: cohort.csv or audit.json is damaged ({error}). Run train-teacher anew."
        ) from error
    return Cohort(saved["name"], cases, settings), audit


def save_cohort(folder: Path, cohort: Cohort, audit: Audit, *, redo: bool = False) -> None:
    """Write a cohort unless the same one is there already.

    Raises:
        CohortError: no case has a slide.
        StaleError: another cohort is there under this name and ``redo`` is False.
        StorageError: no room or no permission.
    """
    if not cohort.cases:
        raise CohortError(
            "no case has a slide with features (nor a report, where reports alone were asked for). Run `wsisurv tile` "
            "and `wsisurv embed` first, in the same workspace; name another --encoder; or say with --slide-map whose "
            "each slide is."
        )
    if (folder / "cohort.csv").exists() and not redo:
        saved, _ = read_cohort(folder)
        require_fresh(
            {folder: compare(_origin(saved), _origin(cohort), also=_changed_cases(saved, cohort))},
            remedy="Use --redo to make the cohort anew, another --cohort name, or leave out --clinical to go on with "
            "the saved one.",
        )
    write_cohort(folder, cohort, audit)


def _origin(cohort: Cohort) -> Origin:
    return Origin(cohort.fingerprint, cohort.settings.model_dump(mode="json"))


def _changed_cases(old: Cohort, new: Cohort) -> list[str]:
    """Cases that changed between two cohorts, in words."""
    changes = []
    before, after = ({case.case_id: case for case in cohort.cases} for cohort in (old, new))
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    other = [case_id for case_id in before.keys() & after.keys() if before[case_id] != after[case_id]]
    for word, ids in (("gone", gone), ("new", come), ("changed", other)):
        if ids:
            changes.append(f"{len(ids)} cases {word} ({_some(sorted(ids))})")
    return changes
