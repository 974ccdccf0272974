"""``wsisurv predict``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, DeviceOption, RedoOption, WorkspaceOption
from wsisurv.cohort import read_cohort, read_slide_map
from wsisurv.errors import EncoderMismatchError, InputError
from wsisurv.formats.risks import write_risks
from wsisurv.settings import EmbedSettings, TileSettings, fingerprint, parse_settings
from wsisurv.workspace import Summary, Workspace, forget_failures, record_failure

if TYPE_CHECKING:
    from wsisurv.prediction.step import StudentCard


def predict(
    slides: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Slides straight from the scanner. Without any: the cohort's own cases, each by students that did not "
            "see it; with --student alone, every slide with features in the workspace."
        ),
    ] = None,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    student: Annotated[
        Path | None, typer.Option(help="The student's file.", show_default="cohorts/NAME/student.h5", dir_okay=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The risk table.", show_default="cohorts/NAME/risk.csv, or ./risk.csv"),
    ] = None,
    slide_map: Annotated[
        Path | None, typer.Option(help="Table slide_id,case_id. Without it each slide is a case of its own.")
    ] = None,
    slide_mpp: Annotated[
        float | None, typer.Option(help="Resolution at level 0, µm per pixel, where the slides don't say or are wrong.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The encoder's weights, where the student was trained on features of a file.")
    ] = None,
    device: DeviceOption = "auto",
    redo: RedoOption = False,
) -> None:
    """Step 6: the risk of each case, from slides alone.

    Reads the student and features/ENCODER/. Slides named here are tiled and embedded first, with the settings that the
    student was trained on, into predict/ of the workspace, where they are kept. Writes a table with case_id, slides,
    n_tiles, risk (log hazard; higher is worse), risk_percentile and risk_group (both against the training cases).
    """
    from wsisurv.prediction.step import find_bags, group_slides, predict_cases, read_card, training_folds

    place = Workspace(workspace)
    name = None if student and not cohort else place.the_cohort(cohort)
    model = student or place.cohort(str(name)) / "student.h5"
    card = read_card(model)
    of_slide = read_slide_map(slide_map) if slide_map else None
    made: list[Summary] = []
    folds: dict[str, int] = {}
    table = output or Path("risk.csv")
    if slides:
        place, slide_ids, made = _prepare(place, slides, card, slide_mpp, weights, device, redo)
        of_case = group_slides(slide_ids, slide_map=of_slide)
    elif name is None:
        of_case = group_slides(place.embedded_slides(card.encoder), slide_map=of_slide)
    else:
        saved, _ = read_cohort(place.cohort(name))
        of_case = {str(case.case_id): case.slide_ids for case in saved.cases}
        folds = training_folds(model, place.cohort(name) / "guidance.h5")
        table = output or place.cohort(name) / "risk.csv"
    if not of_case:
        raise InputError(f"{place.root}: no features of encoder {card.encoder!r}. Name slides, or run `wsisurv embed`.")
    with progress_bar("predict") as progress:
        prediction = predict_cases(model, find_bags(place, card.encoder, of_case), fold_of=folds, progress=progress)
    for failure in prediction.failed:
        record_failure(place, "predict", failure)
    forget_failures(place, "predict", [risk.case_id for risk in prediction.risks])
    write_risks(table, prediction.risks)
    groups = Counter(risk.risk_group for risk in prediction.risks)
    summary = Summary("predict", [risk.case_id for risk in prediction.risks], failed=list(prediction.failed))
    report(summary, f"{', '.join(f'{count} {group}' for group, count in sorted(groups.items()))} · risks in {table}")
    finish(*made, summary)


def _prepare(
    place: Workspace,
    slides: list[Path],
    card: "StudentCard",
    slide_mpp: float | None,
    weights: Path | None,
    device: str,
    redo: bool,
) -> tuple[Workspace, list[str], list[Summary]]:
    """Tile and embed slides as the student's were, in a workspace of their own; gives all ids, failed ones too."""
    from wsisurv.embedding.step import embed
    from wsisurv.tiling.step import tile

    if card.embed_settings.get("weights") == "imported":
        raise EncoderMismatchError(
            "the student was trained on features that another tool made, so wsisurv can't make them from slides. Make "
            "them with that tool, take them in with `wsisurv import`, and predict with --student and without slides."
        )
    tiles = parse_settings(TileSettings, {**card.tile_settings, "slide_mpp": slide_mpp})
    encoding = parse_settings(EmbedSettings, card.embed_settings)
    cache = Workspace(place.root / "predict" / fingerprint(encoding, {"tiles": fingerprint(tiles, {})})[:12])
    with progress_bar("tile") as progress:
        tiled = tile(cache, slides, tiles, redo=redo, progress=progress)
    report(tiled, f"tiles in {cache.root / 'tiles'}")
    there = [*tiled.done, *tiled.kept]
    made = [tiled]
    if there:
        with progress_bar("embed") as progress:
            embedded = embed(
                cache, encoding, weights_file=weights, slide_ids=there, device=device, redo=redo, progress=progress
            )
        report(embedded, f"features in {cache.root / 'features'}")
        made.append(embedded)
    return cache, [*there, *(failure.id for failure in tiled.failed), *tiled.elsewhere], made
