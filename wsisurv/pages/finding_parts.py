"""The part of a cohort's page on findings: which are told, and of cases that were drawn their tiles and quotes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsisurv.cohort import Cohort
from wsisurv.formats.finding_cards import FindingsResult
from wsisurv.formats.finding_maps import FILE, FindingMap, read_finding_map
from wsisurv.formats.models import read_model
from wsisurv.workspace.freshness import Origin, require_made_of


@dataclass(frozen=True)
class FindingParts:
    """What is known of a cohort's findings."""

    result: FindingsResult
    maps: Sequence[FindingMap]  # of cases that were drawn, by finding and case; none by other heads than there are now


def read_finding_parts(folder: Path, cohort: Cohort) -> FindingParts | None:
    """Read the findings in a cohort's folder; None where ``wsisurv findings`` was not run.

    Raises:
        FormatError: a file is damaged.
        StaleError: the model is of other cases than the cohort's now.
    """
    path = folder / "findings.h5"
    if not path.exists():
        return None
    model, header = read_model(path, "findings")
    now = Origin(cohort.fingerprint)
    require_made_of(path, header.inputs.get("cohort", ""), now, "the cohort", "Run `wsisurv findings --redo`.")
    maps: list[FindingMap] = []
    for case in cohort.cases:
        for drawn in sorted((folder / "heatmaps" / case.case_id).glob(f"*/{FILE}")):
            found = read_finding_map(drawn.parent)
            maps += [found] if found.model == header.fingerprint else []
    return FindingParts(model.card.result, sorted(maps, key=lambda one: (one.finding, one.case_id)))
