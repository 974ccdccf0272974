"""Other tools' files against wsisurv, on a real slide: ``make interop PEERS=FOLDER SLIDE=FILE`` writes docs/interop.md.

PEERS holds a folder a tool, with what the tool itself wrote for SLIDE (trident, clam, stamp, atlaspatch, mussel, hs2p,
slide2vec, lazyslide). What the tool wrote is read here by h5py, numpy, torch, pyarrow and zarr, not by wsisurv, and
held against what ``import`` made of it. What ``export`` writes is read by the tool's own package where the registry
has it, else through the keys that the tool's reader takes.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata
import geopandas
import h5py
import numpy as np
import torch
import zarr
from openslide import OpenSlide
from pyarrow import parquet
from shapely import from_wkb
from turbojpeg import TurboJPEG

from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import read_tiles
from wsisurv.slides.find import find_slides
from wsisurv.slides.reader import Slide
from wsisurv.workspace.paths import Workspace

PEERS, SLIDE, PAGE = (Path(argument) for argument in sys.argv[1:])
HOME = Path(tempfile.mkdtemp(prefix="interop-"))
NAME = SLIDE.stem
MPP = float(OpenSlide(SLIDE).properties["openslide.mpp-x"])
ROWS: list[tuple[str, str, str, str, str]] = []


def run(*words: object) -> None:
    """Run a command of wsisurv; its words are told where it fails."""
    ended = subprocess.run(
        [sys.executable, "-m", "wsisurv", "--quiet", *map(str, words)], capture_output=True, text=True
    )
    if ended.returncode:
        sys.exit(f"{words}: {ended.stdout}{ended.stderr}")


def told(tool: str, of: str, direction: str, what: str, checks: dict[str, bool]) -> None:
    """Add a row; ``checks`` are what was compared, and whether it is equal."""
    wrong = [name for name, equal in checks.items() if not equal]
    ROWS.append(
        (tool, of, direction, f"{what}: {', '.join(checks)}", f"differs: {', '.join(wrong)}" if wrong else "equal")
    )
    print(*ROWS[-1], sep=" | ")


def hdf5(path: Path, *names: str) -> list[np.ndarray]:
    with h5py.File(path) as file:
        return [file[name][()] for name in names]


def tiles_in(tool: str, of: str, source: Path, coords: np.ndarray, sizes: dict[str, float], *more: object) -> None:
    """Import tiles and compare them; ``sizes`` are what the tool's file says, by the names of ours."""
    place = Workspace(HOME / f"tiles-{tool}-{source.name}")
    run("import", source, "--slides", SLIDE, "-w", place.root, *more)
    ours, _ = read_tiles(place.tiles(NAME))
    checks = {
        f"{len(coords)} tiles": len(ours.coords) == len(coords),
        "coordinates": np.array_equal(ours.coords, coords),
    }
    checks |= {name: bool(np.isclose(getattr(ours, name), value)) for name, value in sizes.items()}
    told(tool, of, "import", "tiles", checks)


def features_in(tool: str, of: str, source: Path, values: np.ndarray, coords: np.ndarray | None, *more: object) -> None:
    place = Workspace(HOME / f"features-{tool}-{source.name}")
    run("import", source, "--encoder", "theirs", "-w", place.root, *more)
    ours, _ = read_features(place.features("theirs", NAME))
    checks = {
        f"{values.shape[0]} × {values.shape[1]} features": np.array_equal(ours.values, values),
        f"dtype {values.dtype}": ours.values.dtype == values.dtype,
    }
    if coords is not None:
        checks |= {"coordinates": np.array_equal(ours.coords, coords), "mpp": bool(np.isclose(ours.mpp or 0, MPP))}
    told(tool, of, "import", "features", checks)


def import_all() -> None:
    """Everything that the tools wrote."""
    root = PEERS / "trident" / "20x_256px_0px_overlap"
    (coords,) = hdf5(root / "patches" / f"{NAME}_patches.h5", "coords")
    sizes = {"tile_px": 256, "tile_level0_px": 256, "overlap_px": 0, "mpp": MPP}
    tiles_in("TRIDENT", "0.3 (a91fa84)", PEERS / "trident", coords, sizes, "--tile-mpp", 0.5)
    values, coords = hdf5(root / "features_tiny" / f"{NAME}.h5", "features", "coords")
    given = ("--slides", SLIDE, "--tile-mpp", 0.5)
    features_in("TRIDENT", "0.3 (a91fa84)", PEERS / "trident", values, coords, *given)

    (coords,) = hdf5(PEERS / "clam" / "patches" / f"{NAME}.h5", "coords")
    tiles_in("CLAM", "53e2409", PEERS / "clam" / "patches", coords, sizes, "--tile-mpp", 0.5, "--overlap-px", 0)
    folder = PEERS / "clam" / "FEATURES"
    values, coords = hdf5(folder / "h5_files" / f"{NAME}.h5", "features", "coords")
    features_in("CLAM", "53e2409", folder / "h5_files", values, coords, *given, "--tile-px", 256)
    values = torch.load(folder / "pt_files" / f"{NAME}.pt", weights_only=True).numpy()
    features_in("CLAM", "53e2409, .pt", folder / "pt_files", values, None, "--unknown-resolution")

    values, coords = hdf5(PEERS / "stamp" / "tiny" / f"{NAME}.h5", "feats", "coords")
    features_in("STAMP", "2.5.0 (c54ce06)", PEERS / "stamp", values, np.rint(coords / MPP), "--slides", SLIDE)

    (coords,) = hdf5(PEERS / "atlaspatch" / "patches" / f"{NAME}.h5", "coords")
    tiles_in("AtlasPatch", "1.1.0", PEERS / "atlaspatch", coords[:, :2], sizes, "--tile-mpp", 0.5)
    (coords,) = hdf5(PEERS / "mussel" / f"{NAME}.h5", "coords")
    tiles_in("Mussel", "1.5.0", PEERS / "mussel", coords, {**sizes, "tile_level0_px": 257, "tile_mpp": 0.5})

    for tool, of, px in (("hs2p", "6.1.0", 256), ("slide2vec", "7.1.4", 224)):
        with np.load(PEERS / tool / "tiles" / f"{NAME}.coordinates.npz") as file:
            coords, tissue = np.stack([file["x"], file["y"]], 1), file["tissue_fractions"]
        tiles_in(tool, of, PEERS / tool, coords, {**sizes, "tile_px": px, "tile_level0_px": px, "tile_mpp": 0.5})
        ours, _ = read_tiles(Workspace(HOME / f"tiles-{tool}-{tool}").tiles(NAME))
        told(tool, of, "import", "tiles", {"share of tissue": np.array_equal(ours.tissue, tissue)})
    values = torch.load(PEERS / "slide2vec" / "tile_embeddings" / f"{NAME}.pt", weights_only=True).numpy()
    features_in("slide2vec", "7.1.4", PEERS / "slide2vec", values, coords)

    store = PEERS / "lazyslide" / "lazy.zarr"
    shapes = parquet.read_table(store / "shapes" / "tiles" / "shapes.parquet")
    corners = np.array([from_wkb(one).bounds[:2] for one in shapes["geometry"].to_pylist()])
    tiles_in("LazySlide", "0.13.0", PEERS / "lazyslide", corners, {**sizes, "tile_mpp": 0.5})
    values = np.asarray(zarr.open_array(store / "tables" / "resnet18_tiles" / "X", mode="r")[...])
    features_in("LazySlide", "0.13.0", PEERS / "lazyslide", values, corners, "--slides", SLIDE)


class ClamBag:
    """What CLAM's Whole_Slide_Bag_FP reads of a file (commit 4f9d8ae), and the pixels that it asks OpenSlide for."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            self.coords = file["coords"][()]
            self.level, self.side = (file["coords"].attrs[name] for name in ("patch_level", "patch_size"))

    def __getitem__(self, row: int) -> Any:
        return OpenSlide(SLIDE).read_region(self.coords[row], self.level, (self.side, self.side)).convert("RGB")


def export_all() -> None:
    """Everything that we write for others."""
    place = Workspace(HOME / "ours")
    run("tile", SLIDE, "-w", place.root)
    run("embed", "-w", place.root)
    tiles, _ = read_tiles(place.tiles(NAME))
    ours, _ = read_features(place.features("histomics", NAME))
    values = ours.values.astype(np.float32)
    assert ours.coords is not None
    for layout in ("anndata", "spatialdata", "trident", "clam", "stamp"):
        run("export", HOME / layout, "--format", layout, "--encoder", "histomics", "-w", place.root)
    for layout in ("trident", "clam", "qupath"):
        run("export", HOME / layout, "--format", layout, "-w", place.root)

    table = anndata.read_h5ad(HOME / "anndata" / f"{NAME}.h5ad")
    told("AnnData", version("anndata"), "export", "read by anndata.read_h5ad", {
        f"{values.shape[0]} × {values.shape[1]} features": np.array_equal(table.X, values),
        "x and y": np.array_equal(table.obs[["x", "y"]].to_numpy(), ours.coords),
        "names": list(table.var_names) == list(ours.names),
    })  # fmt: skip

    from spatialdata import read_zarr

    read = read_zarr(HOME / "spatialdata" / f"{NAME}.zarr")
    bounds = read.shapes["tiles"].geometry.bounds.to_numpy()
    told("SpatialData", version("spatialdata"), "export", "read by spatialdata.read_zarr", {
        f"{len(bounds)} squares": np.allclose(bounds[:, :2], ours.coords),
        "features": np.array_equal(read.tables["histomics_tiles"].X, values),
    })  # fmt: skip
    from wsidata import open_wsi

    lazy = open_wsi(SLIDE, store=HOME / "spatialdata" / f"{NAME}.zarr")
    spec = lazy.tile_spec("tiles")
    told("LazySlide", f"0.13.0, wsidata {version('wsidata')}", "export", "read by wsidata.open_wsi", {
        f"{len(lazy.shapes['tiles'])} tiles": len(lazy.shapes["tiles"]) == len(ours.coords),
        "tile_px and mpp": (spec.width, spec.mpp) == (tiles.tile_px, tiles.tile_mpp),
        "features": np.array_equal(lazy.tables["histomics_tiles"].X, values),
    })  # fmt: skip
    squares = geopandas.read_file(HOME / "qupath" / f"{NAME}.geojson")
    told("GeoJSON, for QuPath", f"geopandas {version('geopandas')}", "export", "read by geopandas.read_file", {
        f"{len(squares)} squares": bool(squares.geometry.is_valid.all()) and len(squares) == len(ours.coords),
        "coordinates": np.array_equal(squares.geometry.bounds.to_numpy()[:, :2], ours.coords),
    })  # fmt: skip
    for name, path in (
        ("its own tiles", place.tiles(NAME)),
        ("exported tiles", HOME / "clam" / "patches" / f"{NAME}.h5"),
    ):
        bag = ClamBag(path)
        told("CLAM", "4f9d8ae, by the keys of Whole_Slide_Bag_FP", "export", name, {
            f"{len(bag.coords)} tiles": np.array_equal(bag.coords, ours.coords),
            "pixels of the same size": bag[0].size == (round(tiles.tile_level0_px), round(tiles.tile_level0_px)),
        })  # fmt: skip
    for tool, path, key, of in (
        ("CLAM", HOME / "clam" / "h5_files" / f"{NAME}.h5", "features", "53e2409, by its keys"),
        ("TRIDENT", HOME / "trident" / "features_histomics" / f"{NAME}.h5", "features", "0.3, by its keys"),
        ("STAMP", HOME / "stamp" / f"{NAME}.h5", "feats", "2.5.0, by its keys"),
    ):
        read_back, coords = hdf5(path, key, "coords")
        places = np.rint(coords / MPP) if tool == "STAMP" else coords
        told(tool, of, "export", "features", {
            f"{len(read_back)} rows": np.array_equal(read_back, ours.values.astype(read_back.dtype)),
            "coordinates": np.array_equal(places, ours.coords),
        })  # fmt: skip


def convert_to_dicom() -> None:
    """The slide as wsidicomizer converts it, with a pyramid of its own; PyTurboJPEG wants libturbojpeg ($TURBOJPEG)."""
    from wsidicomizer import WsiDicomizer

    with WsiDicomizer.open(SLIDE) as slide:
        slide.save(HOME / "dicom" / NAME, add_missing_levels=True)
    (path,) = find_slides([HOME / "dicom"]).values()
    with Slide(path) as seen, OpenSlide(SLIDE) as own:
        whole = seen.pixels(0, 0, 0, seen.width, seen.height)
        shown = np.asarray(own.read_region((0, 0), 0, own.dimensions).convert("RGB"))
        told("wsidicomizer", version("wsidicomizer"), "reading", "DICOM with added levels", {
            "pixels of level 0": np.array_equal(whole, shown),
            "mpp": bool(np.isclose(seen.mpp, MPP)),
            "levels with short edge frames left out, with a note": len(seen.level_sizes) + len(seen.notes) == 5,
        })  # fmt: skip


HEAD = """\
# Interoperability, tried

Written by `make interop` (`tests/interop/interop.py`), outside CI: files that each tool itself wrote for the public
slide {slide}, against what `wsisurv import` makes of them; and what `wsisurv export` writes, read by the tool's own
package where the registry has one, else through the keys that its reader takes. The features of the tools are of small
networks without meaning; numbers, places, sizes and types are compared exactly. wsisurv {ours}.

| tool | version | direction | compared | result |
|---|---|---|---|---|
"""

try:
    TurboJPEG(os.environ.get("TURBOJPEG"))
except (RuntimeError, OSError) as error:
    sys.exit(f"{error}: install libturbojpeg (apt install libturbojpeg0), or say where it is by $TURBOJPEG")
import_all()
export_all()
convert_to_dicom()
lines = [f"| {' | '.join(row)} |" for row in ROWS]
PAGE.write_text(HEAD.format(slide=NAME, ours=version("wsisurv")) + "\n".join(lines) + "\n", encoding="utf-8")
print(json.dumps({"rows": len(ROWS), "not equal": sum(row[4] != "equal" for row in ROWS)}))
sys.exit(any(row[4] != "equal" for row in ROWS))
