"""Several endpoints of one cohort: each is a cohort of its own, ``NAME/ENDPOINT``, on the same slides and reports."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsisurv.cohort.cases import Audit, Case, Cohort
from wsisurv.cohort.files import make_cohort, read_cohort, save_cohort
from wsisurv.errors import CohortError, SettingsError
from wsisurv.settings.cohort import CohortSettings, Endpoint
from wsisurv.workspace.paths import Workspace


def make_endpoints(
    workspace: Workspace,
    name: str,
    clinical: Path,
    endpoints: Sequence[Endpoint],
    columns: CohortSettings | None = None,
    *,
    encoder: str = "histomics",
    slide_map: Path | None = None,
    drop_incomplete: bool = False,
    reports_only: bool = False,
    save: bool = True,
    redo: bool = False,
) -> list[tuple[Cohort, Audit]]:
    """Match a clinical table with a workspace once for each endpoint; writes all of them, or none.

    Args:
        workspace: holds features and statements.
        name: of the new cohort; the endpoints are cohorts ``NAME/ENDPOINT``.
        clinical: follow-up table, a row a case.
        endpoints: their names and columns; of none, the one cohort ``NAME`` is made by the columns' own time and event.
        columns: which columns mean what; its time and event are not read where there are endpoints.
        encoder: folder of the features.
        slide_map: table slide_id,case_id; without it a slide is of the case whose id begins its name.
        drop_incomplete: leave out of an endpoint, and list, rows whose time or event of it is missing.
        reports_only: as ``make_cohort``.
        save: False writes nothing.
        redo: replace other endpoints of these names.

    Raises:
        CohortError: the table can't be used for an endpoint, which is named, or matches nothing.
        SettingsError: ``columns`` names a competing event, which is an endpoint's own.
        StaleError: another cohort of such a name is there, and not ``redo``.

    Example:
        >>> import wsisurv
        >>> from wsisurv.settings.cohort import Endpoint
        >>> ends = [Endpoint("os", "os_days", "os_event"), Endpoint("pfi", "pfi_days", "pfi_event")]
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> cohorts = wsisurv.make_endpoints(place, "crc", Path("followup.csv"), ends)  # doctest: +SKIP
    """
    settings = columns or CohortSettings()
    if endpoints and settings.competing is not None:
        raise SettingsError(
            f"--competing {settings.competing} with several endpoints: name it with the endpoint that it competes "
            f"with, e.g. --endpoint dss=dss_days,dss_event,{settings.competing}"
        )
    outcomes = [{"time": one.time, "event": one.event, "competing": one.competing} for one in endpoints]
    wanted = [
        (f"{name}/{one.name}", settings.model_copy(update=outcome), f"endpoint {one.name}: ")
        for one, outcome in zip(endpoints, outcomes, strict=True)
    ] or [(name, settings, "")]
    made, problems = [], []
    for cohort_name, of_it, where in wanted:
        try:
            made.append(
                make_cohort(
                    workspace,
                    cohort_name,
                    clinical,
                    of_it,
                    encoder=encoder,
                    slide_map=slide_map,
                    drop_incomplete=drop_incomplete,
                    reports_only=reports_only,
                    save=False,
                )
            )
        except CohortError as error:
            problems.append(f"{where}{error}")
    if problems:
        raise CohortError("\n".join(problems))
    for cohort, audit in made if save else ():
        with workspace.claim("cohort", cohort.name, wait=True):
            save_cohort(workspace.cohort(cohort.name), cohort, audit, redo=redo)
    return made


def with_all_endpoints(workspace: Workspace, cohort: Cohort) -> Cohort:
    """The cases of all endpoints that are made with this one; the cohort itself where there is no other.

    Folds are drawn of these, so that a case is in the same fold for each endpoint. A case has the follow-up of the
    first endpoint, by name, that knows it: by it events are balanced.

    Raises:
        FormatError: the files of another endpoint are damaged.
    """
    parent, _, endpoint = cohort.name.partition("/")
    others = [name for name in workspace.cohorts() if endpoint and name.startswith(f"{parent}/")]
    if len(others) < 2:
        return cohort
    cases: dict[str, Case] = {}
    for name in others:
        of_it = cohort if name == cohort.name else read_cohort(workspace.cohort(name))[0]
        for case in of_it.cases:
            cases.setdefault(case.case_id, case)
    return replace(cohort, name=parent, cases=tuple(cases[case_id] for case_id in sorted(cases)))
