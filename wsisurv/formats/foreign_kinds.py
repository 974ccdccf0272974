"""What is told of tiles and features that another tool made, whatever its files look like."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal[
    "STAMP",
    "TRIDENT",
    "CLAM",
    "Mussel",
    "AtlasPatch",
    "hs2p",
    "slide2vec",
    "LazySlide",
    "SpatialData",
    "QuPath",
    "torch",
]
Level = Literal["tile", "slide", "patient"]
"""What a row of features is of."""


@dataclass(frozen=True)
class ForeignTiles:
    """Tiles of one slide as another tool left them."""

    layout: Layout  # whose file it is
    slide_id: str  # the slide
    # int64 (n_tiles, 2), top left in level-0 pixels; of QuPath from the corner of what was scanned
    coords: NDArray[np.int64]
    tile_px: int | None  # side of a tile in pixels; None where the file doesn't say
    tile_level0_px: float  # side of a tile in level-0 pixels
    overlap_px: int | None  # pixels that neighbours share, at the tile's resolution; None where the file doesn't say
    level0_width: int | None  # of the slide, pixels; None where the file doesn't say
    level0_height: int | None  # of the slide, pixels; None where the file doesn't say
    tile_mpp: float | None = None  # µm per pixel of a tile, or None
    mpp: float | None = None  # µm per pixel of the slide at level 0 as the tool took it, or None
    version: str = ""  # of the tool; empty where nothing says it
    tissue: NDArray[np.float32] | None = None  # (n_tiles,), share of each tile that is tissue, or None
    settings: Mapping[str, object] = field(default_factory=dict)  # of the tool, as its file says them (JSON object)


@dataclass(frozen=True)
class FeaturesOutline:
    """What a file of features holds."""

    n_features: int  # columns
    dtype: str  # of the numbers, by numpy's name
    level: Level  # what a row is of
    encoder: str | None  # what the file calls its encoder, or None


@dataclass(frozen=True)
class ForeignFeatures:
    """Features of one slide or patient as another tool left them."""

    layout: Layout  # whose file it is
    values: NDArray[np.floating]  # (n_tiles, n_features), or one row of a whole slide; the file's own float type
    # (n_tiles, 2), the tiles' top left; in µm for STAMP, else in level-0 pixels; None where nothing says it
    coords: NDArray[Any] | None
    encoder: str | None  # what the file calls its encoder, or None
    tile_px: int | None = None  # side of a tile in pixels, or None
    tile_mpp: float | None = None  # µm per pixel of a tile, or None
    tile_level0_px: float | None = None  # side of a tile in level-0 pixels, or None
    mpp: float | None = None  # µm per pixel of the slide at level 0 as the tool took it, or None
    level: Level = "tile"  # what a row is of
    version: str = ""  # of the tool; empty where nothing says it
    settings: Mapping[str, object] = field(default_factory=dict)  # of the tool, as its file says them (JSON object)

    @property
    def outline(self) -> FeaturesOutline:
        """The same without the numbers."""
        width = self.values.shape[-1] if self.values.ndim else 0
        return FeaturesOutline(width, str(self.values.dtype), self.level, self.encoder)
