"""Features that another tool made, taken into the workspace as if ``embed`` had made them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from wsisurv.engine.jobs import Job, run_jobs
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import FormatError, InputError
from wsisurv.formats.features import FORMAT, Features, Making, write_features
from wsisurv.formats.foreign import ForeignFeatures, read_foreign_features, stored_type
from wsisurv.formats.foreign_folders import find_files
from wsisurv.formats.header import make_header
from wsisurv.settings.base import file_sha256, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.slides.facts import read_facts
from wsisurv.slides.find import slide_fingerprint
from wsisurv.slides.resolution import find_mpp
from wsisurv.units import SlideId, name_problem, shown_name
from wsisurv.workspace.ledger import Summary, make_failure, record_failure
from wsisurv.workspace.paths import Workspace

STEP = "import"
_TOLERANCE = 0.02
"""TRIDENT rounds a tile's side to whole level-0 pixels; a wrong resolution is off by far more."""


@dataclass(frozen=True)
class Scale:
    """What the files may not say of themselves."""

    tile_px: int | None = None  # side of a tile in pixels
    tile_mpp: float | None = None  # µm per pixel of a tile
    slide_mpp: float | None = None  # µm per pixel of every slide at level 0
    by_slide: Mapping[str, float] | None = None  # the same by slide_id, where slides differ; goes before ``slide_mpp``


def import_features(
    workspace: Workspace,
    folder: Path,
    encoder: str,
    scale: Scale,
    *,
    dataset: str | None = None,
    dtype: Literal["float16", "float32"] | None = None,
    slides: Mapping[SlideId, Path] = MappingProxyType({}),
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Take every ``*.h5`` of ``folder`` into features/ENCODER/, coordinates in level-0 pixels.

    Args:
        workspace: where to.
        folder: features of STAMP, TRIDENT, CLAM or AtlasPatch, a file a slide, whose name is the slide_id; or a file,
            or the root of a job.
        encoder: name of the encoder that made them.
        scale: what the files don't say.
        dataset: which of AtlasPatch's features, where a file holds several.
        dtype: in which they are stored; None for float32, or float16 where all files have that.
        slides: the slides, whose headers state the resolution where ``scale`` doesn't.
        redo: replace what was imported from other files or with another scale.
        progress: called after each slide.

    Raises:
        NoSlidesError: no ``*.h5`` there.
        BusyError: another process makes features in the same folder otherwise now.
        StaleError: as ``run_jobs``.
        StorageError: no room.
    """
    found = find_files(folder, features=True)
    files = [file for file in found if not name_problem(file.stem)]
    dtype = dtype or ("float16" if {_type(file) for file in files} == {"float16"} else "float32")
    settings = parse_settings(EmbedSettings, {"encoder": encoder, "weights": "imported", "dtype": dtype})
    mpps = {file.stem: (scale.by_slide or {}).get(file.stem, scale.slide_mpp) for file in files}
    asked = {file.stem: slides[SlideId(file.stem)] for file in files if mpps[file.stem] is None and file.stem in slides}
    jobs = [
        Job(
            id=file.stem,
            source=file,
            output=workspace.features(settings.folder, file.stem),
            header=make_header(
                FORMAT,
                settings,
                {
                    "file": file_sha256(file),
                    "scale": f"{scale.tile_px} px at {scale.tile_mpp} µm/px of a slide at {mpps[file.stem]} µm/px",
                    **({"slide": slide_fingerprint(asked[file.stem])} if file.stem in asked else {}),
                },
            ),
        )
        for file in files
    ]

    def do(job: Job) -> str | None:
        foreign = read_foreign_features(job.source, dataset)
        mpp = mpps[job.id]
        if job.id in asked:
            mpp = find_mpp(asked[job.id], read_facts(asked[job.id]).properties)
        write_features(job.output, _convert(job, foreign, encoder, scale, mpp), job.header)
        return None if len(foreign.values) else f"{job.id}: no tile"

    with workspace.claim_settings(f"embed/{settings.folder}", settings.model_dump(mode="json")):
        summary = run_jobs(workspace, STEP, jobs, do, redo=redo, progress=progress)
        for file in (file for file in found if name_problem(file.stem)):
            error = FormatError(f"{shown_name(str(file))}: its name {name_problem(file.stem)}. Rename it.")
            failure = make_failure(file.stem, file, error, "")
            record_failure(workspace, STEP, failure)
            summary.failed.append(failure)
    return summary


def _type(file: Path) -> str:
    try:
        return stored_type(file)
    except FormatError:  # which its own turn tells
        return ""


def _convert(job: Job, foreign: ForeignFeatures, encoder: str, scale: Scale, mpp: float | None) -> Features:
    """One slide in our own units; InputError names what is lacking and the option that gives it."""
    if mpp is None:
        raise InputError(
            f"{job.source}: {foreign.layout} doesn't say the slide's resolution. Give the slides with "
            "--slides, --slide-mpp, or a table slide_id,mpp with --mpp-table."
        )
    tile_px = _agreed(job.source, "--tile-px", foreign.tile_px, scale.tile_px)
    if foreign.tile_level0_px and scale.tile_mpp is None:
        exact = foreign.tile_level0_px * mpp / tile_px
        raise InputError(
            f"{job.source}: {foreign.layout} gives tiles by magnification. Here they are of {exact:.4g} µm per pixel; "
            "say with --tile-mpp which resolution was meant, the same for the whole cohort (e.g. 0.5 for 20×)."
        )
    tile_mpp = _agreed(job.source, "--tile-mpp", foreign.tile_mpp, scale.tile_mpp)
    if foreign.tile_level0_px is not None and abs(foreign.tile_level0_px * mpp / (tile_px * tile_mpp) - 1) > _TOLERANCE:
        raise InputError(
            f"{job.source}: its tiles are {foreign.tile_level0_px:g} level-0 px, which at {mpp:g} µm/px are "
            f"{foreign.tile_level0_px * mpp:g} µm, but {tile_px} px at {tile_mpp:g} µm/px "
            f"are {tile_px * tile_mpp:g} µm. One of --slide-mpp, --tile-px and --tile-mpp is wrong."
        )
    if not np.isfinite(foreign.values).all():
        raise FormatError(f"{job.source}: features that are not finite")
    level0 = foreign.coords / mpp if foreign.layout == "STAMP" else foreign.coords
    return Features(
        slide_id=SlideId(job.id),
        values=foreign.values,
        coords=np.rint(level0).astype(np.int64),
        encoder=encoder,
        names=(),
        tile_settings={"tool": foreign.layout, "tile_px": tile_px, "tile_mpp": tile_mpp},
        mpp=mpp,
        making=Making(tool=f"{foreign.layout} {foreign.version}".strip()),
    )


def _agreed(source: Path, option: str, in_file: float | None, given: float | None) -> float:
    """What the file says, or else what the user says; both must not contradict each other."""
    if in_file is None and given is None:
        raise InputError(f"{source}: the file doesn't say it; give {option}.")
    if in_file is not None and given is not None and abs(in_file / given - 1) > 1e-6:
        raise InputError(f"{source}: {option} {given:g} was given, but the file says {in_file:g}.")
    return in_file if in_file is not None else float(given or 0)
