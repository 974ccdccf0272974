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
    overlap_px: int = Field(0, ge=0, description="Overlap: pixels at --tile-mpp that neighbours share.")
    tissue: Literal["otsu", "hsv", "entropy"] = Field(
        "otsu",
        description="Tissue detection by optical density (otsu), fixed thresholds of colour (hsv) or texture "
        "(entropy).",
    )
    tissue_mpp: float = Field(
        8.0, gt=0, le=64, description="Resolution of the view on which tissue is found, µm per pixel."
    )
    min_tissue: float = Field(
        0.5, ge=0, le=1, description="Least share of a tile's area that is tissue; tiles with less are left out."
    )
    # both about the area of one default tile
    min_piece_um2: float = Field(10_000.0, ge=0, description="Least area of a piece of tissue, µm²; less is left out.")
    max_hole_um2: float = Field(10_000.0, ge=0, description="Largest hole in the tissue that is filled, µm².")
    keep_artefacts: bool = Field(
        False, description="Pen marks, black edges, lines, bubble rims and folds are kept as tissue."
    )
    measures: bool = Field(False, description="Focus and stain of each tile are stored too; reads every tile.")
    slide_mpp: float | None = Field(
        None,
        gt=0.01,
        le=32,
        description="Resolution at level 0 of every slide, µm per pixel, where the files don't say or are wrong.",
    )
