"""``wsisurv predict``."""

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report, warn
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, DeviceOption, RedoOption, WorkspaceOption
from wsisurv.cli.resolution import MppFromObjectiveOption, MppTableOption, SlideMppOption, read_mpp_table
from wsisurv.cohort import read_cohort, read_slide_map
from wsisurv.errors import EncoderMismatchError, InputError, SettingsError
from wsisurv.formats.risks import write_notes, write_risks, write_risks_jsonl
from wsisurv.settings.base import fingerprint, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.ledger import Summary, forget_failures, record_failure
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.formats.cards import StudentCard
    from wsisurv.slides.resolution import GivenMpp

_SHOWN = 5


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
    horizons: Annotated[
        str, typer.Option(help="Years to which survival is given, with commas between them.")
    ] = "1,3,5",
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Write the same rows as JSONL beside the table.")] = False,
    slide_map: Annotated[
        Path | None, typer.Option(help="Table slide_id,case_id. Without it each slide is a case of its own.")
    ] = None,
    slide_mpp: SlideMppOption = None,
    mpp_table: MppTableOption = None,
    mpp_from_objective: MppFromObjectiveOption = False,
    allow_upsampling: Annotated[
        bool,
        typer.Option(
            "--allow-upsampling", help="Enlarge slides scanned coarser than the student's tiles; rows say so."
        ),
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(help="The encoder's weights, where the student was trained on features of a file.")
    ] = None,
    device: DeviceOption = "auto",
    redo: RedoOption = False,
) -> None:
    """Step 6: the risk of each case, from slides alone.

    Reads the student and features/ENCODER/. Slides named here are tiled and embedded first, with the settings that the
    student was trained on, into predict/ of the workspace, where they are kept. Writes a table, a row a case: the log
    hazard (higher is worse), its percentile and group among the training cases, survival, the spread of the members,
    how familiar the case is, and a warning where it may be wrong; and a .json beside it with what made the table.
    """
    from wsisurv.pages.contact_sheet import update_contact_sheet
    from wsisurv.prediction.card import read_scale
    from wsisurv.prediction.notes import make_notes
    from wsisurv.prediction.step import find_bags, group_slides, look_at_slides, predict_cases, training_folds
    from wsisurv.slides.resolution import GivenMpp

    place = Workspace(workspace)
    name = None if student and not cohort else place.the_cohort(cohort)
    model = student or place.cohort(str(name)) / "student.h5"
    years = years_of(horizons)
    table = output or (place.cohort(name) / "risk.csv" if name is not None and not slides else Path("risk.csv"))
    if table.suffix in {".json", ".jsonl"}:
        raise SettingsError(f"-o {table}: the table is CSV; {table.with_suffix('.json').name} is written beside it")
    card = read_scale(model).card
    of_slide = read_slide_map(slide_map) if slide_map else None
    made: list[Summary] = []
    folds: dict[str, int] = {}
    looks: dict[str, tuple[str, ...]] = {}
    if slides:
        given = GivenMpp(slide_mpp, read_mpp_table(mpp_table), mpp_from_objective)
        place, slide_ids, made = prepare(place, slides, card, given, allow_upsampling, weights, device, redo)
        update_contact_sheet(place)
        of_case = group_slides(slide_ids, slide_map=of_slide)
        with progress_bar("look at the stain") as progress:
            looks = look_at_slides(place, slide_ids, progress=progress)
    elif name is None:
        of_case = group_slides(place.embedded_slides(card.encoder), slide_map=of_slide)
    else:
        saved, _ = read_cohort(place.cohort(name))
        of_case = {str(case.case_id): case.slide_ids for case in saved.cases}
        folds = training_folds(model, place.cohort(name) / "guidance.h5")
    if not of_case:
        raise InputError(f"{place.root}: no features of encoder {card.encoder!r}. Name slides, or run `wsisurv embed`.")
    with progress_bar("predict") as progress:
        prediction = predict_cases(
            model,
            find_bags(place, card.encoder, of_case),
            fold_of=folds,
            horizons=years,
            looks=looks,
            tiles=place,
            device=torch_device(device),
            progress=progress,
        )
    for failure in prediction.failed:
        record_failure(place, "predict", failure)
    forget_failures(place, "predict", [risk.case_id for risk in prediction.risks])
    write_risks(table, prediction.risks, horizons=years)
    if jsonl:
        write_risks_jsonl(table.with_suffix(".jsonl"), prediction.risks, horizons=years)
    command = shlex.join(["wsisurv", *sys.argv[1:]])
    notes = make_notes(model, prediction, horizons=years, training_cases=folds, command=command)
    beside = write_notes(table, notes)
    for horizon in notes["horizons"]:
        if horizon["reason"]:
            warn(f"{horizon['column']}: {horizon['reason']}")
    odd = [risk for risk in prediction.risks if risk.warning]
    for risk in odd[:_SHOWN]:
        warn(f"{risk.case_id}: {risk.warning}")
    if len(odd) > _SHOWN:
        warn(f"and {len(odd) - _SHOWN} more cases, in the column warning")
    groups = Counter(risk.risk_group for risk in prediction.risks)
    summary = Summary("predict", [risk.case_id for risk in prediction.risks], failed=list(prediction.failed))
    counts = ", ".join(f"{count} {group}" for group, count in sorted(groups.items()))
    report(summary, f"{counts} · risks in {table}, what made them in {beside}")
    finish(*made, summary)


def years_of(text: str) -> tuple[float, ...]:
    """Horizons as typed.

    Raises:
        SettingsError: one is no positive number, or comes twice.
    """
    try:
        years = tuple(sorted(float(part) for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise SettingsError(f"--horizons {text}: years with commas between them are needed, such as 1,3,5") from error
    names = [f"{value:g}" for value in years]
    if any(not 0 < value < float("inf") for value in years) or len(set(names)) < len(names):
        raise SettingsError(f"--horizons {text}: different numbers of years above 0 are needed")
    return years


def torch_device(device: str) -> str:
    """Where the student computes: on CUDA if asked or there; elsewhere its work is too small to be worth the way."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device if device.startswith("cuda") else "cpu"


def prepare(
    place: Workspace,
    slides: list[Path],
    card: "StudentCard",
    given: "GivenMpp",
    allow_upsampling: bool,
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
    tiles = parse_settings(TileSettings, dict(card.tile_settings))
    encoding = parse_settings(EmbedSettings, card.embed_settings)
    cache = Workspace(place.root / "predict" / fingerprint(encoding, {"tiles": fingerprint(tiles, {})})[:12])
    with progress_bar("tile") as progress:
        tiled = tile(cache, slides, tiles, given=given, allow_upsampling=allow_upsampling, redo=redo, progress=progress)
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
