"""Files of a cohort: made from a clinical table and a workspace, written and read."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import TypeAdapter

from wsisurv.cohort.cases import Audit, Case, Cohort
from wsisurv.cohort.clinical import read_clinical, unusable_id
from wsisurv.cohort.matching import build_cohort, read_slide_map
from wsisurv.errors import CohortError, FormatError, MissingArtifactError, SettingsError
from wsisurv.formats.atomic import read_json, write_json, write_text
from wsisurv.formats.id_cells import read_id, read_ids, write_id, write_ids
from wsisurv.formats.sealed import require_table, table_checksum
from wsisurv.formats.statements import ReportRecord, read_statements
from wsisurv.formats.tables import listed
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId, SlideId
from wsisurv.workspace.freshness import Origin, compare, require_fresh
from wsisurv.workspace.paths import Workspace

_COVARIATE = "covariate:"


def make_cohort(
    workspace: Workspace,
    name: str,
    clinical: Path,
    columns: CohortSettings | None = None,
    *,
    encoder: str = "histomics",
    slide_map: Path | None = None,
    drop_incomplete: bool = False,
    reports_only: bool = False,
    save: bool = True,
    redo: bool = False,
) -> tuple[Cohort, Audit]:
    """Match a clinical table with a workspace's features and statements; writes cohort.csv and audit.json.

    Args:
        workspace: holds features and statements.
        name: of the new cohort.
        clinical: clinical table, a row a case.
        columns: which of its columns mean what; None for ``case_id``, ``time`` (days) and ``event``.
        encoder: folder of the features.
        slide_map: table slide_id,case_id; without it a slide is of the case whose id begins its name.
        drop_incomplete: leave out, and list, rows whose time or event is missing.
        reports_only: make it of the cases that have a report; no slide is needed.
        save: False writes nothing.
        redo: replace another cohort of this name.

    Raises:
        CohortError: the table can't be used, or matches nothing.
        MissingArtifactError: reports alone are asked for, and there are no statements.
        StaleError: another cohort of this name is there, and not ``redo``.

    Example:
        >>> import wsisurv
        >>> columns = wsisurv.CohortSettings(time="os_days", event="os_event")
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> cohort, audit = wsisurv.make_cohort(place, "crc", Path("followup.csv"), columns)  # doctest: +SKIP
    """
    settings = columns or CohortSettings()
    follow_up = read_clinical(clinical, settings, drop_incomplete=drop_incomplete)
    statements = read_statements(workspace.statements) if reports_only or workspace.statements.exists() else {}
    cohort, audit = build_cohort(
        name,
        follow_up,
        settings,
        slide_ids=() if reports_only else workspace.embedded_slides(encoder),
        report_case_ids=[case_id for case_id, record in statements.items() if reports_only or record.statements],
        slide_map=read_slide_map(slide_map) if slide_map else None,
        reports_only=reports_only,
    )
    audit = replace(audit, encoder="" if reports_only else encoder)
    if save:
        with workspace.claim("cohort", name, wait=True):  # two runs never mix their table and audit
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
    late = ["entry"] if cohort.settings.entry is not None else []
    writer.writerow(["case_id", "slides", "time", "event", *late, "site", *(_COVARIATE + name for name in covariates)])
    for case in cohort.cases:
        values = [write_id(case.covariates[name]) for name in covariates]
        ids = [write_id(case.case_id), write_ids(case.slide_ids)]
        entry = [repr(case.entry)] if late else []
        event = 2 if case.competing else int(case.event)
        writer.writerow([*ids, repr(case.time), event, *entry, write_id(case.site or ""), *values])
    audit_json = {"name": cohort.name, "settings": cohort.settings.model_dump(mode="json"), "audit": asdict(audit)}
    seal = table_checksum(text.getvalue().encode("utf-8", "backslashreplace"))
    write_json(folder / "audit.json", {**audit_json, **seal})
    write_text(folder / "cohort.csv", text.getvalue())


def read_cohort(folder: Path) -> tuple[Cohort, Audit]:
    """Read a cohort that ``cohort`` or ``train-teacher`` made.

    Raises:
        MissingArtifactError: there is none.
        FormatError: its files are damaged.
    """
    table, record = folder / "cohort.csv", folder / "audit.json"
    if not table.exists() or not record.exists():
        raise MissingArtifactError(
            f"{folder}: no cohort there. `wsisurv cohort {folder.name} --clinical FILE` makes it."
        )
    try:
        saved = read_json(record)
        require_table(table, saved)
        name = str(saved["name"])
        settings = CohortSettings(**saved["settings"])
        audit = TypeAdapter(Audit).validate_python(saved["audit"])
        with table.open(encoding="utf-8", newline="") as file:
            cases = tuple(_parse(row, settings) for row in csv.DictReader(file, strict=True))
    except (ValueError, KeyError, TypeError, AttributeError, SettingsError, csv.Error) as error:
        raise FormatError(
            f"{folder}: cohort.csv or audit.json is damaged ({error}). Make it anew: `wsisurv cohort NAME "
            "--clinical FILE --redo`."
        ) from error
    return Cohort(name, cases, settings), audit


def recount_reports(cohort: Cohort, audit: Audit, statements: Mapping[str, ReportRecord]) -> Audit:
    """The audit with the cases that have ``statements`` now: reports may have been read after the cohort was made."""
    if not audit.slides:  # cases of reports alone have one by definition
        return audit
    stated = {str(case_id) for case_id, record in statements.items() if record.statements}
    cases = {str(case.case_id) for case in cohort.cases}
    usable = cases | set(audit.cases_without_slide)
    known = usable | {drop.case_id for drop in audit.dropped}
    return replace(
        audit,
        clinical_cases_with_report=len(usable & stated),
        cases_with_report=len(cases & stated),
        reports_without_case=tuple(sorted(stated - known)),
    )


def _parse(row: Mapping[str, str], settings: CohortSettings) -> Case:
    case_id = read_id(row["case_id"])
    if reason := unusable_id(case_id):
        raise ValueError(f"case_id {case_id!r} {reason}")
    return Case(
        case_id=CaseId(case_id),
        time=float(row["time"]),
        event=row["event"] == "1",
        competing=row["event"] == "2",
        entry=float(row["entry"]) if settings.entry is not None else 0.0,
        site=read_id(row["site"]) if settings.site else None,
        covariates={name: read_id(row[_COVARIATE + name]) for name in settings.covariates},
        slide_ids=tuple(map(SlideId, read_ids(row["slides"]))),
    )


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
    if others := sorted(path.parent.name for path in folder.glob("*/cohort.csv")):
        raise CohortError(
            f"{folder}: it has the endpoints {', '.join(others)}. Name another --cohort, or add one with --endpoint."
        )
    if (folder.parent / "cohort.csv").exists():
        raise CohortError(f"{folder.parent}: a cohort of one endpoint is there. Name another --cohort.")
    if not redo:
        require_unchanged(folder, cohort)
    write_cohort(folder, cohort, audit)


def require_unchanged(folder: Path, cohort: Cohort) -> None:
    """Refuse to write a cohort where another is under its name.

    Raises:
        StaleError: there is; names what differs.
    """
    if (folder / "cohort.csv").exists():
        saved, _ = read_cohort(folder)
        require_fresh(
            {folder: compare(_origin(saved), _origin(cohort), also=_changed_cases(saved, cohort))},
            remedy="Use --redo to make the cohort anew, another --cohort name, or leave out --clinical to go on with "
            "the saved one.",
        )


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
            changes.append(f"{len(ids)} cases {word} ({listed(sorted(ids))})")
    return changes
