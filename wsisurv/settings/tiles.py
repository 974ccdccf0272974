"""Settings of tiling."""

from typing import Literal

from pydantic import Field

from wsisurv.settings.base import Settings


class TileSettings(Settings):
    """How slides are cut into tiles."""

    tile_px: int = Field(224, ge=16, le=4096, description="Side of a tile in pixels, at --tile-mpp.")
    tile_mpp: float = Field(
        0.5,
        gt=0.05,
        le=32,
        description="Resolution of a tile, µm per pixel; exact, never rounded to a magnification.",
    )
    overlap_px: int = Field(0, ge=0, description="Overlap of neighbouring tiles in pixels, at --tile-mpp.")
    tissue: Literal["otsu", "hsv", "entropy"] = Field(
        "otsu",
        description="Tissue detection by optical density (otsu), fixed thresholds of colour (hsv) or texture "
        "(entropy).",
    )
    tissue_mpp: float = Field(8.0, gt=0, le=64, description="Resolution at which tissue is detected, µm per pixel.")
    min_tissue: float = Field(
        0.5, ge=0, le=1, description="Smallest share of tissue in a tile; tiles with less are left out."
    )
    # both about the area of one default tile
    min_piece_um2: float = Field(10_000.0, ge=0, description="Smallest piece of tissue that is used, µm².")
    max_hole_um2: float = Field(10_000.0, ge=0, description="Largest hole in the tissue that is filled, µm².")
    keep_artefacts: bool = Field(
        False, description="Keep pen marks, black edges, lines, bubble rims and folds as tissue."
    )
    measures: bool = Field(
        False, description="Measure and store focus and stain of each tile; reads the pixels of every tile."
    )
    slide_mpp: float | None = Field(
        None,
        gt=0.01,
        le=32,
        description="Resolution of every slide at level 0 (full size), µm per pixel; it goes before what the files "
        "state. For some slides only, see --mpp-table.",
    )
