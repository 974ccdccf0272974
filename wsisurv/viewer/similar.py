"""Similar cases and nearest tiles, as JSON."""

from dataclasses import asdict
from typing import Any

from wsisurv.errors import WsisurvError
from wsisurv.formats.statements import ReportRecord
from wsisurv.models.finding_table import KINDS, make_table
from wsisurv.viewer.neighbours import Neighbours
from wsisurv.viewer.study import Study

Record = dict[str, Any]
_CASES, _TILES = 6, 4


def similar_cases(study: Study, neighbours: Neighbours, case_id: str) -> Record:
    """Cases nearest to one by the student's state, with their outcome and what their reports state.

    Raises:
        InputError: there is no such case.
        ArtifactError: the student is missing or damaged.
    """
    study.case(case_id)
    if not neighbours.ready():
        return _reading(neighbours)
    found, typical = neighbours.cases(case_id, _CASES)
    try:
        records = dict(study.statements)
    except WsisurvError:
        records = dict[str, ReportRecord]()
    table = make_table(records, [name for name, _ in found])
    return {
        "ready": True,
        "median": typical if found else None,
        "unread": list(neighbours.unread),
        "out_of_fold": case_id in study.explainer.fold_of,
        "cases": [
            {
                "id": name,
                "distance": away,
                "reported": bool(table.reported[row]),
                "present": [kind.name for number, kind in enumerate(KINDS) if table.stated[row, number] == 1],
            }
            for row, (name, away) in enumerate(found)
        ],
    }


def nearest_tiles(study: Study, neighbours: Neighbours, case_id: str, number: int) -> Record:
    """Tiles of other cases nearest to one by their features; raises as ``Study.tile_number``."""
    number = study.tile_number(case_id, number)
    if not neighbours.ready():
        return _reading(neighbours)
    found = neighbours.tiles(case_id, study.explained(case_id).tiles.values[number], _TILES)
    return {"ready": True, "tiles": [{**asdict(tile), "distance": away} for tile, away in found]}


def _reading(neighbours: Neighbours) -> Record:
    done, total = neighbours.progress
    return {"ready": False, "done": done, "total": total}
