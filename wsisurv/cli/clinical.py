"""What the commands that make a cohort share: its options, how it is made, and the audit as a person reads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from wsisurv.cli.console import out, warn
from wsisurv.cli.options import SlideMapOption
from wsisurv.cohort import Audit, Cohort, make_endpoints
from wsisurv.errors import SettingsError
from wsisurv.settings.cohort import CohortSettings, parse_endpoints
from wsisurv.workspace.paths import Workspace

_LISTED = 8

ClinicalOption = Annotated[
    Path | None,
    typer.Option(
        "--clinical",
        help="Clinical table with follow-up (CSV, TSV or .xlsx, one row a case); needed the first time.",
        dir_okay=False,
    ),
]
DropIncomplete = Annotated[
    bool,
    typer.Option(
        "--drop-incomplete", help="Leave out, and list, rows whose time or event is missing, instead of stopping."
    ),
]


@dataclass(frozen=True)
class MakingOptions:
    """How a cohort is made, beside what its columns mean."""

    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint",
            help="One of several outcomes, NAME=TIME,EVENT with its two columns, in place of --time and --event, or "
            "three with that of a competing event; can be given more than once, e.g. --endpoint os=os_days,os_event "
            "--endpoint dss=dss_days,dss_event,os_event. All other commands take one of them as --cohort NAME/os.",
            metavar="NAME=TIME,EVENT[,COMPETING]",
        ),
    ] = None
    slide_map: SlideMapOption = None
    drop_incomplete: DropIncomplete = False
    audit_only: Annotated[
        bool, typer.Option("--audit-only", help="Print the audit of the cohort, and write nothing.")
    ] = False

    def make(
        self,
        place: Workspace,
        name: str | None,
        clinical: Path | None,
        columns: CohortSettings,
        *,
        encoder: str,
        reports_only: bool = False,
        redo: bool,
    ) -> list[tuple[Cohort, Audit]]:
        """Make a cohort, one for each endpoint, and print what went into it; nothing where no table is given.

        Raises:
            SettingsError: options that need a table, or a name that can't be.
            WsisurvError: as ``make_endpoints``.
        """
        endpoints = parse_endpoints(self.endpoint or ())
        if clinical is None and self.slide_map is not None:
            raise SettingsError("--slide-map goes with --clinical: a cohort that is there has its slides")
        if endpoints and (clinical is None or columns.model_fields_set & {"time", "event"}):
            raise SettingsError("--endpoint goes with --clinical, in place of --time and --event")
        if clinical is None:
            return []
        if name is None:
            raise SettingsError("--cohort NAME is needed with --clinical: it names the folder of the new cohort")
        if "/" in name:
            raise SettingsError(f"{name}: name the cohort alone, and its endpoints with --endpoint")
        made = make_endpoints(
            place,
            name,
            clinical,
            endpoints,
            columns,
            encoder=encoder,
            slide_map=self.slide_map,
            drop_incomplete=self.drop_incomplete,
            reports_only=reports_only,
            save=not self.audit_only,
            redo=redo,
        )
        for chosen, audit in made:
            print_audit(chosen, audit)
            if not self.audit_only:
                out.print(f"the whole audit: {place.cohort(chosen.name) / 'audit.json'}")
        return made


def print_audit(cohort: Cohort, audit: Audit) -> None:
    """Print what went into a cohort and what did not."""
    table = Table(title=f"Cohort {cohort.name}", show_header=False, title_justify="left")
    competing = "" if audit.clinical_competing is None else f"{audit.clinical_competing} competing ones, "
    rows = {
        "rows in the clinical table": f"{audit.clinical_rows}, of them usable {audit.clinical_cases}"
        f" ({audit.clinical_events} events, {competing}{audit.clinical_cases_with_report} with statements)",
        "cases with follow-up and slide": f"{audit.cases}, of several slides {audit.cases_of_several_slides}",
        "events": f"{audit.events}"
        + (
            f" ({100 - 100 * (audit.events + (audit.competing or 0)) / audit.cases:.0f} % censored)"
            if audit.cases
            else ""
        ),
        **({"competing events": f"{audit.competing}"} if audit.competing is not None else {}),
        "slides": f"{audit.slides}",
        "cases with statements": f"{audit.cases_with_report}",
        "median time": "–" if audit.median_time is None else f"{audit.median_time:g} {audit.time_unit}",
        "sites": _sites(audit) if cohort.settings.site else "no site column named",
    }
    alone = bool(audit.cases_without_slide) and not (
        audit.cases or audit.slides_without_case or audit.slides_of_dropped
    )
    if not audit.cases and audit.clinical_median_time is not None:
        rows["median time of the rows"] = f"{audit.clinical_median_time:g} {audit.time_unit}"
        del rows["median time"]
    if alone:  # the table, before there are slides
        del rows["cases with follow-up and slide"], rows["events"], rows["slides"], rows["cases with statements"]
    if not audit.slides and audit.cases:  # of reports alone
        del rows["slides"], rows["cases with follow-up and slide"], rows["cases with statements"]
        rows["rows in the clinical table"] = rows["rows in the clinical table"].replace("statements", "a report")
        rows = {"cases with follow-up and report": f"{audit.cases}", **rows}
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)
    _print_left_out("rows dropped", [f"row {drop.row} {drop.case_id}: {drop.reason}" for drop in audit.dropped])
    _print_left_out("slides of dropped rows (not used)", audit.slides_of_dropped)
    if alone:
        out.print("no slide has features yet: cases are matched with slides, and the cohort is made, once there are")
    else:
        _print_left_out("cases without a slide (not in the cohort)", audit.cases_without_slide)
    _print_left_out("cases without a report (not in the cohort)", audit.cases_without_report)
    _print_left_out("slides without a case (not used)", audit.slides_without_case)
    _print_left_out("reports without a case (not used)", audit.reports_without_case)
    warn(*audit.warnings, *filter(None, [cohort.outcome_note]))
    _print_plan(cohort, audit)


def _print_plan(cohort: Cohort, audit: Audit) -> None:
    """Say what so many cases and events can tell, before anything is trained; of all rows where no case has a slide."""
    from wsisurv.survival.planning import covariate_parameters, plan_study

    of = (audit.cases, audit.events) if audit.cases else (audit.clinical_cases, audit.clinical_events)
    if not all(of):
        return
    covariates = covariate_parameters(cohort.cases) if audit.cases else len(cohort.settings.covariates)
    plan = plan_study(cases=of[0], events=of[1], covariates=covariates)
    out.print(f"sample size: {plan.words}")


def _sites(audit: Audit) -> str:
    """How many hospitals there are, and how many cases of an unknown one; of all rows where no case has a slide."""
    sites, cases = (audit.sites, audit.cases) if audit.cases else (audit.clinical_sites, audit.clinical_cases)
    unknown = cases - sum(sites.values())
    return f"{len(sites)}" + (f", and {unknown} cases of unknown hospital" if unknown else "")


def _print_left_out(title: str, items: tuple[str, ...] | list[str]) -> None:
    if items:
        more = f"; and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
        out.print(f"{len(items)} {title}: {'; '.join(items[:_LISTED])}{more}")
