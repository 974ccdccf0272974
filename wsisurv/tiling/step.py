"""Step 1: slides to tiles."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsisurv.engine.jobs import Job, run_jobs
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool, cores, finished
from wsisurv.errors import InputError, SettingsError, SlideError
from wsisurv.formats.header import Header, make_header
from wsisurv.formats.pictures import write_picture
from wsisurv.formats.tiles import FORMAT, MADE_BY, Tiles, read_tiles, write_tiles
from wsisurv.settings.base import file_sha256
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.facts import Bounds
from wsisurv.slides.find import find_slides, slide_fingerprint
from wsisurv.slides.passed_over import passed_over
from wsisurv.slides.reader import Slide
from wsisurv.slides.readers.registry import OPENSLIDE
from wsisurv.slides.resolution import GivenMpp, contradiction
from wsisurv.slides.stage import Turns, require_stage, staged
from wsisurv.tiling.grid import check_overlap, is_finer, make_grid, place_tissue
from wsisurv.tiling.masks import find_mask, read_mask
from wsisurv.tiling.measures import measure_tiles
from wsisurv.tiling.outlines import write_outlines
from wsisurv.tiling.preview import captions, draw_preview, make_thumbnail, preview_mpp
from wsisurv.tiling.tissue import Tissue, find_tissue
from wsisurv.tiling.tissue_model import open_tissue_model, tissue_model_inputs
from wsisurv.units import SlideId, name_problem, shown_name
from wsisurv.workspace.freshness import check
from wsisurv.workspace.index import read_headers
from wsisurv.workspace.ledger import Failure, Summary, make_failure, record_failure
from wsisurv.workspace.paths import Workspace

STEP = "tile"
_ROUNDING = 1e-6  # a tile full of tissue is full though its float32 share may say 0.9999999
_SAME_SIZE = 0.01  # CLAM resamples what it reads, so a percent changes nothing there


@dataclass(frozen=True)
class Options:
    """What does not change a tile, only whether and how it is made."""

    settings: TileSettings
    given: GivenMpp
    masks: Path | None
    allow_upsampling: bool
    preview: bool
    model: Path | None = None
    stage: Path | None = None  # where slides are copied to before they are read


def tile(
    workspace: Workspace,
    sources: Sequence[Path],
    settings: TileSettings | None = None,
    *,
    given: GivenMpp | None = None,
    masks: Path | None = None,
    tissue_model: Path | None = None,
    allow_upsampling: bool = False,
    preview: bool = True,
    slide_ids: Collection[str] | None = None,
    shard: Shard | None = None,
    workers: int | None = None,
    pool: Pool | None = None,
    stage: Path | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Find slides and cut each into tiles; writes a preview and a tiles file a slide.

    A slide without tissue has a tiles file of zero tiles and a note. A slide that fails is in the summary and in the
    ledger; the others are done.

    Args:
        workspace: where to.
        sources: slide files and folders.
        settings: of the tiles; None for the defaults.
        given: resolutions that the user gives; ``settings.slide_mpp`` for every slide if None.
        masks: folder of drawn tissue (``masks.find_mask``), used instead of finding it.
        tissue_model: file of a network that finds tissue (``tissue_model.TissueModel``), instead of
            ``settings.tissue``.
        allow_upsampling: enlarge slides that were scanned coarser than ``tile_mpp``; they are flagged.
        preview: draw previews, of slides too that were tiled without, and (as ``wsisurv.tile``) the contact sheet; if
            False, those of what is made anew go.
        slide_ids: which of the slides; None for all that are found.
        shard: do this part of the slides only.
        workers: threads, each on a slide of its own; None for one a processor.
        pool: machines to do it on, instead of threads here.
        stage: folder on a disk of the machine, to which each slide is copied before it is read; threads here copy one
            slide ahead each.
        redo: make stale tiles anew.
        progress: called after each slide.

    Raises:
        SettingsError: the overlap is not smaller than the tile, or the tissue model can't be used.
        InputError: ``masks`` is no folder.
        NoSlidesError, DuplicateSlideError: as ``find_slides``.
        CohortError: no row of ``given.by_slide`` names a slide that is here.
        BusyError: another process tiles with other settings here now.
        StaleError: tiles were made with other settings or from another file, and ``redo`` is not given.
        StorageError: no room or no permission.

    Returns:
        What was done, kept and failed; a slide that failed stops nothing, so look at ``failed``.

    Example:
        >>> import wsisurv
        >>> wsisurv.tile(wsisurv.Workspace(Path("workspace")), [Path("slides")]).failed  # doctest: +SKIP
    """
    settings = settings or TileSettings()
    check_overlap(settings)
    if masks is not None and not masks.is_dir():
        raise InputError(f"{masks}: no such folder of tissue masks.")
    if tissue_model is not None:
        if masks is not None:
            raise SettingsError("tissue is either drawn (--tissue-masks) or found by a network (--tissue-model).")
        open_tissue_model(tissue_model)  # what can't be used is said before the first slide
    if pool is not None:  # whose working folder is another
        workspace, sources = Workspace(workspace.root.absolute()), [path.absolute() for path in sources]
        masks, tissue_model = masks and masks.absolute(), tissue_model and tissue_model.absolute()
        stage = stage and stage.absolute()
    slides = find_slides(sources)
    require_stage(list(slides.values()), stage)
    workers = min(workers or cores(), len(slides))  # a single slide is quicker in the caller's own thread
    given, notes = (given or GivenMpp(settings.slide_mpp)).of_slides(slides)
    options = Options(settings, given, masks, allow_upsampling, preview, tissue_model, stage)
    turns = Turns(workers) if stage is not None and pool is None else None
    if slide_ids is not None:
        slides = {slide_id: path for slide_id, path in slides.items() if slide_id in slide_ids}
    if shard is not None:
        slides = dict(shard.of(list(slides.items())))
    with workspace.claim_settings(STEP, settings.model_dump(mode="json")):
        jobs, unread = plan_jobs(workspace, slides, options, workers)
        summary = run_jobs(
            workspace,
            STEP,
            jobs,
            partial(_tile_slide, workspace, options, turns),
            redo=redo,
            progress=progress,
            workers=workers if turns is None else 2 * workers,
            give_up=None if turns is None else turns.ended.set,
            pool=pool,
        )
    summary.notes.extend([*notes, *passed_over(sources)])
    for failure in unread:
        record_failure(workspace, STEP, failure)
    summary.failed.extend(unread)
    place_of = {workspace.tiles(slide_id): slide_id for slide_id in (*summary.kept, *summary.done)}
    for path, seen in read_headers(workspace, list(place_of), FORMAT, MADE_BY).items():
        now = slides[SlideId(place_of[path])]
        if seen.slide_path != str(now.absolute()):
            _follow_moved(workspace, place_of[path], now)
    return summary


def plan_jobs(
    workspace: Workspace, slides: Mapping[SlideId, Path], options: Options, workers: int
) -> tuple[list[Job], list[Failure]]:
    """A job for each slide, and a failure for each that can't be read; on ``workers`` threads."""

    def plan(slide: tuple[SlideId, Path]) -> Job | Failure:
        slide_id, path = slide
        if problem := name_problem(slide_id):
            error = SlideError(f"{shown_name(str(path))}: its name {problem}. Rename it.")
            return make_failure(slide_id, path, error, fingerprint="")
        slide_mpp = options.given.by_slide.get(slide_id, options.given.every)
        settings = options.settings.model_copy(update={"slide_mpp": slide_mpp})
        try:
            inputs = {"slide": slide_fingerprint(path)}
            if options.masks is not None:
                inputs["tissue mask"] = file_sha256(find_mask(options.masks, slide_id))
            if options.model is not None:
                inputs |= tissue_model_inputs(options.model)
        except SlideError as error:
            return make_failure(slide_id, path, error, fingerprint="")
        header = make_header(FORMAT, settings, inputs)
        return Job(slide_id, path, _lacking(workspace, slide_id, header, options), header)

    came = dict(finished(plan, slides.items(), workers))  # waits for the disk, mostly
    planned = [came[slide] for slide in slides.items()]
    jobs = [job for job in planned if isinstance(job, Job)]
    return jobs, [failure for failure in planned if isinstance(failure, Failure)]


def _lacking(workspace: Workspace, slide_id: SlideId, header: Header, options: Options) -> Path:
    """What a job has to make: the tiles, or their preview alone where they are done and were made without one."""
    tiles, preview = workspace.tiles(slide_id), workspace.preview(slide_id)
    undrawn = options.preview and not preview.exists()
    return preview if undrawn and check(tiles, header).done else tiles


def _tile_slide(workspace: Workspace, options: Options, turns: Turns | None, job: Job) -> str | None:
    """Tile one slide, or its copy."""
    with staged(job.source, options.stage, turns=turns) as place:
        return _tile_file(workspace, options, job, place)


def _tile_file(workspace: Workspace, options: Options, job: Job, place: Path) -> str | None:
    """Tile a slide's file; the preview is written first, so that finished tiles never have one of other tiles."""
    wanted = job.output == workspace.tiles(job.id)
    with Slide(
        place,
        options.given.by_slide.get(job.id, options.given.every),
        mpp_from_objective=options.given.from_objective,
    ) as slide:
        cut = _cut(slide, job, options)
        tiles = replace(cut.tiles, flags=(*cut.tiles.flags, *slide.notes))
        if wanted and options.settings.measures:
            tiles = replace(tiles, measures=measure_tiles(slide, tiles))
    outlines, preview, thumbnail = (of(job.id) for of in (workspace.outlines, workspace.preview, workspace.thumbnail))
    if options.preview:
        write_outlines(outlines, cut.tissue, cut.tissue_mpp / tiles.mpp)
        picture, said = _draw(cut)
        write_picture(preview, picture, "JPEG", quality=85)
        write_picture(thumbnail, make_thumbnail(picture), "JPEG", quality=70, comment="\n".join(said))
    else:
        for path in (outlines, preview, thumbnail):
            path.unlink(missing_ok=True)
    if wanted:
        write_tiles(job.output, tiles, job.header)
    return f"{job.id}: {'; '.join(tiles.flags)}" if tiles.flags else None


@dataclass(frozen=True)
class _Cut:
    """Tiles of a slide, and what its preview shows: ``left_out`` has the top lefts of places of too little tissue.

    Masks and view are of what was scanned, and so are the places left out; tiles are of the whole slide.
    """

    tiles: Tiles
    tissue: Tissue
    tissue_mpp: float
    view: NDArray[np.uint8]
    view_mpp: float
    left_out: NDArray[np.int64]
    scanned: Bounds


def _cut(slide: Slide, job: Job, options: Options) -> _Cut:
    settings, scanned = options.settings, slide.bounds
    try:
        grid = make_grid(scanned.width, scanned.height, slide.mpp, settings, allow_upsampling=options.allow_upsampling)
    except SlideError as error:
        raise SlideError(f"{job.source}: {error}") from error
    tissue_mpp = max(settings.tissue_mpp, slide.mpp)
    scale = tissue_mpp / slide.mpp
    shown_mpp = preview_mpp(scanned.width, scanned.height, slide.mpp)  # without a preview too: the same tiles then
    finer = max(1, int(tissue_mpp / shown_mpp))  # a whole number, so that one reading serves both
    view = slide.view(tissue_mpp / finer)
    coarse = view if finer == 1 else np.asarray(Image.fromarray(view).reduce(finer))
    if options.model is None:
        tissue = _find_tissue(coarse, tissue_mpp, scale, job, options)
    else:
        height, width = coarse.shape[:2]
        tissue = open_tissue_model(options.model).find(slide, (height, width), tissue_mpp, settings)
    places = place_tissue(tissue.mask, tissue_mpp, scale, grid)
    keep = places.shares >= settings.min_tissue - _ROUNDING
    piece = places.piece[keep]
    order = np.argsort(piece, kind="stable")  # row by row within a piece
    tiles = Tiles(
        slide_id=SlideId(job.id),
        slide_path=job.source.absolute(),
        coords=grid.coords(keep)[order] + (scanned.x, scanned.y),
        tissue=places.shares[keep][order],
        mpp=slide.mpp,
        tile_mpp=settings.tile_mpp,
        tile_px=settings.tile_px,
        tile_level0_px=grid.side,
        overlap_px=settings.overlap_px,
        level0_width=slide.width,
        level0_height=slide.height,
        piece=piece[order],
        flags=(*tissue.flags, *_flags(slide, options, keep, tissue)),
        mpp_source="the table given" if job.id in options.given.by_slide else slide.mpp_source,
        bounds_x=scanned.x,
        bounds_y=scanned.y,
        patch_level=_level_of(slide, grid.side / settings.tile_px),
    )
    left_out = grid.coords((places.shares > 0) & ~keep)
    return _Cut(tiles, tissue, tissue_mpp, view, tissue_mpp / finer, left_out, scanned)


def _level_of(slide: Slide, downsample: float) -> int | None:
    """The level of which OpenSlide gives tiles as they are, within a percent; None where the slide has none."""
    fits = (one.number for one in slide.levels if not one.filled and abs(downsample / one.downsample - 1) <= _SAME_SIZE)
    return next(fits, None) if slide.reader == OPENSLIDE else None


def _draw(cut: _Cut) -> tuple[Image.Image, list[str]]:
    """The preview, and what it says."""
    shown = replace(
        cut.tiles,
        coords=cut.tiles.coords - (cut.scanned.x, cut.scanned.y),
        level0_width=cut.scanned.width,
        level0_height=cut.scanned.height,
    )
    picture = draw_preview(cut.view, cut.view_mpp, cut.tissue, cut.tissue_mpp, shown, cut.left_out)
    return picture, captions(shown, cut.tissue, len(cut.left_out))


def _find_tissue(view: NDArray[np.uint8], mpp: float, scale: float, job: Job, options: Options) -> Tissue:
    settings = options.settings
    if options.masks is not None:
        height, width = view.shape[:2]
        mask = read_mask(find_mask(options.masks, job.id), (height, width), scale)
        return Tissue(mask, np.zeros_like(mask))
    return find_tissue(
        view,
        mpp,
        settings.tissue,
        min_piece_um2=settings.min_piece_um2,
        max_hole_um2=settings.max_hole_um2,
        keep_artefacts=settings.keep_artefacts,
    )


def _flags(slide: Slide, options: Options, keep: NDArray[np.bool_], tissue: Tissue) -> list[str]:
    flags = contradiction(slide.mpp, slide.properties)
    if options.given.from_objective and slide.mpp_source.startswith("10 /"):
        flags.append(f"resolution of {slide.mpp:g} µm/px taken from the objective, right to about 10 %")
    if is_finer(options.settings, slide.mpp):
        flags.append(f"scanned at {slide.mpp:g} µm/px, enlarged to {options.settings.tile_mpp:g}")
    if not keep.any():
        found = "tissue, but no tile with enough of it" if tissue.mask.any() else "no tissue found"
        flags.append(f"zero tiles ({found})")
    return flags


def _follow_moved(workspace: Workspace, slide_id: str, slide_path: Path) -> None:
    """Write tiles again, all else the same, when their slide lies elsewhere now."""
    path = workspace.tiles(slide_id)
    tiles, header = read_tiles(path)
    if tiles.slide_path == slide_path.absolute():
        return
    with workspace.claim(STEP, slide_id) as claimed:
        if claimed:  # if not, another run is writing the same
            write_tiles(path, replace(tiles, slide_path=slide_path.absolute()), header)
