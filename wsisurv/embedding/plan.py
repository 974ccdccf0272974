"""What ``embed`` would do: nothing is loaded, read from a slide or written."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from wsisurv.embedding.encoder import HistomicsEncoder
from wsisurv.embedding.step import Source, check_tiles, find_sources
from wsisurv.embedding.table import HISTOMICS, find_spec
from wsisurv.engine.shards import Shard
from wsisurv.errors import ArtifactError, WeightsError
from wsisurv.formats.features import FORMAT
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import FORMAT as TILES
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.freshness import Planned, check
from wsisurv.workspace.paths import Workspace

_FILE_BYTES = 16_384  # an HDF5 file's own structures and attributes
_TILE_BYTES = 16  # the coordinates of a tile


def count_features(encoder: str) -> int | None:
    """Features a tile of an encoder; None where only building it would show it (``timm:NAME``).

    Raises:
        SettingsError: no such encoder.
    """
    spec = find_spec(encoder)
    if encoder == HISTOMICS:
        return HistomicsEncoder.n_features
    return None if spec is None else spec.n_features


def features_bytes(tiles: int, n_features: int, dtype: str) -> int:
    """About what the features of so many tiles take on disk."""
    return _FILE_BYTES + tiles * (_TILE_BYTES + np.dtype(dtype).itemsize * n_features)


def check_tile_size(settings: EmbedSettings, tiles: TileSettings, allow_mismatch: bool) -> None:
    """Hold tiles that are yet to be cut against what the encoder was trained on.

    Raises:
        SettingsError: they differ and may not.
    """
    header = make_header(TILES, tiles, {})
    check_tiles(settings, {"all slides": Source(Path(), tiles.tile_px, tiles.tile_mpp, header)}, allow_mismatch)


def plan_embed(
    workspace: Workspace, settings: EmbedSettings, *, allow_mismatch: bool = False, shard: Shard | None = None
) -> Sequence[Planned]:
    """Every tiled slide, with what is there already and how much is to be done.

    Args:
        workspace: reads the headers in ``tiles/`` and ``features/``.
        settings: as ``resolve_settings`` makes them.
        allow_mismatch: as ``embed``.
        shard: as ``embed``.

    Raises:
        InputError: nothing is tiled.
        SettingsError: no such encoder, or tiles that it was not trained on.
    """
    check_tiles(settings, find_sources(workspace, None)[0], allow_mismatch)
    if (settings.weights or "").startswith("hub:"):
        from wsisurv.embedding.hub import pin_weights  # the hub's client takes a while

        with suppress(WeightsError):  # not in the cache: which commit it will be is not known yet
            settings = pin_weights(settings, offline=True)
    n_features = None if settings.own is not None else count_features(settings.encoder)
    plan = []
    tiled = workspace.tiled_slides()
    for slide_id in shard.of(tiled) if shard else tiled:
        path = workspace.tiles(slide_id)
        try:
            tiles, header = read_tiles(path)
        except ArtifactError as error:
            plan.append(Planned(slide_id, path, problem=str(error)))
            continue
        seen = check(
            workspace.features(settings.folder, slide_id), make_header(FORMAT, settings, {"tiles": header.fingerprint})
        )
        gone = "" if tiles.slide_path.exists() or seen.done else f"{tiles.slide_path}: not there any more"
        n_tiles = len(tiles.coords)
        n_bytes = None if n_features is None else features_bytes(n_tiles, n_features, settings.dtype)
        plan.append(Planned(slide_id, tiles.slide_path, seen.condition, seen.changes, n_tiles, n_bytes, gone))
    return plan
