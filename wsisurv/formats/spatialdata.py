"""Features and their tiles as a store of SpatialData, with the names of LazySlide; written by spatialdata."""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from wsisurv.errors import InputError
from wsisurv.formats.anndata import write_anndata
from wsisurv.formats.atomic import explain_storage
from wsisurv.formats.features import Features
from wsisurv.formats.tiles import Tiles

TILES = "tiles"


def write_spatialdata(path: Path, features: Features, tiles: Tiles | None) -> None:
    """Write features of a slide: ``shapes/tiles``, squares in level-0 pixels, and ``tables/ENCODER_tiles``.

    Root attributes are LazySlide's ``tile_spec`` and ``slide_properties``. A store that is there is replaced.

    Args:
        path: of the store, a folder.
        features: of one slide, with ``tile_px`` and ``tile_mpp`` in their tile settings.
        tiles: its tiles, where they are there: they say size of the slide, overlap and share of tissue.

    Raises:
        FormatError: nobody knows where the tiles lie.
        InputError: spatialdata isn't installed.
        StorageError: no room or no permission.
    """
    try:
        import anndata
        import geopandas
        import shapely
        from spatialdata import SpatialData
        from spatialdata.models import ShapesModel, TableModel
    except ImportError as error:
        raise InputError("A SpatialData store needs its package: pip install 'wsisurv[spatialdata]'.") from error
    place = features.place
    px, mpp = (float(str(features.tile_settings[name])) for name in ("tile_px", "tile_mpp"))
    numbers, side = np.arange(len(place.coords)), px * mpp / place.mpp
    squares = shapely.box(*place.coords.T, *(place.coords + side).T)
    shapes = geopandas.GeoDataFrame({"tile_id": numbers, "tissue_id": 0 * numbers}, geometry=squares)
    with explain_storage(path), TemporaryDirectory(dir=_made(path.parent), prefix=f".{path.stem}-") as folder:
        write_anndata(Path(folder, "one.h5ad"), features, tiles)
        table = anndata.read_h5ad(Path(folder, "one.h5ad"))
        table.obs["tile_id"], table.obs["library_id"] = numbers, TILES
        table.obs["library_id"] = table.obs["library_id"].astype("category")
        known = TableModel.parse(table, region=TILES, region_key="library_id", instance_key="tile_id")
        store = SpatialData(
            shapes={TILES: ShapesModel.parse(shapes)},
            tables={f"{features.encoder}_{TILES}": known},
            attrs=_attributes(px, mpp, place.mpp, tiles),
        )
        store.write(Path(folder, "store.zarr"))
        if path.exists():
            shutil.rmtree(path)
        os.replace(Path(folder, "store.zarr"), path)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _attributes(px: float, mpp: float, slide_mpp: float, tiles: Tiles | None) -> dict[str, object]:
    stride = px - (tiles.overlap_px if tiles else 0)
    spec = {"height": px, "width": px, "stride_height": stride, "stride_width": stride, "mpp": mpp}
    whole = {name: round(value) if name != "mpp" else value for name, value in spec.items()}
    levels = {"ops_level": 0, "ops_downsample": mpp / slide_mpp, "base_level": 0, "base_downsample": mpp / slide_mpp}
    slide: dict[str, object] = {"mpp": slide_mpp}
    if tiles is not None:
        shape = [tiles.level0_height, tiles.level0_width]
        bounds = [0, 0, tiles.level0_width, tiles.level0_height]
        slide |= {"shape": shape, "n_level": 1, "level_shape": [shape], "level_downsample": [1.0]}
        slide |= {"magnification": 10 / slide_mpp, "bounds": bounds, "raw": json.dumps({})}
    return {"tile_spec": {TILES: {**whole, **levels, "tissue_name": "tissues"}}, "slide_properties": slide}
