"""``wsisurv embed``: the tiles of every slide become features."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wsisurv.embedding.columns import VERSION
from wsisurv.embedding.devices import do_on_devices
from wsisurv.embedding.encoder_row import EncoderSpec
from wsisurv.embedding.one_device import STEP, Task, do
from wsisurv.embedding.packaged import find_packaged, packaged_weights, tile_size
from wsisurv.embedding.read_ahead import Decoder
from wsisurv.embedding.table import HISTOMICS, find_spec
from wsisurv.engine.jobs import Job, JobRun, run_jobs
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool, cores
from wsisurv.errors import ArtifactError, InputError, SettingsError, WeightsError
from wsisurv.formats import tiles
from wsisurv.formats.features import FORMAT
from wsisurv.formats.header import Header, make_header
from wsisurv.formats.remote import slide_place
from wsisurv.settings.base import file_sha256
from wsisurv.settings.embedding import EmbedSettings, OwnEncoder, StainSettings
from wsisurv.slides.stage import require_stage
from wsisurv.workspace.index import Indexed, read_headers
from wsisurv.workspace.ledger import Failure, Summary, make_failure, record_failure
from wsisurv.workspace.paths import Workspace

_MPP_TOLERANCE = 0.02
"""Relative: 0.499 µm per pixel is 0.5."""
_READERS = 8
_READERS_OF_CPU = 2
"""Threads that read. Beside a network on the CPU two are enough: it is many times slower than they are."""


def resolve_settings(
    encoder: str = HISTOMICS,
    weights_file: Path | None = None,
    random_weights: bool = False,
    *,
    dtype: Literal["float16", "float32"] = "float16",
    half_scale: bool = False,
    own: OwnEncoder | None = None,
    stain: StainSettings | None = None,
    augment_stain: bool = False,
    revision: str | None = None,
) -> EmbedSettings:
    """Settings of an encoder, with where its weights come from and its precision filled in.

    Args:
        encoder: ``histomics``, a name of the table, ``timm:NAME``, or an encoder that a package adds.
        weights_file: weights from a file; its sha256 goes into the settings.
        random_weights: weights that were never trained.
        dtype: in which features are stored.
        half_scale: have pixels halved by the JPEG decoder, where a slide's format allows it.
        own: a model of the user's own (``read_encoder_spec``); ``encoder`` is then not looked at.
        stain: to which colours tiles are brought first (``stain_settings``).
        augment_stain: also write how far stain shifts move the features.
        revision: commit of the hub's weights, 40 hex digits; None for the one in the hub's cache, or else the newest,
            which ``embed`` asks for and writes into the settings.

    Raises:
        SettingsError: no such encoder; a file and random weights at once; weights for histomics; an own model without
            any; a revision that is no commit, or of no weights of the hub.
        WeightsError: no such file, or timm has no weights for the architecture.

    Example:
        >>> import wsisurv
        >>> wsisurv.resolve_settings("uni2-h", dtype="float32").weights
        'hub:MahmoodLab/UNI2-h'
    """
    base = EmbedSettings(dtype=dtype, half_scale=half_scale, stain=stain, augment_stain=augment_stain)
    spec = find_spec(encoder) if own is None else None
    if own is None and encoder == HISTOMICS:
        _require_hub(None, revision)
        if weights_file is not None or random_weights:
            raise SettingsError(f"{HISTOMICS} has no weights: leave out --weights and --random-weights.")
        return _with_version(base)
    if own is None and find_packaged(encoder) is not None:
        _require_hub(None, revision)
        if weights_file is not None or random_weights:
            raise SettingsError(f"{encoder} has its package's weights: leave out --weights and --random-weights.")
        return base.model_copy(update={"encoder": encoder, "weights": packaged_weights(encoder)})
    if random_weights and weights_file is not None:
        raise SettingsError("--weights and --random-weights exclude each other.")
    if own is not None and weights_file is None and not random_weights:
        raise SettingsError(f"{own.name}: a model of your own needs --weights FILE (or --random-weights, to try it).")
    if random_weights:
        weights = "random"
    elif weights_file is None:
        weights = f"hub:{_hub_id(encoder, spec)}"
    elif weights_file.is_file():
        weights = f"sha256:{file_sha256(weights_file)}"
    else:
        raise WeightsError(f"{weights_file}: no such file. --weights wants a .safetensors, .bin, .pt or .pth file.")
    weights = _require_hub(weights, revision)
    known = own or spec
    if known is None:
        from wsisurv.embedding.timm_names import timm_name  # torch and timm take seconds

        timm_name(encoder)  # or SettingsError
    precision = "fp32" if known is None else known.precision
    name = encoder if own is None else own.name
    return base.model_copy(update={"encoder": name, "weights": weights, "precision": precision, "own": own})


def _require_hub(weights: str | None, revision: str | None) -> str:
    """Weights with the commit that was asked for.

    Raises:
        SettingsError: it is none, or the weights are not the hub's.
    """
    if revision is None:
        return weights or ""
    if not (weights or "").startswith("hub:"):
        raise SettingsError("--revision goes with weights of the hub: leave it out.")
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise SettingsError(f"--revision {revision}: a commit of the hub has 40 hex digits; a branch or tag may move.")
    return f"{weights}@{revision}"


def _hub_id(encoder: str, spec: EncoderSpec | None) -> str:
    if spec is not None:
        return spec.hub_id
    from wsisurv.embedding.timm_names import hub_files_of  # torch and timm take seconds

    return hub_files_of(encoder)[0]


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
class Source:
    """What is kept of a tiled slide until its turn comes; the coordinates are not."""

    slide_path: Path
    tile_px: int
    tile_mpp: float
    header: Header


def embed(
    workspace: Workspace,
    settings: EmbedSettings | None = None,
    *,
    weights_file: Path | None = None,
    slide_ids: Collection[str] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    decoder: Decoder = "auto",
    cpu_bf16: bool = False,
    compiled: bool = False,
    allow_mismatch: bool = False,
    offline: bool = False,
    pool: Pool | None = None,
    stage: Path | None = None,
    shard: Shard | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Embed tiled slides that are not embedded yet.

    Nothing is loaded where nothing is to be done, and whatever the encoder lacks is said before the first slide.
    On a CPU the result is the same every time, and doesn't depend on ``workers``.

    Args:
        workspace: reads ``tiles/``, writes ``features/<encoder>/``.
        settings: as ``resolve_settings`` makes them; None for histomics.
        weights_file: the file, where the settings name one.
        slide_ids: which slides; None for all that are tiled.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; several with commas, a process each. histomics
            always computes on the CPU.
        batch_size: tiles at once; None to find it. Fewer where they are very large or the device has no room.
        workers: threads that read, or that compute histomics; None for what suits.
        decoder: what reads pixels: ``auto``, or ``openslide`` alone.
        cpu_bf16: on a CPU, compute in bf16 where a trial of eight tiles is faster in it and agrees.
        compiled: compile the network first: minutes, which pay off over many slides.
        allow_mismatch: take tiles of another size or resolution than the encoder was trained on.
        offline: fetch no weights: what is not in the hub's cache is an error.
        pool: machines to do it on, a slide each at a time, instead of devices here.
        stage: folder on a disk of the machine, to which each slide is copied before it is read; the next one, while
            it is read, for each device here.
        shard: do this part of the slides only.
        redo: make features of other settings or tiles anew.
        progress: called with slides done, slides in all, and slide and tiles now.

    Raises:
        InputError: nothing is tiled.
        SettingsError: no such encoder or device, or tiles that it was not trained on.
        WeightsError: weights that can't be had, or that don't fit.
        DeviceError: a device has no room for a single tile.
        BusyError: another process embeds with other settings into the same folder now.
        StaleError: features are there that were made otherwise, and ``redo`` is False.
        StorageError: no room to write.

    Returns:
        What was done, kept and failed; a slide that failed stops nothing, so look at ``failed``.

    Example:
        >>> import wsisurv
        >>> wsisurv.embed(wsisurv.Workspace(Path("workspace")), wsisurv.resolve_settings("uni2-h"))  # doctest: +SKIP
    """
    settings = _with_version(settings or EmbedSettings())
    if pool is not None:  # whose working folder is another
        workspace, weights_file = Workspace(workspace.root.absolute()), weights_file and weights_file.absolute()
        stage = stage and stage.absolute()
    if shard is not None:
        slide_ids = shard.of(sorted(slide_ids) if slide_ids is not None else workspace.tiled_slides())
    sources, unreadable = find_sources(workspace, slide_ids)
    require_stage([source.slide_path for source in sources.values()], stage)
    mismatches = check_tiles(settings, sources, allow_mismatch)
    from_hub = (settings.weights or "").startswith("hub:")
    if from_hub:
        from wsisurv.embedding.hub import fetch_encoder, find_weights, pin_weights  # the hub's client takes a while

        settings = pin_weights(settings, offline=offline)
    devices = [name.strip() for name in device.split(",")]
    task = Task(
        workspace,
        settings,
        tuple(
            Job(
                slide_id,
                source.slide_path,
                workspace.features(settings.folder, slide_id),
                make_header(FORMAT, settings, {"tiles": source.header.fingerprint}),
            )
            for slide_id, source in sources.items()
        ),
        weights_file=weights_file,
        mismatches=mismatches,
        batch_size=batch_size,
        workers=workers or (_suitable_workers(settings, devices) if pool is None else 1),
        decoder="jpeg-half" if settings.half_scale else decoder,
        cpu_bf16=cpu_bf16,
        compiled=compiled,
        stage=stage,
    )
    with workspace.claim_settings(f"{STEP}/{settings.folder}", settings.model_dump(mode="json")):
        run = JobRun(workspace, STEP, task.jobs, redo=redo)
        if from_hub and not run.all_done:
            if not offline:
                fetch_encoder(settings.encoder, settings.hub_commit)
            find_weights(settings)
        if pool is not None and not run.all_done:
            from wsisurv.embedding.one_slide import EmbedSlide  # which asks this module

            one = EmbedSlide(replace(task, jobs=(), mismatches={}), device, allow_mismatch)
            summary = run_jobs(workspace, STEP, task.jobs, one, redo=redo, progress=progress, pool=pool)
        elif len(devices) > 1 and not run.all_done:
            summary = do_on_devices(task, devices, progress)
        else:
            summary = _do_here(task, run, device, progress)
    if mismatches and not run.all_done:
        more = f"; and {len(mismatches) - 1} more" if len(mismatches) > 1 else ""
        summary.notes.append(f"{next(iter(mismatches.values()))}{more}; embedded all the same")
    for failure in unreadable:
        record_failure(workspace, STEP, failure)
    summary.failed.extend(unreadable)
    return summary


def _do_here(task: Task, run: JobRun, device: str, progress: Progress) -> Summary:
    """Embed in this process; where all is done nothing is loaded."""
    n_jobs = len(task.jobs)
    notes = []
    progress(0, n_jobs, "")
    with run:
        if run.all_done:
            for job in task.jobs:
                run.claim(job)
        else:
            notes = do(task, run, task.jobs, device, lambda what: progress(run.n_ended, n_jobs, what))
    progress(n_jobs, n_jobs, "")
    summary = run.summary()
    summary.notes += notes
    return summary


def _suitable_workers(settings: EmbedSettings, devices: Sequence[str]) -> int:
    """Threads: all processors for histomics; a few that read beside a CPU's network; more before an accelerator."""
    processors = cores()
    if settings.encoder == HISTOMICS:
        return processors
    most = _READERS_OF_CPU if set(devices) == {"cpu"} else _READERS
    return max(1, min(most, processors))


def find_sources(workspace: Workspace, slide_ids: Collection[str] | None) -> tuple[dict[str, Source], list[Failure]]:
    """Tiled slides by slide_id, and those whose tiles can't be read."""
    wanted = workspace.tiled_slides() if slide_ids is None else sorted(set(slide_ids))
    if not wanted and not workspace.tiled_slides():  # a shard may have none
        workspace.require("; `wsisurv tile SLIDES…` makes one")
        raise InputError(f"{workspace.root / 'tiles'}: no tiled slide. Run `wsisurv tile SLIDES…` first.")
    known = read_headers(workspace, [workspace.tiles(slide_id) for slide_id in wanted], tiles.FORMAT, tiles.MADE_BY)
    sources, unreadable = {}, []
    for slide_id in wanted:
        path = workspace.tiles(slide_id)
        try:
            sources[slide_id] = _known_source(slide_id, known.get(path)) or read_source(path)
        except ArtifactError as error:
            unreadable.append(make_failure(slide_id, path, error, ""))
    return sources, unreadable


def read_source(path: Path) -> Source:
    """What a tiles file says of its slide.

    Raises:
        ArtifactError: it can't be read.
    """
    tiled, header = tiles.read_tiles(path)
    return Source(tiled.slide_path, tiled.tile_px, tiled.tile_mpp, header)


def _known_source(slide_id: str, indexed: Indexed | None) -> Source | None:
    """The same from the index, which has read no more than the header; None where that does not say it all."""
    if indexed is None or indexed.problem or indexed.slide_id != slide_id or not indexed.slide_path:
        return None
    settings = json.loads(indexed.settings)
    if "tool" in settings:
        return None
    header = Header(indexed.format, settings, indexed.inputs)
    return Source(slide_place(indexed.slide_path), settings["tile_px"], settings["tile_mpp"], header)


def check_tiles(settings: EmbedSettings, sources: Mapping[str, Source], allow_mismatch: bool) -> dict[str, str]:
    """Hold the tiles against what the encoder was trained on; returns, by slide, how they differ where they may.

    Raises:
        SettingsError: they differ and may not.
    """
    wanted = _wanted(settings)
    if wanted is None:
        return {}
    low, high = wanted.mpp_range
    mismatches = {}
    for slide_id, source in sources.items():
        fits_mpp = low * (1 - _MPP_TOLERANCE) <= source.tile_mpp <= high * (1 + _MPP_TOLERANCE)
        if fits_mpp and source.tile_px == wanted.tile_px:
            continue
        seen = (
            f"{slide_id}: its tiles are {source.tile_px} px at {source.tile_mpp:g} µm/px, and {settings.encoder} was "
            f"trained on {wanted.tile_px} px at {low:g}{f' to {high:g}' if high > low else ''} µm/px"
        )
        if not allow_mismatch:
            mpp = source.tile_mpp if fits_mpp else wanted.tile_mpp
            usual = settings.own is None and mpp == wanted.tile_mpp
            size = f"--for {settings.encoder}" if usual else f"--tile-px {wanted.tile_px} --tile-mpp {mpp:g}"
            raise SettingsError(
                f"{seen}. Run `wsisurv tile SLIDES… {size}` in another --workspace (or here with --redo), or use "
                "--allow-mismatch."
            )
        mismatches[slide_id] = seen
    return mismatches


@dataclass(frozen=True)
class _Wanted:
    """Tiles that an encoder was trained on."""

    tile_px: int
    tile_mpp: float
    mpp_range: tuple[float, float]


def _wanted(settings: EmbedSettings) -> _Wanted | None:
    """None where any tile will do, or nobody knows (``histomics``, ``timm:NAME``)."""
    if settings.own is not None:
        mpp = settings.own.tile_mpp
        return _Wanted(settings.own.tile_px, mpp, (mpp, mpp))
    if (spec := find_spec(settings.encoder)) is not None:
        return _Wanted(spec.tile_px, spec.tile_mpp, spec.mpp_range)
    size = tile_size(settings.encoder)
    return None if size is None else _Wanted(*size, (size[1], size[1]))
