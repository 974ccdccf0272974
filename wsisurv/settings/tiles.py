"""Settings of tiling."""

from typing import Literal

from pydantic import (
    Field,
)

from wsisurv.settings.base import Settings


class TileSettings(Settings):
    """How slides are cut into tiles."""

    tile_px: int = Field(224, ge=16, le=4096)
    """Side of a tile in pixels at ``tile_mpp``."""
    tile_mpp: float = Field(0.5, gt=0.05, le=32)
    """Resolution of a tile, µm per pixel; exact, not rounded to a magnification."""
    overlap_px: int = Field(0, ge=0)
    """Pixels at ``tile_mpp`` that neighbours share."""
    min_tissue: float = Field(0.5, ge=0, le=1)
    """A tile is kept when at least this share of its area is tissue."""
    tissue: Literal["otsu", "hsv", "entropy"] = "otsu"
    """How tissue is told from glass."""
    tissue_mpp: float = Field(8.0, gt=0, le=64)
    """Resolution of the view on which tissue is found, µm per pixel."""
    min_piece_um2: float = Field(10_000.0, ge=0)
    """Smaller specks of tissue are left out; about the area of one default tile."""
    max_hole_um2: float = Field(10_000.0, ge=0)
    """Smaller holes in the tissue are filled."""
    keep_artefacts: bool = False
    """Keep pen marks, black edges, lines, bubble rims and folds as tissue."""
    measures: bool = False
    """Store focus and stain densities of each tile, for which its pixels are read."""
    slide_mpp: float | None = Field(None, gt=0.01, le=32)
    """Level-0 resolution given by the user; overrides the file's, µm per pixel."""
