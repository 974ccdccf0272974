"""The table of cases on the cohort page, and the heatmaps that are inside it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wsisurv.cohort import Case
from wsisurv.errors import FormatError
from wsisurv.formats.heatmaps import CaseMap, SlideMap
from wsisurv.formats.pictures import read_whole_picture
from wsisurv.pages.gathering import Gathered

_SMALL_PX = 1100
"""As wide as the page, so that the picture's words can be read."""
_SMALL_QUALITY = 65


@dataclass(frozen=True)
class CaseLine:
    """A row of the table of cases; what is not known is None or empty, ``anchor`` where no heatmap is in the page."""

    case: Case
    n_tiles: int | None
    log_hazard: float | None
    percentile: float | None
    group: str
    map: CaseMap | None
    anchor: str
    warning: str


@dataclass(frozen=True)
class ShownMap:
    """A heatmap inside the page: what it says, where it is on the page, and each slide's picture as a small JPEG."""

    map: CaseMap
    anchor: str
    pictures: Sequence[tuple[SlideMap, bytes]]
    problems: Sequence[str]  # pictures that can't be read, each with the way out


def case_lines(seen: Gathered, inside: set[str]) -> list[CaseLine]:
    """A line a case; ``inside`` are those whose heatmap is in the page."""
    predicted = seen.predicted
    row_of = {str(case.case_id): row for row, case in enumerate(predicted.cases)} if predicted else {}
    lines = []
    for case in seen.cohort.cases:
        case_id = str(case.case_id)
        row, risk, drawn = row_of.get(case_id), seen.risks.get(case_id), seen.maps.get(case_id)
        known = predicted if row is not None else None
        lines.append(
            CaseLine(
                case=case,
                n_tiles=risk.n_tiles if risk else drawn.n_tiles if drawn else None,
                log_hazard=float(known.log_hazard[row]) if known and row is not None else None,
                percentile=float(known.percentile[row]) if known and row is not None else None,
                group=known.group[row] if known and row is not None else "",
                map=drawn,
                anchor=_anchor(case_id) if case_id in inside else "",
                warning=(risk.warning if risk else "") or (drawn.unfamiliar if drawn else ""),
            )
        )
    return lines


def _anchor(case_id: str) -> str:
    return f"heatmap-{case_id.encode().hex()}"  # whatever letters the name has


def extreme_cases(seen: Gathered, count: int) -> list[str]:
    """Cases whose heatmap is put into the page: of highest and of lowest risk, highest first."""
    order = sorted(
        (case_id for case_id, case in seen.maps.items() if case.log_hazard is not None),
        key=lambda case_id: -(seen.maps[case_id].log_hazard or 0.0),
    )
    return order if len(order) <= count else [*order[: (count + 1) // 2], *order[len(order) - count // 2 :]]


def shown_map(folder: Path, case: CaseMap) -> ShownMap:
    """A case's heatmap with its pictures; one that can't be read is left out, and named."""
    pictures, problems = [], []
    for slide in case.slides:
        try:
            small = read_whole_picture(folder / slide.picture, "`wsisurv heatmap --redo`").convert("RGB")
        except FormatError as error:
            problems.append(str(error))
            continue
        small.thumbnail((_SMALL_PX, 2 * _SMALL_PX), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        small.save(content, format="JPEG", quality=_SMALL_QUALITY)
        pictures.append((slide, content.getvalue()))
    return ShownMap(case, _anchor(case.case_id), pictures, problems)
