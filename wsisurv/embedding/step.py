"""``wsisurv embed``: the tiles of every slide become features."""

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.encoder import Encoder, HistomicsEncoder
from wsisurv.embedding.histomics import VERSION
from wsisurv.embedding.table import HISTOMICS, find_spec
from wsisurv.errors import ArtifactError, InputError, SettingsError, SlideError, WeightsError
from wsisurv.formats.features import FORMAT, Features, write_features
from wsisurv.formats.header import Header, make_header
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings import EmbedSettings, file_sha256
from wsisurv.slides.reader import Slide
from wsisurv.slides.reader import read_tiles as read_pixels
from wsisurv.workspace import (
    Failure,
    Job,
    Progress,
    State,
    Summary,
    Workspace,
    check,
    make_failure,
    no_progress,
    record_failure,
    refuse_stale,
    run_jobs,
)

_MPP_TOLERANCE = 0.02
"""Relative: 0.499 µm per pixel is 0.5."""
_MAX_BATCH_BYTES = 256 << 20
"""Bound of a batch's pixels, whatever the size of a tile; two batches are in memory at most."""


def resolve_settings(
    encoder: str = HISTOMICS, weights_file: Path | None = None, random_weights: bool = False
) -> EmbedSettings:
    """Settings of an encoder, with where its weights come from and its precision filled in.

    Args:
        encoder: ``histomics``, a name of the table, or ``timm:NAME``.
        weights_file: weights from a file; its sha256 goes into the settings.
        random_weights: weights that were never trained.

    Raises:
        SettingsError: no such encoder; a file and random weights at once; weights for histomics.
        WeightsError: no such file, or timm has no weights for the architecture.
    """
    spec = find_spec(encoder)
    if encoder == HISTOMICS:
        if weights_file is not None or random_weights:
            raise SettingsError(f"{HISTOMICS} has no weights: leave out --weights and --random-weights.")
        return _with_version(EmbedSettings(encoder=encoder))
    from wsisurv.embedding.encoders import hub_id_of, timm_name  # torch and timm take seconds

    if spec is None:
        timm_name(encoder)
    if random_weights and weights_file is not None:
        raise SettingsError("--weights and --random-weights exclude each other.")
    if random_weights:
        weights = "random"
    elif weights_file is None:
        weights = f"hub:{hub_id_of(encoder)}"
    elif weights_file.is_file():
        weights = f"sha256:{file_sha256(weights_file)}"
    else:
        raise WeightsError(f"{weights_file}: no such file. --weights wants a .safetensors, .bin, .pt or .pth file.")
    return EmbedSettings(encoder=encoder, weights=weights, precision="fp32" if spec is None else spec.precision)


def _with_version(settings: EmbedSettings) -> EmbedSettings:
    """Name the version of histomics' columns.

    Raises:
        SettingsError: the settings want another version than this wsisurv has.
    """
    if settings.encoder != HISTOMICS:
        return settings
    if settings.version not in (None, VERSION):
        raise SettingsError(
            f"{HISTOMICS} version {settings.version} is wanted, and this wsisurv has version {VERSION}. "
            "Use the wsisurv that made those features, or make features and models anew."
        )
    return settings.model_copy(update={"version": VERSION})


@dataclass(frozen=True)
class _Source:
    """What is kept of a tiled slide until its turn comes; the coordinates are not."""

    slide_path: Path
    tile_px: int
    tile_mpp: float
    header: Header


def embed(
    workspace: Workspace,
    settings: EmbedSettings,
    *,
    weights_file: Path | None = None,
    slide_ids: Collection[str] | None = None,
    device: str = "auto",
    batch_size: int = 64,
    workers: int | None = None,
    allow_mismatch: bool = False,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Embed tiled slides that are not embedded yet.

    Nothing is loaded where nothing is to be done, and whatever the encoder lacks is said before the first slide.
    On a CPU the result is the same every time, and doesn't depend on ``workers``.

    Args:
        workspace: reads ``tiles/``, writes ``features/<encoder>/``.
        settings: as ``resolve_settings`` makes them.
        weights_file: the file, where the settings name one.
        slide_ids: which slides; None for all that are tiled.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; histomics always computes on the CPU.
        batch_size: tiles at once; fewer where they are very large.
        workers: threads of histomics; None for one a processor, eight at most.
        allow_mismatch: take tiles of another size or resolution than the encoder was trained on.
        redo: make features of other settings or tiles anew.
        progress: told slides done, slides in all, and slide and tiles now.

    Raises:
        InputError: nothing is tiled.
        SettingsError: no such encoder or device, or tiles that it was not trained on.
        WeightsError: weights that can't be had, or that don't fit.
        StaleError: features are there that were made otherwise, and ``redo`` is False.
        StorageError: no room to write.
    """
    settings = _with_version(settings)
    sources, unreadable = find_sources(workspace, slide_ids)
    note = check_tiles(settings, sources, allow_mismatch)
    jobs = [
        Job(
            slide_id,
            source.slide_path,
            workspace.features(settings.folder, slide_id),
            make_header(FORMAT, settings, {"tiles": source.header.fingerprint}),
        )
        for slide_id, source in sources.items()
    ]
    checks = {job.output: check(job.output, job.header) for job in jobs}
    if not redo:
        refuse_stale({path: seen.changes for path, seen in checks.items() if seen.state is State.STALE})
    if all(seen.state is State.DONE for seen in checks.values()):
        summary = run_jobs(workspace, "embed", jobs, _nothing_to_do, redo=redo, progress=progress)
        return _with_failures(summary, workspace, unreadable)

    encoder = _build(settings, weights_file, device, workers or min(8, os.cpu_count() or 1))
    within = _Within(progress)
    try:

        def do(job: Job) -> str | None:
            return _embed_slide(job, workspace, encoder, batch_size, within)

        summary = run_jobs(workspace, "embed", jobs, do, redo=redo, progress=within.slides)
    finally:
        encoder.close()
    if note:
        summary.notes.append(note)
    return _with_failures(summary, workspace, unreadable)


def _with_failures(summary: Summary, workspace: Workspace, failures: list[Failure]) -> Summary:
    for failure in failures:
        record_failure(workspace, summary.step, failure)
    summary.failed.extend(failures)
    return summary


def _build(settings: EmbedSettings, weights_file: Path | None, device: str, workers: int) -> Encoder:
    """Build the encoder; torch and timm, which take seconds to import, only where it is a network."""
    if settings.encoder == HISTOMICS:
        return HistomicsEncoder(workers)
    from wsisurv.embedding.encoders import build_encoder

    return build_encoder(settings, weights_file, device)


def _nothing_to_do(job: Job) -> str | None:
    raise SlideError(f"{job.output}: went away while this ran. Run the same command again.")


class _Within:
    """Progress of slides, with the tiles of the slide at hand in what is shown."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._total = 0
        self._what = ""

    def slides(self, done: int, total: int, what: str) -> None:
        self._done, self._total, self._what = done, total, what
        self._progress(done, total, what)

    def tiles(self, done: int, total: int) -> None:
        self._progress(self._done, self._total, f"{self._what} ({done}/{total} tiles)")


def find_sources(workspace: Workspace, slide_ids: Collection[str] | None) -> tuple[dict[str, _Source], list[Failure]]:
    """Tiled slides by slide_id, and those whose tiles can't be read."""
    wanted = workspace.tiled_slides() if slide_ids is None else sorted(set(slide_ids))
    if not wanted:
        raise InputError(f"{workspace.root / 'tiles'}: no tiled slide. Run `wsisurv tile SLIDES…` first.")
    sources, unreadable = {}, []
    for slide_id in wanted:
        path = workspace.tiles(slide_id)
        try:
            tiles, header = read_tiles(path)
        except ArtifactError as error:
            unreadable.append(make_failure(slide_id, path, error, ""))
            continue
        sources[slide_id] = _Source(tiles.slide_path, tiles.tile_px, tiles.tile_mpp, header)
    return sources, unreadable


def check_tiles(settings: EmbedSettings, sources: dict[str, _Source], allow_mismatch: bool) -> str | None:
    """Hold the tiles against what the encoder was trained on; returns a note where they differ and may."""
    spec = find_spec(settings.encoder)
    if spec is None:
        return None
    low, high = spec.mpp_range
    for slide_id, source in sources.items():
        fits_mpp = low * (1 - _MPP_TOLERANCE) <= source.tile_mpp <= high * (1 + _MPP_TOLERANCE)
        if fits_mpp and source.tile_px == spec.tile_px:
            continue
        mpp = source.tile_mpp if fits_mpp else spec.tile_mpp
        seen = (
            f"{slide_id}: its tiles are {source.tile_px} px at {source.tile_mpp:g} µm/px, and {spec.name} was "
            f"trained on {spec.tile_px} px at {low:g}{f' to {high:g}' if high > low else ''} µm/px"
        )
        if allow_mismatch:
            return f"{seen}; embedded all the same"
        raise SettingsError(
            f"{seen}. Run `wsisurv tile SLIDES… --tile-px {spec.tile_px} --tile-mpp {mpp:g}` in another --workspace "
            "(or here with --redo), or use --allow-mismatch."
        )
    return None


def _embed_slide(job: Job, workspace: Workspace, encoder: Encoder, batch_size: int, within: _Within) -> str | None:
    tiles, tiles_header = read_tiles(workspace.tiles(job.id))
    n_tiles = len(tiles.coords)
    values = np.zeros((n_tiles, encoder.n_features), np.float32)
    if n_tiles:
        if not tiles.slide_path.exists():
            raise SlideError(
                f"{tiles.slide_path}: the slide is no longer there. Run `wsisurv tile FOLDER` with its new place, then "
                "this again."
            )
        with Slide(tiles.slide_path, tiles.mpp) as slide:
            size = max(1, min(batch_size, _MAX_BATCH_BYTES // (3 * tiles.tile_px**2)))
            batches = [slice(start, min(start + size, n_tiles)) for start in range(0, n_tiles, size)]
            for rows, pixels in _read_ahead(batches, lambda rows: read_pixels(slide, tiles, rows)):
                values[rows] = encoder.encode(pixels, tiles.tile_mpp)
                within.tiles(rows.stop, n_tiles)
    features = Features(
        slide_id=tiles.slide_id,
        values=_as_float16(values, job),
        coords=tiles.coords,
        encoder=encoder.name,
        names=encoder.names,
        tile_settings=dict(tiles_header.settings),
        mpp=tiles.mpp,
    )
    write_features(job.output, features, job.header)
    return None if n_tiles else f"{job.id}: no tiles, so no features"


def _as_float16(values: NDArray[np.float32], job: Job) -> NDArray[np.float16]:
    limit = np.finfo(np.float16).max
    beyond = ~(np.abs(values) <= limit)
    if beyond.any():
        tile, feature = np.argwhere(beyond)[0]
        raise SlideError(
            f"{job.source}: feature {feature} of tile {tile} is {values[tile, feature]}, which a float16 can't hold. "
            "Are these weights right for the encoder?"
        )
    return values.astype(np.float16)


def _read_ahead(
    batches: list[slice], read: Callable[[slice], NDArray[np.uint8]]
) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Each batch with its pixels, the next one being read while this one is used: two in memory at most."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as thread:
        ahead = thread.submit(read, batches[0])
        for number, rows in enumerate(batches):
            pixels = ahead.result()
            if number + 1 < len(batches):
                ahead = thread.submit(read, batches[number + 1])
            yield rows, pixels
