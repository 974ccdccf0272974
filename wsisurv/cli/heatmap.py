"""``wsisurv heatmap``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import ending, finish, out, progress_bar, report
from wsisurv.cli.engine_options import EngineOptions, StageOption
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    CohortOption,
    MovedSlidesOption,
    RedoOption,
    ShardOption,
    StudentOption,
    WorkspaceOption,
)
from wsisurv.engine.shards import parse_shard
from wsisurv.workspace.paths import Workspace


@settings_as_options()
def heatmap(
    *,
    cases: Annotated[list[str] | None, typer.Argument(help="Ids of cases, or of slides that are of no case.")] = None,
    all_cases: Annotated[bool, typer.Option("--all", help="Draw all cases of the cohort.")] = False,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    student: StudentOption = None,
    slides: MovedSlidesOption = None,
    slide_map: Annotated[
        Path | None, typer.Option(help="CSV with columns slide_id,case_id, for cases that are not of the cohort.")
    ] = None,
    tiles: Annotated[
        int, typer.Option(min=1, max=60, help="Number of highest, and of lowest, tiles in tiles.jpg.")
    ] = 12,
    finding: Annotated[
        str | None, typer.Option(help="Draw which tiles speak for this finding instead, by the heads of `findings`.")
    ] = None,
    stage: StageOption = None,
    where: EngineOptions,
    shard: ShardOption = None,
    redo: RedoOption = False,
) -> None:
    """Draw which tiles raised and which lowered the risk of a case.

    Reads the student, features/ENCODER/ and the slides. Writes into cohorts/NAME/heatmaps/CASE/ (predict/heatmaps/CASE/
    for slides that were given to predict) a picture and a GeoJSON for QuPath of each slide, the highest and lowest
    tiles as tiles.jpg, and heatmap.json. A case of the training cohort is explained by the members that were not
    trained on it. With --finding NAME, the same of a finding goes into CASE/NAME/, with the words of the case's report.
    """
    from wsisurv.pipeline.heatmap import heatmap as run

    with where.pool(workspace) as pool, progress_bar("heatmap") as progress:
        made = run(
            Workspace(workspace),
            cases or (),
            all_cases=all_cases,
            cohort=cohort,
            student=student,
            slides=slides or (),
            slide_map=slide_map,
            tiles=tiles,
            finding=finding,
            pool=pool,
            stage=stage,
            shard=parse_shard(shard),
            redo=redo,
            progress=progress,
        )
    if not made:
        ending("heatmap: no case is of this share")
    for folder, summary in made.items():
        report(summary, f"pictures in {folder}")
    if all_cases:
        out.print("`wsisurv report` puts them on a page")
    finish(*made.values())
