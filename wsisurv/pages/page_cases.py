"""The table of cases, and what raised and lowered the risk of each."""

from collections.abc import Mapping, Sequence
from html import escape

from wsisurv.formats.heatmaps import CaseMap, Extreme
from wsisurv.pages.gathering import Gathered
from wsisurv.pages.html import Cell, link, number, paragraph, picture, table, text

_FEATURES = 6


def cases_section(seen: Gathered, pictures: Mapping[str, Sequence[bytes]]) -> str:
    """A row a case; its heatmap is further down the page, or in a file of its own beside the page."""
    predicted = seen.predicted
    row_of = {str(case.case_id): row for row, case in enumerate(predicted.cases)} if predicted else {}
    covariates = seen.cohort.settings.covariates
    unit = seen.cohort.settings.time_unit
    warned = any(row.warning for row in seen.risks.values())
    rows = []
    for case in seen.cohort.cases:
        case_id, row = str(case.case_id), row_of.get(str(case.case_id))
        known = predicted if row is not None else None
        told, drawn = seen.risks.get(case_id), seen.maps.get(case_id)
        n_tiles = told.n_tiles if told else drawn.n_tiles if drawn else None
        rows.append(
            (
                text(case_id),
                number(len(case.slide_ids), "d"),
                number(n_tiles, "d"),
                number(float(known.log_hazard[row]) if known and row is not None else None, "+.3f"),
                number(float(known.percentile[row]) if known and row is not None else None, ".0f"),
                text(known.group[row] if known and row is not None else "–"),
                number(case.time, "g"),
                text("yes" if case.event else "no"),
                *(text(case.covariates.get(name) or "–") for name in covariates),
                *((text(case.site or "–"),) if seen.cohort.settings.site else ()),
                _opens(case_id, drawn, case_id in pictures),
                *((text(told.warning if told else ""),) if warned else ()),
            )
        )
    site = ("site",) if seen.cohort.settings.site else ()
    head = ("case", "slides", "tiles", "log hazard", "percentile", "group", f"time ({unit})", "event")
    said = "" if predicted is None else f"Log hazard, percentile and group: {predicted.source}."
    search = (
        '<p><input id="search" type="search" placeholder="Search in the cases" aria-label="Search"> '
        '<span id="shown" role="status"></span></p>'
    )
    warning = ("warning",) if warned else ()
    body = table((*head, *covariates, *site, "heatmap", *warning), rows, id="case-table")
    more = paragraph(seen.missing["risks"], "missing") if "risks" in seen.missing else ""
    return (paragraph(said, "note") if said else "") + more + search + body


def _opens(case_id: str, drawn: CaseMap | None, inside: bool) -> Cell:
    if drawn is None:
        return Cell("–")
    links = [f'<a href="#{_anchor(case_id)}">open</a>'] if inside else []
    links += _files(case_id, drawn)[: 0 if inside else 1]
    return Cell(" ".join(links) or "–")


def _files(case_id: str, drawn: CaseMap) -> list[str]:
    folder = f"../heatmaps/{case_id}"
    links = [link(f"{folder}/{slide.picture}", slide.picture) for slide in drawn.slides]
    links += [link(f"{folder}/{drawn.contact_sheet}", "tiles")] if drawn.contact_sheet else []
    links += [link(f"{folder}/{slide.geojson}", "QuPath") for slide in drawn.slides]
    return links


def _anchor(case_id: str) -> str:
    return f"heatmap-{case_id.encode().hex()}"  # whatever letters the name has


def heatmaps_section(seen: Gathered, pictures: Mapping[str, Sequence[bytes]], missing: Mapping[str, str]) -> str:
    """The heatmaps that are inside the page, and what made the extreme tiles so."""
    name = seen.cohort.name
    parts = [paragraph(missing["heatmaps"], "missing")] if "heatmaps" in missing else []
    without = len(seen.cohort.cases) - len(seen.maps)
    if without:
        parts.append(
            paragraph(
                f"{without} of {len(seen.cohort.cases)} cases have no heatmap: `wsisurv heatmap CASE --cohort {name}`, "
                f"or `wsisurv heatmap --all --cohort {name}`.",
                "missing",
            )
        )
    hidden = len(seen.maps) - len(pictures)
    if pictures:
        parts.append(
            paragraph(
                "Red tiles raised the log hazard of their case, blue ones lowered it; the contributions of all tiles "
                "add up to it. Explained is the cohort's own student, each case by members that did not see it, so the "
                "log hazard may differ from that of the cross-validation above. "
                + (f"The {len(pictures)} cases of highest and lowest risk are shown here. " if hidden else "")
                + "Full pictures lie in ../heatmaps/.",
                "note",
            )
        )
    parts += [_case(seen.maps[case_id], small) for case_id, small in pictures.items()]
    return "\n".join(parts)


def _case(drawn: CaseMap, small: Sequence[bytes]) -> str:
    case_id = drawn.case_id
    risk = "" if drawn.log_hazard is None else f"log hazard {drawn.log_hazard:+.3f}, "
    kept = "" if drawn.n_kept is None else f", {drawn.n_kept} kept by the student's filter"
    exact = "" if drawn.exact else " This student's layers look at tiles together: contributions are stand-ins."
    members = f"{drawn.members} member{'' if drawn.members == 1 else 's'}"
    members += " that did not see it in training" if drawn.out_of_fold else ""
    lines = paragraph(
        f"{risk}{drawn.n_tiles} tiles{kept}, of which {drawn.raising:.0%} raised it; by {members}.{exact}"
    )
    shown = "".join(
        picture(data, "jpeg", f"Heatmap of {slide.slide_id}", escape(slide.problem))
        for data, slide in zip(small, drawn.slides, strict=False)
    )
    files = f"<p>{' · '.join(_files(case_id, drawn))}</p>"
    extremes = "".join(
        _extreme(word, end) for word, end in (("highest", drawn.top), ("lowest", drawn.bottom)) if end is not None
    )
    return f'<h3 id="{_anchor(case_id)}">{escape(case_id)}</h3>{lines}{shown}{files}{extremes}'


def _extreme(word: str, end: Extreme) -> str:
    if not end.features:
        return ""
    rows = [
        (
            Cell(f'<span title="{escape(shift.definition)}">{escape(shift.name)}</span>'),
            number(shift.mean, ".3g"),
            number(shift.others, ".3g"),
            text(shift.unit),
            number(shift.difference, "+.1f"),
            number(shift.adds, "+.3f"),
        )
        for shift in end.features[:_FEATURES]
    ]
    head = ("feature", "these tiles", "other tiles", "unit", "difference (SD)", "adds to the log hazard")
    title = f"Features of the {end.n_tiles} tiles of {word} contribution ({end.contribution:+.3f} together)"
    return f"<details><summary>{title}</summary>{table(head, rows)}</details>"
