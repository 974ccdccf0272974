"""Tiles and features in the layouts of other tools; what each layout holds is told in ``foreign``.

What our own file doesn't say is left out of the copy, never invented. Other tools know tiles by whole level-0 pixels
and whole magnifications: both are rounded in the copy, and our own exact figures stand beside them where the layout
takes attributes (TRIDENT).
"""

from pathlib import Path
from typing import Literal

import numpy as np

from wsisurv.formats import geojson
from wsisurv.formats.atomic import write_text
from wsisurv.formats.features import Features
from wsisurv.formats.header import create_bare
from wsisurv.formats.tiles import Tiles, write_trident_attributes

ExportLayout = Literal["stamp", "clam", "trident", "qupath", "anndata", "spatialdata"]


def export_tiles(path: Path, tiles: Tiles, layout: Literal["clam", "trident", "qupath"]) -> None:
    """Write tiles as TRIDENT or CLAM would, or as GeoJSON for QuPath.

    CLAM reads them from level 0, and resamples to its encoder's input. QuPath shows the scanned part alone and counts
    from its corner.

    Raises:
        StorageError: no room or no permission.
    """
    if layout == "qupath":
        coords = tiles.coords - (tiles.bounds_x, tiles.bounds_y)
        figures = {"tissue": tiles.tissue, **tiles.measures}
        write_text(path, geojson.collection(geojson.tiles(coords, tiles.tile_level0_px, figures)))
        return
    with create_bare(path) as file:
        if layout == "trident":
            coords = file.create_dataset("coords", data=tiles.coords.astype(np.int64), maxshape=(None, 2))
            write_trident_attributes(coords, tiles)
            coords.attrs.update({"name": tiles.slide_id, "savetodir": str(path.parent)})
            return
        coords = file.create_dataset("coords", data=tiles.coords.astype(np.int32), maxshape=(None, 2))
        size = (tiles.level0_width, tiles.level0_height)
        coords.attrs["patch_size"] = round(tiles.tile_level0_px)
        coords.attrs["patch_level"] = 0
        coords.attrs["downsample"] = (1.0, 1.0)
        coords.attrs["downsampled_level_dim"] = size
        coords.attrs["level_dim"] = size
        coords.attrs["name"] = tiles.slide_id
        coords.attrs["save_path"] = str(path.parent)


def export_features(
    path: Path, features: Features, tiles: Tiles | None, layout: Literal["stamp", "clam", "trident"]
) -> None:
    """Write features as another tool would.

    Args:
        path: the file.
        features: of one slide, with ``tile_px`` and ``tile_mpp`` in their tile settings.
        tiles: its tiles, where they are there; TRIDENT's file says more with them.
        layout: whose.

    Raises:
        KeyError: the tile settings say neither size nor resolution of the tiles.
        FormatError: nobody knows where the tiles lie.
        StorageError: no room or no permission.
    """
    tile_px, tile_mpp = int(str(features.tile_settings["tile_px"])), float(str(features.tile_settings["tile_mpp"]))
    place = features.place
    with create_bare(path) as file:
        if layout == "stamp":
            file["coords"] = (place.coords * place.mpp).astype(np.float32)
            file["feats"] = features.values.astype(np.float16)
            file.attrs["extractor"] = features.encoder
            file.attrs["unit"] = "um"
            file.attrs["tile_size_um"] = tile_px * tile_mpp
            file.attrs["tile_size_px"] = tile_px
            file.attrs["feat_type"] = "tile"
        elif layout == "clam":
            n_features = features.values.shape[1]
            file.create_dataset("features", data=features.values.astype(np.float32), maxshape=(None, n_features))
            file.create_dataset("coords", data=place.coords.astype(np.int32), maxshape=(None, 2))
        else:
            values = file.create_dataset("features", data=features.values.astype(np.float32))
            values.attrs["name"] = features.slide_id
            values.attrs["savetodir"] = str(path.parent)
            values.attrs["encoder"] = features.encoder
            coords = file.create_dataset("coords", data=place.coords.astype(np.int64))
            coords.attrs.update({"name": features.slide_id, "savetodir": str(path.parent)})
            if tiles is not None:
                write_trident_attributes(coords, tiles)
                return
            coords.attrs["patch_size"] = tile_px
            coords.attrs["patch_size_level0"] = round(tile_px * tile_mpp / place.mpp)
            coords.attrs["level0_magnification"] = round(10 / place.mpp)
            coords.attrs["target_magnification"] = round(10 / tile_mpp)
