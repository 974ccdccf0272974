"""Tiles that another tool cut, taken into the workspace as if ``tile`` had cut them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from wsisurv.engine.jobs import Job, run_jobs
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import FormatError, InputError
from wsisurv.formats.foreign import read_foreign_tiles
from wsisurv.formats.foreign_folders import find_files
from wsisurv.formats.foreign_kinds import ForeignTiles
from wsisurv.formats.foreign_tensors import notes_beside
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import FORMAT, Tiles, write_tiles
from wsisurv.settings.base import file_sha256, path_sha256
from wsisurv.slides.facts import SlideFacts, read_facts
from wsisurv.slides.find import slide_fingerprint
from wsisurv.slides.resolution import GivenMpp, find_mpp, find_resolution
from wsisurv.tiling.check import resolve_mpps
from wsisurv.units import SlideId, name_problem, shown_name
from wsisurv.workspace.ledger import Summary, make_failure, record_failure
from wsisurv.workspace.paths import Workspace

STEP = "import"
_TOLERANCE = 0.02  # other tools know magnifications; a wrong resolution is off by far more


def import_tiles(
    workspace: Workspace,
    folder: Path,
    slides: Mapping[SlideId, Path],
    *,
    tile_px: int | None = None,
    tile_mpp: float | None = None,
    overlap_px: int | None = None,
    given: GivenMpp | None = None,
    dataset: str | None = None,
    names: Mapping[Path, SlideId] = MappingProxyType({}),
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Take every file of tiles in ``folder`` into tiles/, each for its slide.

    Of these tools hs2p alone stores the share of tissue; else it is NaN. Settings are what the file says and the user
    gives, and the tool's name: how tissue was found is its matter, and no setting of ``tile`` is claimed.

    Args:
        workspace: where to.
        folder: tiles of TRIDENT, CLAM, Mussel, AtlasPatch, hs2p, LazySlide or QuPath, a file a slide; also one file, or
            the root of a job.
        slides: the slides themselves: they state resolution and size, and are read by ``embed``.
        tile_px: side of a tile in pixels, where the files don't say (QuPath).
        tile_mpp: µm per pixel that a tile is meant to have, the same for the whole cohort; within two percent of what
            its level-0 side makes it. Only files of Mussel, hs2p and LazySlide say it.
        overlap_px: pixels that neighbours share, where the files don't say (CLAM, QuPath).
        given: resolutions, where slides don't state them.
        dataset: which tiles, where a store has several.
        names: slide of each file that is named otherwise.
        redo: replace what was made otherwise.
        progress: called after each slide.

    Raises:
        NoSlidesError: no such file there.
        InputError: a slide is not given, or is that of two files, or one file lacks what only the user can say.
        StaleError: as ``run_jobs``.
        StorageError: no room.
    """
    given = given or GivenMpp()
    found, unreadable = {}, []
    for file in find_files(folder, features=False):
        try:
            tiles = read_foreign_tiles(file, dataset)
            found[file] = _named(file, replace(tiles, slide_id=names.get(file, tiles.slide_id)))
        except FormatError as error:
            unreadable.append(make_failure(file.stem, file, error, ""))
    tile_mpps = {file: _tile_mpp(file, tiles, tile_mpp) for file, tiles in found.items()}
    of_slide: dict[str, Path] = {}
    for file, tiles in found.items():
        if (first := of_slide.setdefault(tiles.slide_id, file)) != file:
            raise InputError(f"{first} and {file} are both of slide {tiles.slide_id}. Name the one that is meant.")
    if missing := sorted({tiles.slide_id for tiles in found.values()} - slides.keys()):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{folder}: no slide is given for {missing[0]!r}{more}. Tiles are places on a slide: name the slides' "
            "folder with --slides. A slide goes by its file's name without the ending; name what the other tool wrote "
            "as its slide."
        )
    mpps = resolve_mpps(slides, given)
    jobs = []
    for file, tiles in found.items():
        slide_id = SlideId(tiles.slide_id)
        settings = {
            "tool": tiles.layout,
            "tile_px": _tile_px(file, tiles, tile_px),
            "tile_mpp": tile_mpps[file],
            "overlap_px": _overlap(file, tiles, overlap_px),
            "slide_mpp": mpps.get(slide_id),
        }
        inputs = {"file": path_sha256(file), "slide": slide_fingerprint(slides[slide_id])}
        inputs |= {notes.name: file_sha256(notes) for notes in notes_beside(file)}
        header = make_header(FORMAT, settings, inputs)
        jobs.append(Job(slide_id, file, workspace.tiles(slide_id), header))

    def do(job: Job) -> str | None:
        slide_path = slides[SlideId(job.id)]
        tiles = _convert(job, found[job.source], slide_path, read_facts(slide_path), given)
        write_tiles(job.output, tiles, job.header)
        return None if len(tiles.coords) else f"{job.id}: no tile"

    with workspace.claim_settings("tile", {"imported": True, "tile_mpp": tile_mpp}):
        summary = run_jobs(workspace, STEP, jobs, do, redo=redo, progress=progress)
        for failure in unreadable:
            record_failure(workspace, STEP, failure)
    summary.failed.extend(unreadable)
    return summary


def _named(file: Path, tiles: ForeignTiles) -> ForeignTiles:
    """Tiles of which a file of ours can have the name.

    Raises:
        FormatError: the slide that the file names can't be one.
    """
    if problem := name_problem(tiles.slide_id):
        raise FormatError(f"{file}: is of slide {shown_name(tiles.slide_id)!r}, whose name {problem}")
    return tiles


def _tile_px(file: Path, tiles: ForeignTiles, given: int | None) -> int:
    unsaid = (
        "how many pixels a tile has. Give --tile-px, and with --tile-mpp the resolution that they are meant to have."
    )
    return _agreed(file, tiles, "--tile-px", tiles.tile_px, given, unsaid)


def _tile_mpp(file: Path, tiles: ForeignTiles, given: float | None) -> float:
    if tiles.tile_mpp is None and given is None:
        raise InputError(
            f"{file}: give --tile-mpp, the resolution that tiles are meant to have (e.g. 0.5 for 20×): {tiles.layout} "
            "states it as a magnification."
        )
    if tiles.tile_mpp is not None and given is not None and abs(given / tiles.tile_mpp - 1) > 1e-6:
        raise InputError(f"{file}: --tile-mpp {given:g} was given, but the file says {tiles.tile_mpp:g}.")
    return float(tiles.tile_mpp or given or 0)


def _overlap(file: Path, tiles: ForeignTiles, given: int | None) -> int:
    unsaid = "how many pixels neighbours share. Give --overlap-px (0 where its step was its patch size)."
    return _agreed(file, tiles, "--overlap-px", tiles.overlap_px, given, unsaid)


def _agreed(file: Path, tiles: ForeignTiles, option: str, said: int | None, given: int | None, unsaid: str) -> int:
    """What the file says, or else what the user says; both must not contradict each other."""
    if said is None and given is None:
        raise InputError(f"{file}: {tiles.layout} doesn't say {unsaid}")
    if said is not None and given not in (None, said):
        raise InputError(f"{file}: {option} {given} was given, but the file says {said}.")
    return said if said is not None else int(given or 0)


def _convert(job: Job, foreign: ForeignTiles, slide_path: Path, facts: SlideFacts, given: GivenMpp) -> Tiles:
    """One slide's tiles as our own; InputError where they can't be of this slide or of this resolution."""
    tile_px, tile_mpp = int(job.header.settings["tile_px"]), float(job.header.settings["tile_mpp"])
    used = given.of(job.id, facts.properties) or find_resolution(facts.properties)
    mpp = job.header.settings["slide_mpp"] or find_mpp(slide_path, facts.properties)
    if foreign.mpp is not None and abs(foreign.mpp / mpp - 1) > _TOLERANCE:
        raise InputError(
            f"{job.source}: {foreign.layout} took the slide to be of {foreign.mpp:g} µm/px, but {slide_path} is of "
            f"{mpp:g}. If that is wrong, give the right --slide-mpp."
        )
    size, seen = (facts.width, facts.height), (foreign.level0_width, foreign.level0_height)
    if None not in seen and seen != size:
        raise InputError(
            f"{job.source}: made of a slide of {seen[0]} × {seen[1]} px, but {slide_path} is {size[0]} × {size[1]}."
        )
    corner = (facts.bounds.x, facts.bounds.y) if foreign.layout == "QuPath" else (0, 0)
    coords = foreign.coords + corner
    if len(coords) and ((coords < 0) | (coords >= size)).any():
        raise InputError(f"{job.source}: a tile starts outside of {slide_path}, {size[0]} × {size[1]} px.")
    exact = foreign.tile_level0_px * mpp / tile_px
    if abs(exact / tile_mpp - 1) > _TOLERANCE:
        raise InputError(
            f"{job.source}: its tiles of {tile_px} px are {foreign.tile_level0_px:g} level-0 px, which on a "
            f"slide of {mpp:g} µm/px makes {exact:.4g} µm/px, not {tile_mpp:g}. Give that with --tile-mpp, or "
            "the right --slide-mpp."
        )
    return Tiles(
        slide_id=SlideId(job.id),
        slide_path=slide_path.absolute(),
        coords=coords,
        tissue=np.full(len(coords), np.nan, np.float32) if foreign.tissue is None else foreign.tissue,
        mpp=mpp,
        tile_mpp=tile_mpp,
        tile_px=tile_px,
        tile_level0_px=foreign.tile_level0_px,
        overlap_px=int(job.header.settings["overlap_px"]),
        level0_width=facts.width,
        level0_height=facts.height,
        mpp_source=used.source if used else "",
        bounds_x=facts.bounds.x,
        bounds_y=facts.bounds.y,
        tool=f"{foreign.layout} {foreign.version}".strip(),
        tool_settings=foreign.settings,
    )
