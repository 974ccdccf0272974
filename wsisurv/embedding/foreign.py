"""Features that another tool made, taken into the workspace as if ``embed`` had made them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from wsisurv.embedding.table import published
from wsisurv.engine.jobs import Job, run_jobs
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import EncoderMismatchError, FormatError, InputError, some
from wsisurv.formats.features import FORMAT, Features, Making, write_features
from wsisurv.formats.foreign import outline, read_foreign_features
from wsisurv.formats.foreign_folders import find_files
from wsisurv.formats.foreign_kinds import FeaturesOutline, ForeignFeatures
from wsisurv.formats.foreign_tensors import notes_beside
from wsisurv.formats.header import make_header
from wsisurv.settings.base import file_sha256, parse_settings, path_sha256
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.slides.facts import read_facts
from wsisurv.slides.find import slide_fingerprint
from wsisurv.slides.resolution import find_mpp
from wsisurv.units import SlideId, name_problem, shown_name
from wsisurv.workspace.ledger import Summary, make_failure, record_failure
from wsisurv.workspace.paths import Workspace

STEP = "import"
SLIDE_ENCODERS = ("titan", "prism", "prism2", "gigapath", "feather", "moozy", "chief", "madeleine", "threads", "care")
"""Encoders of whole slides or patients that the field publishes, as files and users call them."""
_NOT_OF_TILES = frozenset(SLIDE_ENCODERS) - {"gigapath"}  # whose tile encoder has the same name
_TOLERANCE = 0.02
"""TRIDENT rounds a tile's side to whole level-0 pixels; a wrong resolution is off by far more."""


@dataclass(frozen=True)
class Scale:
    """What the files may not say of themselves."""

    tile_px: int | None = None  # side of a tile in pixels
    tile_mpp: float | None = None  # µm per pixel of a tile
    slide_mpp: float | None = None  # µm per pixel of every slide at level 0
    unknown: bool = False  # whether a resolution that nothing says may be stored as unknown
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
    names: Mapping[Path, SlideId] = MappingProxyType({}),
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Take every file of features in ``folder`` into features/ENCODER/, coordinates in level-0 pixels.

    Rows without coordinates, and embeddings of a whole slide or patient (bags of one row), are stored without a place:
    what needs one refuses them by name.

    Args:
        workspace: where to.
        folder: features of STAMP, TRIDENT, CLAM, AtlasPatch, slide2vec or LazySlide, or tensors of torch.save, a file a
            slide (or patient), whose name is the slide_id; or a file, or the root of a job.
        encoder: name of the encoder that made them.
        scale: what the files don't say.
        dataset: which of AtlasPatch's features, or of a store's tables, where there are several; None for those of the
            encoder's name.
        dtype: in which they are stored; None for float32, or float16 where all files have that.
        slides: the slides, whose headers state the resolution where ``scale`` doesn't.
        names: slide of each file that is named otherwise.
        redo: replace what was imported from other files or with another scale.
        progress: called after each slide.

    Raises:
        NoSlidesError: no file there.
        EncoderMismatchError: files of several encoders, widths or kinds of row, or embeddings of another encoder than
            the one named; nothing is written.
        BusyError: another process makes features in the same folder otherwise now.
        StaleError: as ``run_jobs``.
        StorageError: no room.
    """
    found = find_files(folder, features=True)
    files = [file for file in found if not name_problem(file.stem)]
    outlines = {file: _outline(file, dataset, encoder) for file in files}
    _require_alike({file: one for file, one in outlines.items() if one is not None}, encoder)
    dtypes = {one.dtype if one else "" for one in outlines.values()}
    dtype = dtype or ("float16" if dtypes == {"float16"} else "float32")
    settings = parse_settings(EmbedSettings, {"encoder": encoder, "weights": "imported", "dtype": dtype})
    ids = {file: names.get(file, SlideId(file.stem)) for file in files}
    mpps = {one: (scale.by_slide or {}).get(one, scale.slide_mpp) for one in ids.values()}
    asked = {one: slides[one] for one in ids.values() if mpps[one] is None and one in slides}
    jobs = [
        Job(
            id=slide_id,
            source=file,
            output=workspace.features(settings.folder, slide_id),
            header=make_header(
                FORMAT,
                settings,
                {
                    "file": path_sha256(file),
                    "scale": f"{scale.tile_px} px at {scale.tile_mpp} µm/px of a slide at {mpps[slide_id]} µm/px",
                    **({"slide": slide_fingerprint(asked[slide_id])} if slide_id in asked else {}),
                    **({"place": "may be unknown"} if scale.unknown else {}),
                    **{path.name: file_sha256(path) for path in notes_beside(file)},
                },
            ),
        )
        for file, slide_id in ids.items()
    ]

    unplaced: list[str] = []

    def do(job: Job) -> str | None:
        foreign = read_foreign_features(job.source, dataset, encoder)
        slide_id = SlideId(job.id)
        mpp = mpps[slide_id]
        if slide_id in asked:
            mpp = find_mpp(asked[slide_id], read_facts(asked[slide_id]).properties)
        features = _convert(job, foreign, encoder, scale, mpp)
        write_features(job.output, features, job.header)
        if features.coords is None or features.mpp is None:
            unplaced.append(job.id)
        return None if len(foreign.values) else f"{job.id}: no tile"

    with workspace.claim_settings(f"embed/{settings.folder}", settings.model_dump(mode="json")):
        summary = run_jobs(workspace, STEP, jobs, do, redo=redo, progress=progress)
        for file in (file for file in found if name_problem(file.stem)):
            error = FormatError(f"{shown_name(str(file))}: its name {name_problem(file.stem)}. Rename it.")
            failure = make_failure(file.stem, file, error, "")
            record_failure(workspace, STEP, failure)
            summary.failed.append(failure)
    if unplaced and any(one is None or one.level == "tile" for one in outlines.values()):
        summary.notes.append(
            f"stored without coordinates or resolution: {some(sorted(unplaced))}. All that learns from features or "
            "predicts works; heatmap and export of these slides need a place, and refuse."
        )
    return summary


def _outline(file: Path, dataset: str | None, encoder: str) -> FeaturesOutline | None:
    try:
        return outline(file, dataset, encoder)
    except FormatError:  # which its own turn tells
        return None


def _require_alike(outlines: Mapping[Path, FeaturesOutline], encoder: str) -> None:
    """All files must be of one encoder, width and kind of row, and embeddings of the encoder that is named."""
    for file, one in outlines.items():
        first, other = next(iter(outlines.items()))
        for what, seen, wanted in (
            ("encoder", one.encoder, other.encoder),
            ("columns", one.n_features, other.n_features),
            ("a row of each", one.level, other.level),
        ):
            if seen is not None and wanted is not None and seen != wanted:
                raise EncoderMismatchError(
                    f"{first} and {file} differ in {what}: {wanted} and {seen}. A folder is imported whole; keep the "
                    "files of each encoder in a folder of their own."
                )
        said, named = (_known_encoder(name or "") for name in (one.encoder, encoder))
        if one.level != "tile" and said and named and said != named:
            raise EncoderMismatchError(
                f"{file}: an embedding by {one.encoder}, but --encoder says {encoder}. Name the encoder that made it, "
                "or the folder that is meant."
            )
        rows = [published(name or "") for name in (one.encoder, encoder)]
        if one.level == "tile" and None not in rows and len({row.hub_id for row in rows if row}) > 1:
            raise EncoderMismatchError(
                f"{file}: features of {one.encoder}, but --encoder says {encoder}. Name the encoder that made them."
            )
        if one.level == "tile" and encoder.lower() in _NOT_OF_TILES:
            by = f", by {one.encoder}" if one.encoder else ""
            raise EncoderMismatchError(
                f"{file}: holds a row a tile{by}, but {encoder} encodes whole slides. Name the encoder of the "
                "tiles, or the folder (or --dataset) of the slides' embeddings."
            )


def _known_encoder(name: str) -> str:
    """The encoder of whole slides that a name like ``titan-slide`` or ``feather_uni_v2`` begins with, or nothing."""
    first = re.split(r"[-_ .]", name.rsplit(".", 1)[-1].lower())[0]
    return first if first in SLIDE_ENCODERS else ""


def _convert(job: Job, foreign: ForeignFeatures, encoder: str, scale: Scale, mpp: float | None) -> Features:
    """One slide in our own units; InputError names what is lacking and the option that gives it."""
    if not np.isfinite(foreign.values).all():
        row, column = np.argwhere(~np.isfinite(foreign.values))[0]
        raise FormatError(f"{job.source}: features that are not finite; the first is number {column} of row {row}")
    if mpp is not None and foreign.mpp is not None and abs(foreign.mpp / mpp - 1) > _TOLERANCE:
        raise InputError(
            f"{job.source}: {foreign.layout} took the slide to be of {foreign.mpp:g} µm/px, but {mpp:g} was given."
        )
    mpp = foreign.mpp if mpp is None else mpp
    if foreign.coords is None or (mpp is None and scale.unknown):
        return _without_place(job, foreign, encoder, scale, mpp)
    if mpp is None:
        raise InputError(
            f"{job.source}: {foreign.layout} doesn't say the slide's resolution. Give the slides with "
            "--slides, --slide-mpp, or a table slide_id,mpp with --mpp-table; or, where nobody knows it, say "
            "--unknown-resolution: heatmap and export then refuse these slides."
        )
    tile_px = _agreed(job.source, "--tile-px", foreign.tile_px, scale.tile_px)
    if foreign.tile_level0_px and foreign.tile_mpp is None and scale.tile_mpp is None:
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
    level0 = foreign.coords / mpp if foreign.layout == "STAMP" else foreign.coords
    return Features(
        slide_id=SlideId(job.id),
        values=foreign.values,
        coords=np.rint(level0).astype(np.int64),
        encoder=encoder,
        names=(),
        tile_settings={"tool": foreign.layout, "tile_px": tile_px, "tile_mpp": tile_mpp},
        mpp=mpp,
        making=Making(tool=f"{foreign.layout} {foreign.version}".strip(), tool_settings=foreign.settings),
    )


def _without_place(job: Job, foreign: ForeignFeatures, encoder: str, scale: Scale, mpp: float | None) -> Features:
    """A slide of which it is not known where its tiles lie, or how large a pixel is."""
    sizes: dict[str, object] = {}
    if foreign.level == "tile":
        for name, option, said, given in (
            ("tile_px", "--tile-px", foreign.tile_px, scale.tile_px),
            ("tile_mpp", "--tile-mpp", foreign.tile_mpp, scale.tile_mpp),
        ):
            if said is not None or given is not None:
                sizes[name] = _agreed(job.source, option, said, given)
    else:
        sizes["row"] = foreign.level
    coords = None if foreign.layout == "STAMP" or foreign.coords is None else np.rint(foreign.coords).astype(np.int64)
    return Features(
        slide_id=SlideId(job.id),
        values=foreign.values,
        coords=coords,
        encoder=encoder,
        names=(),
        tile_settings={"tool": foreign.layout, **sizes},
        mpp=None if coords is None else mpp,
        making=Making(tool=f"{foreign.layout} {foreign.version}".strip(), tool_settings=foreign.settings),
    )


def _agreed(source: Path, option: str, in_file: float | None, given: float | None) -> float:
    """What the file says, or else what the user says; both must not contradict each other."""
    if in_file is None and given is None:
        raise InputError(f"{source}: the file doesn't say it; give {option}.")
    if in_file is not None and given is not None and abs(in_file / given - 1) > 1e-6:
        raise InputError(f"{source}: {option} {given:g} was given, but the file says {in_file:g}.")
    return in_file if in_file is not None else float(given or 0)
