"""``wsisurv predict``."""

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report, warn
from wsisurv.cli.engine_options import NamedSlidesOptions
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    CohortOption,
    DeviceOption,
    ForceUnfamiliarOption,
    PoolWeightsOption,
    RedoOption,
    SameTissueModelOption,
    ShardOption,
    StudentOption,
    WeightsOption,
    WorkspaceOption,
)
from wsisurv.cli.resolution import ResolutionOptions
from wsisurv.engine.shards import parse_shard
from wsisurv.errors import SettingsError
from wsisurv.workspace.ledger import Summary
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.pipeline.predict import PredictResult

_SHOWN = 5


@settings_as_options()
def predict(
    *,
    slides: Annotated[
        list[Path] | None,
        typer.Argument(
            help="New slides, files or folders. Without any: the cohort's own cases, each scored by the members that "
            "were not trained on it; with --student and no --cohort, every slide with features in the workspace."
        ),
    ] = None,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    student: StudentOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Risk table to write.", show_default="cohorts/NAME/risk.csv, or ./risk.csv"
        ),
    ] = None,
    horizons: Annotated[
        str, typer.Option(help="Years for which survival is predicted, with commas between them.")
    ] = "1,3,5",
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Write the same rows as JSONL beside the table.")] = False,
    slide_map: Annotated[
        Path | None,
        typer.Option(
            help="CSV with columns slide_id,case_id. Without it, each slide is a case of its own, whatever its name."
        ),
    ] = None,
    resolution: ResolutionOptions,
    allow_upsampling: Annotated[
        bool,
        typer.Option(
            "--allow-upsampling", help="Enlarge slides scanned coarser than the student's tiles; their rows say so."
        ),
    ] = False,
    force_unfamiliar: ForceUnfamiliarOption = False,
    weights: WeightsOption = None,
    pool_weights: PoolWeightsOption = None,
    tissue_model: SameTissueModelOption = None,
    device: DeviceOption = "auto",
    where: NamedSlidesOptions,
    shard: ShardOption = None,
    redo: RedoOption = False,
) -> None:
    """Step 6: predict the risk of each case, from slides alone.

    Reads the student and features/ENCODER/. Slides named here are tiled and embedded first, and pooled where the
    student's were, with the settings that it was trained on, into predict/ of the workspace, where they are kept.
    Writes a table, one row a case: log hazard (higher is worse), percentile and risk group among the training cases,
    predicted survival, lowest and highest of the ensemble's members, how similar the case is to the training cases, and
    a warning where the prediction may be wrong; and a .json beside it that says what made the table. A case that the
    student does not know, being unlike the training cases or not H&E, is of group unfamiliar and has no survival. Where
    `findings` left heads beside the student, findings.csv says how likely each finding is.
    """
    from wsisurv.pipeline.predict import predict as run

    where.require(slides)
    place = Workspace(workspace)
    # the cohort's own cases are predicted for each of its endpoints; new slides, or one table, by one student
    names = [cohort] if slides or student or output else place.the_cohorts(cohort, having="student.h5")
    summaries: list[Summary] = []
    for name in names:
        with where.pool(workspace) as pool, progress_bar("predict") as progress:
            result = run(
                place,
                slides or (),
                student=student,
                cohort=name,
                output=output,
                jsonl=jsonl,
                horizons=years_of(horizons),
                slide_map=slide_map,
                given=resolution.given(),
                allow_upsampling=allow_upsampling,
                force_unfamiliar=force_unfamiliar,
                weights_file=weights,
                pool_weights=pool_weights,
                tissue_model=tissue_model,
                device=device,
                pool=pool,
                stage=where.stage,
                shard=parse_shard(shard),
                redo=redo,
                command=shlex.join(["wsisurv", *sys.argv[1:]]),
                progress=progress,
            )
        for made in result.summaries:
            report(made, f"in {workspace / 'predict'}")
        warn(*result.warnings)
        summaries += [*result.summaries, _print(result)]
    finish(*summaries)


def _print(result: "PredictResult") -> Summary:
    """Warnings of single cases, and how many cases there are in each risk group."""
    risks = result.prediction.risks
    odd = [risk for risk in risks if risk.warning]
    for risk in odd[:_SHOWN]:
        warn(f"{risk.case_id}: {risk.warning}")
    if len(odd) > _SHOWN:
        warn(f"and {len(odd) - _SHOWN} more cases, in the column warning")
    groups = Counter(risk.risk_group for risk in risks)
    summary = Summary("predict", [risk.case_id for risk in risks], failed=list(result.prediction.failed))
    if result.shares_left:
        left = f"{result.shares_left} shares have not ended: the one that ends last writes {result.table}"
        report(summary, f"risks of this share are kept; {left}")
        return summary
    counts = ", ".join(f"{count} {group}" for group, count in sorted(groups.items()))
    also = f", findings in {result.findings}" if result.findings else ""
    report(summary, f"{counts} · risks in {result.table}, what made them in {result.notes}{also}")
    return summary


def years_of(text: str) -> tuple[float, ...]:
    """Horizons as typed.

    Raises:
        SettingsError: one is no number.
    """
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"--horizons {text}: years with commas between them are needed, such as 1,3,5") from error
