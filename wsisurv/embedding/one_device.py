"""What is to be embedded and how, and the doing of it on one device."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np

from wsisurv.embedding.encoder import Encoder, HistomicsEncoder
from wsisurv.embedding.read_ahead import Decoder, SlideInProgress
from wsisurv.embedding.stain_shifts import ShiftedTiles, measure_spread, stain_shifts
from wsisurv.embedding.staining import Staining, sample_tiles, sampled_rows
from wsisurv.embedding.stream import Stream
from wsisurv.embedding.table import HISTOMICS
from wsisurv.engine.jobs import Job
from wsisurv.errors import SlideError, WsisurvError
from wsisurv.formats.features import Features, Making, write_features
from wsisurv.formats.header import Header
from wsisurv.formats.tiles import TISSUE_MODEL_INPUTS, Tiles, read_tiles
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.slides.find import require_tiled
from wsisurv.workspace.paths import Workspace

STEP = "embed"
_LIBRARIES = ("wsisurv", "numpy", "scipy", "openslide-python", "openslide-bin", "imagecodecs", "simplejpeg")
_NETWORK_LIBRARIES = ("torch", "timm")
_SHIFTED_TILES = 16


@dataclass(frozen=True)
class Task:
    """What is to be embedded and how; the same for every process that takes part."""

    workspace: Workspace  # reads ``tiles/``, writes ``features/<encoder>/``
    settings: EmbedSettings  # what decides the features
    jobs: tuple[Job, ...]  # the slides
    weights_file: Path | None = None  # the file of weights, where the settings name one
    # slide_id → how its tiles differ from what the encoder was trained on, where that is allowed
    mismatches: Mapping[str, str] = field(default_factory=dict)
    batch_size: int | None = None  # tiles at once; None to find it
    workers: int = 1  # threads that read slides, or compute histomics
    decoder: Decoder = "auto"  # what reads pixels
    cpu_bf16: bool = False  # bf16 on a processor that is faster in it
    compiled: bool = False  # compile the network
    stage: Path | None = None  # where slides are copied to before they are read


class Run(Protocol):
    """Where slides are claimed and noted: a ``JobRun``, or of one slide that is claimed elsewhere."""

    def claim(self, job: Job) -> bool:
        """Claim a slide; False where there is nothing to do."""

    def finish(self, job: Job, note: str | None = None) -> None:
        """Note that its features are written."""

    def fail(self, job: Job, error: Exception) -> None:
        """Note that it failed."""


def do(
    task: Task,
    run: Run,
    turns: Iterable[Job],
    device: str,
    report: Callable[[str], None],
    *,
    encoder: Encoder | None = None,
) -> list[str]:
    """Embed slides on one device.

    Args:
        task: what and how.
        run: where slides are claimed and noted.
        turns: the slides that fall to this device, as their turn comes.
        device: where a network computes.
        report: called after each batch with the slide and its tiles so far; may raise to stop the run.
        encoder: as ``build`` makes it, to be kept; None to build one, and close it.

    Returns:
        What a person should know of the run.

    Raises:
        SettingsError: no such device.
        WeightsError: weights that can't be had, or that don't fit.
        DeviceError: the device has no room for a single tile.
        StorageError: no room to write.
    """
    kept = encoder is not None
    encoder = encoder or build(task, device)
    histomics = task.settings.encoder == HISTOMICS
    staining = None if task.settings.stain is None else Staining(task.settings.stain)
    work = _Work(task, run, encoder, staining)
    try:
        stream = Stream(
            encoder,
            work,
            readers=max(1, task.workers // 4) if histomics else task.workers,
            batch_size=task.batch_size,
            dtype=task.settings.dtype,
            decoder=task.decoder,
            prepare=staining,
            stage=task.stage,
            report=report,
        )
        stream.run(turns)
    finally:
        if not kept:
            encoder.close()
    return [*stream.notes, *work.notes, *work.robustness()]


def build(task: Task, device: str) -> Encoder:
    """Build the encoder; torch and timm, which take seconds to import, only where it is a network."""
    if task.settings.encoder == HISTOMICS:
        return HistomicsEncoder(task.workers)
    from wsisurv.embedding.encoders import build_encoder

    return build_encoder(task.settings, task.weights_file, device, cpu_bf16=task.cpu_bf16, compiled=task.compiled)


def find_versions(encoder: str) -> dict[str, str]:
    """Versions of the libraries that decide the features of an encoder, as far as they are installed as packages."""
    versions = {}
    for name in _LIBRARIES if encoder == HISTOMICS else (*_LIBRARIES, *_NETWORK_LIBRARIES):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # built by hand, or by another packager
            continue
    return versions


class _Work:
    """Where the stream takes slides from and puts features."""

    def __init__(self, task: Task, run: Run, encoder: Encoder, staining: Staining | None) -> None:
        self._task, self._run, self._encoder, self._staining = task, run, encoder, staining
        self._shifts = stain_shifts() if task.settings.augment_stain else []
        self._making = replace(encoder.making, versions=find_versions(encoder.name))
        self._tile_headers: dict[str, Header] = {}
        self._moved: list[float] = []
        self.notes: list[str] = []

    def begin(self, job: Job) -> Tiles | None:
        if not self._run.claim(job):
            return None
        try:
            tiles, header = read_tiles(self._task.workspace.tiles(job.id))
            if len(tiles.coords) and not tiles.slide_path.exists():
                raise SlideError(
                    f"{tiles.slide_path}: the slide is no longer there. Run `wsisurv tile FOLDER` with its new place, "
                    "then this again."
                )
            tiles = replace(tiles, slide_path=job.source)  # which may be a copy
        except (WsisurvError, OSError) as error:
            self._run.fail(job, error)
            return None
        self._tile_headers[job.id] = header
        return tiles

    def verify(self, job: Job) -> None:
        require_tiled(job.source, job.id, self._tile_headers[job.id].inputs.get("slide"))

    def more(self, tiles: Tiles) -> ShiftedTiles | None:
        """A few tiles under stain shifts, where they are asked for."""
        if not self._shifts:
            return None
        n_sampled = len(sampled_rows(tiles, _SHIFTED_TILES))
        restain = None if self._staining is None else self._staining.restain
        return ShiftedTiles(n_sampled, lambda tiles: sample_tiles(tiles, _SHIFTED_TILES), self._shifts, restain)

    def save(self, slide: SlideInProgress) -> None:
        job, tiles, more_values = slide.job, slide.tiles, slide.more_values
        header = self._tile_headers.pop(job.id)
        stain = {} if self._staining is None else self._staining.end(job.id)
        if why := stain.get("left_as_it_is"):
            self.notes.append(f"{job.id}: its stains were left as they are: {why}")
        by_stain, by_tile = (None, None) if more_values is None else measure_spread(more_values, len(self._shifts))
        if by_stain is not None and by_tile is not None and (varies := by_tile > 0).any():
            self._moved.append(float(np.median(by_stain[varies] / by_tile[varies])))
        making: Making = replace(
            self._making,
            decoder=slide.decoder,
            tiles_fingerprint=header.fingerprint,
            mismatch=self._task.mismatches.get(job.id, ""),
            stain=stain,
        )
        features = Features(
            slide_id=tiles.slide_id,
            values=slide.values,
            coords=tiles.coords,
            encoder=self._encoder.name,
            names=self._encoder.names,
            tile_settings=_tile_settings(header),
            mpp=tiles.mpp,
            making=making,
            units=self._encoder.units,
            definitions=self._encoder.definitions,
            stain_spread=by_stain,
            tile_spread=by_tile,
        )
        write_features(job.output, features, job.header)
        self._run.finish(job, None if len(tiles.coords) else f"{job.id}: no tiles, so no features")

    def robustness(self) -> list[str]:
        """What stain shifts did, in words; nothing where they were not asked for."""
        if not self._moved:
            return []
        return [
            "haematoxylin and eosin 15 % weaker or stronger move a feature by "
            f"{np.median(self._moved):.2f} of its spread between tiles (median of features and slides)"
        ]

    def fail(self, job: Job, error: Exception) -> None:
        self._tile_headers.pop(job.id, None)
        if self._staining is not None:
            self._staining.end(job.id)
        self._run.fail(job, error)


def _tile_settings(tiles: Header) -> dict[str, object]:
    """What made the tiles: their settings, and which network found the tissue where one did."""
    model = [tiles.inputs[name] for name in TISSUE_MODEL_INPUTS if name in tiles.inputs]
    return {**tiles.settings, **({"tissue_model": " ".join(model)} if model else {})}
