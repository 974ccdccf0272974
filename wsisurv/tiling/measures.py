"""Figures of each tile by which later steps can choose without reading pixels: focus and stain."""

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.tiles import Tiles
from wsisurv.slides.reader import Slide, read_tiles

_BATCH_BYTES = 16 << 20  # of pixels at a time
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])  # haematoxylin, eosin, the rest


def measure_tiles(slide: Slide, tiles: Tiles) -> dict[str, NDArray[np.float32]]:
    """Measure every tile of a slide: float32 (n_tiles,) each.

    ``focus`` is the variance of the Laplacian of the grey levels (0 to 255): low where the tile is blurred or empty.
    ``haematoxylin`` and ``eosin`` are mean optical densities of the stains, 0 on white.

    Raises:
        SlideError: the file is damaged.

    Source: Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy; Ruifrok and Johnston 2001,
        Quantification of histochemical staining by color deconvolution.
    """
    count = len(tiles.coords)
    found = {name: np.zeros(count, np.float32) for name in ("focus", "haematoxylin", "eosin")}
    size = max(1, _BATCH_BYTES // (3 * tiles.tile_px**2))
    for start in range(0, count, size):
        rows = slice(start, start + size)
        for number, pixels in enumerate(read_tiles(slide, tiles, rows), start=start):
            found["focus"][number] = _focus(pixels)
            found["haematoxylin"][number], found["eosin"][number] = _stains(pixels)
    return found


def _focus(pixels: NDArray[np.uint8]) -> float:
    grey = pixels.mean(axis=-1, dtype=np.float32)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var(dtype=np.float64))


def _stains(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean density of haematoxylin and eosin: unmixing is linear, so the mean may be unmixed instead of each pixel."""
    counts = np.stack([np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)])
    density = counts @ -np.log10(np.maximum(np.arange(256), 1) / 255) / counts[0].sum()
    unit = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    return np.asarray((density @ np.linalg.inv(unit))[:2])
