"""``wsisurv pool``: the features of a slide's tiles become one row of the whole slide."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.slide_encoders import require_slide_encoder
from wsisurv.engine.jobs import Job, run_jobs
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import EncoderMismatchError, InputError, SettingsError, WeightsError
from wsisurv.formats.features import FORMAT, MADE_BY, Features, Making, read_features, write_features
from wsisurv.formats.header import make_header, read_header
from wsisurv.settings.base import file_sha256, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.units import SlideId
from wsisurv.workspace.ledger import Summary
from wsisurv.workspace.paths import Workspace

STEP = "pool"
Pool = Callable[[NDArray[np.floating[Any]]], NDArray[np.float32]]


def pool(
    workspace: Workspace,
    encoder: str,
    tiles: str,
    *,
    weights_file: Path | None = None,
    slide_ids: Collection[str] | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Make features/ENCODER-TILES/SLIDE.h5, a row of the whole slide, of each features/TILES/SLIDE.h5.

    Args:
        workspace: where from and to.
        encoder: of slides: ``mean``, ``feather``.
        tiles: folder of the tiles' features.
        weights_file: of the encoder of slides, where it has weights.
        slide_ids: which slides; None for all that have features.
        redo: make anew what was made otherwise.
        progress: called after each slide.

    Raises:
        InputError: there are no such features, or they are of whole slides already.
        SettingsError: the encoder is unknown, computed elsewhere, or takes tiles of another encoder.
        WeightsError: weights are wanted, or don't fit.
        StaleError, BusyError, StorageError: as ``run_jobs``.
    """
    slide_ids = workspace.embedded_slides(tiles) if slide_ids is None else sorted(slide_ids)
    if not slide_ids:
        workspace.require()
        known = ", ".join(workspace.encoders()) or "none yet"
        raise InputError(f"{workspace.root}: no features of {tiles} (there are {known}).")
    first, made = read_features(workspace.features(tiles, slide_ids[0]))
    hub_id = require_slide_encoder(encoder, first.encoder, first.values.shape[1])
    if hub_id is not None and weights_file is None:
        raise WeightsError(
            f"{encoder}: wants its weights. Accept the licence at https://huggingface.co/{hub_id}, fetch "
            "model.safetensors there and give it with --weights FILE."
        )
    if hub_id is None and weights_file is not None:
        raise SettingsError(f"{encoder} has no weights. Leave out --weights.")
    weights = None if weights_file is None else f"sha256:{file_sha256(weights_file)}"
    named = {"encoder": f"{encoder}-{tiles}", "weights": weights, "dtype": "float32"}
    settings = parse_settings(EmbedSettings, {**named, "of_tiles": made.settings})

    def job(slide_id: str) -> Job:
        source = workspace.features(tiles, slide_id)
        made = read_header(source, FORMAT, MADE_BY)
        own = parse_settings(EmbedSettings, {**named, "of_tiles": made.settings})
        header = make_header(FORMAT, own, {"features": made.fingerprint})
        return Job(slide_id, source, workspace.features(settings.folder, slide_id), header)

    jobs = [job(slide_id) for slide_id in slide_ids]
    pooled = _mean if weights_file is None else _attention(weights_file, first.values.shape[1])

    def do(job: Job) -> None:
        features, _ = read_features(job.source)
        if (features.encoder, features.values.shape[1]) != (first.encoder, first.values.shape[1]):
            raise EncoderMismatchError(
                f"{job.source}: {features.values.shape[1]} columns of {features.encoder}, where other files of {tiles} "
                f"have {first.values.shape[1]} of {first.encoder}."
            )
        if row := features.tile_settings.get("row"):
            raise InputError(f"{job.source}: is one row of the whole {row} already. Name features of tiles.")
        tool = features.making.tool
        made = Features(
            slide_id=SlideId(job.id),
            values=_row(features.values, pooled),
            coords=None,
            encoder=settings.encoder,
            names=(),
            tile_settings={**features.tile_settings, "row": "slide"},
            mpp=features.mpp,
            making=Making(
                weights=weights or "", precision="fp32", device="cpu", tool=f"pool of {tool}" if tool else ""
            ),
        )
        write_features(job.output, made, job.header)

    with workspace.claim_settings(f"embed/{settings.folder}", settings.model_dump(mode="json")):
        return run_jobs(workspace, STEP, jobs, do, redo=redo, progress=progress)


def _row(values: NDArray[np.floating[Any]], pooled: Pool) -> NDArray[np.float32]:
    """One row of a slide's tiles, (1, n_features); of a slide without tiles none."""
    if len(values):
        return pooled(values)[None]
    return pooled(np.zeros((1, values.shape[1]), np.float32))[None][:0]


def _mean(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.asarray(values.mean(axis=0, dtype=np.float64), np.float32)


def _attention(path: Path, n_features: int) -> Pool:
    from wsisurv.embedding.attention_pool import load_attention_pool, pool_tiles  # torch takes seconds to import

    return partial(pool_tiles, load_attention_pool(path, n_features))
