"""What ``tile`` would do: headers are read, pixels are not, and nothing is written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.find import find_slides
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.check import check_slides
from wsisurv.tiling.step import Options, plan_jobs
from wsisurv.workspace.freshness import Planned, check
from wsisurv.workspace.paths import Workspace

_READERS = 8


def plan_tile(
    workspace: Workspace,
    sources: Sequence[Path],
    settings: TileSettings,
    *,
    given: GivenMpp | None = None,
    masks: Path | None = None,
    tissue_model: Path | None = None,
    allow_upsampling: bool = False,
    shard: Shard | None = None,
    progress: Progress = no_progress,
) -> list[Planned]:
    """Every slide, with what is there already, how many tiles at most, and why it would fail.

    Args and errors as ``tile``'s.
    """
    slides = find_slides(sources)
    given, _ = (given or GivenMpp(settings.slide_mpp)).of_slides(slides)
    options = Options(settings, given, masks, allow_upsampling, preview=False, model=tissue_model)
    if shard is not None:
        slides = dict(shard.of(list(slides.items())))
    options = replace(
        options, given=replace(given, by_slide={one: mpp for one, mpp in given.by_slide.items() if one in slides})
    )
    if not slides:
        return []
    jobs, unread = plan_jobs(workspace, slides, options, _READERS)
    report = check_slides(
        list(slides.values()), settings, options.given, allow_upsampling=allow_upsampling, progress=progress
    )
    seen = {job.id: check(job.output, job.header) for job in jobs}
    failures = {failure.id: failure.message for failure in unread}
    return [
        Planned(
            slide.slide_id,
            Path(slide.path),
            seen[slide.slide_id].condition if slide.slide_id in seen else None,
            seen[slide.slide_id].changes if slide.slide_id in seen else (),
            slide.tiles_at_most,
            slide.tiles_bytes,
            failures.get(slide.slide_id) or " ".join(slide.problems),
        )
        for slide in report.slides
    ]
