"""``wsisurv check``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from wsisurv.cli.console import Terminal, ending, err, note, out, progress_bar, size
from wsisurv.cli.from_settings import option, settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, SlideMapOption, SlidesArgument, WorkspaceOption
from wsisurv.cli.resolution import ResolutionOptions
from wsisurv.cohort import map_slides, match_case, read_case_ids, read_slide_map
from wsisurv.formats.atomic import write_jsonl
from wsisurv.settings.base import parse_settings
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.tiles import TileSettings

if TYPE_CHECKING:
    from wsisurv.tiling.check import CheckReport

_DEFAULTS = TileSettings()
_WIDTH = 200  # of the table in a log file


@settings_as_options()
def check(
    *,
    slides: SlidesArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write all figures to, as JSONL, one line a slide.", dir_okay=False
        ),
    ] = None,
    tile_px: Annotated[int, option(TileSettings, "tile_px")] = _DEFAULTS.tile_px,
    tile_mpp: Annotated[float, option(TileSettings, "tile_mpp")] = _DEFAULTS.tile_mpp,
    overlap_px: Annotated[int, option(TileSettings, "overlap_px")] = _DEFAULTS.overlap_px,
    encoder: Annotated[
        str, typer.Option(help="Encoder for which the features' space on disk is estimated.")
    ] = "histomics",
    resolution: ResolutionOptions,
    clinical: Annotated[
        Path | None, typer.Option(help="Clinical table; lists slides without a case and cases without a slide.")
    ] = None,
    case: Annotated[str, option(CohortSettings, "case")] = CohortSettings().case,
    slide_map: SlideMapOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Before step 1: list what each slide is, and on which `tile` would fail.

    Reads the headers of the slides, and a few places to know their levels and colours. Tries, where the workspace is or
    would be made, whether locks and O_EXCL keep two processes apart, and says which is used. Writes nothing that
    stays but the file of --output. Ends with exit code 1 where `tile` would fail on a slide.
    """
    from wsisurv.embedding.plan import count_features
    from wsisurv.pipeline.doctor import check_claims
    from wsisurv.tiling.check import check_slides

    settings = parse_settings(
        TileSettings,
        {"tile_px": tile_px, "tile_mpp": tile_mpp, "overlap_px": overlap_px, "slide_mpp": resolution.slide_mpp},
    )
    n_features = count_features(encoder)
    given = resolution.given()
    with progress_bar("check") as progress:
        report = check_slides(slides, settings, given, n_features=n_features, progress=progress)
    if clinical is not None:
        report = _with_cases(report, clinical, case, read_slide_map(slide_map) if slide_map else None)
    if output is not None:
        write_jsonl(output, (slide.as_json() for slide in report.slides), checksums=False)

    wide = out if out.is_terminal else Terminal(width=_WIDTH)
    wide.print(_table(report, with_case=clinical is not None))
    for slide in report.slides:
        for problem in slide.problems:
            err.print(f"would fail: {slide.slide_id}: {problem}", style="red")
        for line in slide.notes:
            note(f"{slide.slide_id}: {line}")
    for line in report.notes:
        note(line)
    storage = check_claims(workspace)
    note(f"storage: {storage.said}{f'; {storage.way_out}' if storage.way_out else ''}")
    space = f"tiles {size(report.total('tiles_bytes'))}"
    space += f", features of {encoder} {size(report.total('features_bytes'))}" if n_features else ""
    ending(
        f"check: {len(report.slides)} slides, {report.failing} would fail · at most {report.total('tiles_at_most')} "
        f"tiles ({space}): from the slides' size, tissue is not looked at",
        kept=not report.failing,
    )
    if report.failing:
        raise typer.Exit(1)


def _with_cases(
    report: "CheckReport", clinical: Path, column: str, slide_map: Mapping[str, str] | None
) -> "CheckReport":
    """Say whose each slide is; follow-up is not looked at: that is train-teacher's audit."""
    from wsisurv.tiling.check import check_cases

    case_ids = read_case_ids(clinical, column)
    slide_ids = {slide.slide_id for slide in report.slides}
    notes: list[str] = []
    if slide_map is None:
        case_of = {one: case_id for one in slide_ids if (case_id := match_case(one, case_ids))}
    else:
        mapped, notes = map_slides(slide_ids, slide_map, case_ids)
        case_of = {slide_id: case_id for slide_id, case_id in mapped.items() if case_id in case_ids}
    report = check_cases(report, case_of, sorted(case_ids - set(case_of.values())))
    return replace(report, notes=(*report.notes, *notes))


def _table(report: "CheckReport", *, with_case: bool) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("slide", *(["case"] if with_case else []), "format"):
        table.add_column(name, no_wrap=True)
    for name in ("size", "levels", "mpp"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True)
    for name in ("objective", "tiles ≤"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for slide in report.slides:
        table.add_row(
            slide.slide_id,
            *([slide.case_id or "–"] if with_case else []),
            slide.format or "does not open",
            "–" if slide.width is None else f"{slide.width} × {slide.height}",
            "–" if slide.levels is None else str(slide.levels),
            "–" if slide.mpp is None else f"{slide.mpp:.4g}",
            slide.mpp_source or "–",
            "–" if slide.objective is None else f"{slide.objective:g}×",
            "–" if slide.tiles_at_most is None else str(slide.tiles_at_most),
            "fails" if slide.problems else "see note" if slide.notes else "",
            style="red" if slide.problems else None,
        )
    return table
