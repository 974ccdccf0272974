"""The embedded encoder: what a pathologist could name, measured tile by tile, with nothing to download.

``COLUMNS`` says what each number is. The arithmetic is on whole batches, and a tile's numbers don't depend on
which batch it is in.
"""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.spatial import KDTree

from wsisurv.embedding.columns import COLUMNS, TEXTURE_UM
from wsisurv.embedding.nuclei import Floats, Nuclei, find_nuclei, histograms, quantile
from wsisurv.embedding.stains import Planes, StainPlanes, separate_stains

_BATCH_PX = 8 * 224 * 224
"""Pixels worked on at once: fewer leave threads no time to share the interpreter, more leave the cache."""
_WORKING_MPP = 0.5
_MIN_SIDE = 16
"""A small tile is not averaged below this, pixels."""
_FAR_UM = 30.0
_QUADRATS = 4
_MAX_AREA_UM2 = 2000.0


def histomics(tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
    """Measure tiles.

    Tiles of 0.25 µm/px or finer are first averaged to 0.5 µm/px or the next finer whole step.

    Args:
        tiles: uint8 (n_tiles, side, side, 3), RGB.
        tile_mpp: µm per pixel.

    Returns:
        float32 (n_tiles, len(COLUMNS)), all finite.
    """
    values = np.empty((len(tiles), len(COLUMNS)), np.float32)
    size = max(1, _BATCH_PX // (tiles.shape[1] * tiles.shape[2]))
    for start in range(0, len(tiles), size):
        measured = _measure(tiles[start : start + size], tile_mpp)
        for index, column in enumerate(COLUMNS):
            values[start : start + size, index] = measured[column.name]
    return values


def _measure(tiles: NDArray[np.uint8], mpp: float) -> dict[str, Floats]:
    coarser = max(1, min(int(_WORKING_MPP / mpp + 1e-6), min(tiles.shape[1:3]) // _MIN_SIDE))
    if coarser > 1:
        tiles, mpp = np.rint(_average(tiles, coarser)).astype(np.uint8), mpp * coarser
    stains = separate_stains(tiles)
    nuclei = find_nuclei(stains.haematoxylin, stains.tissue, mpp)
    tissue_px = stains.tissue.sum(axis=(1, 2))
    return {
        **_colour(tiles, stains, tissue_px),
        **_stain("haematoxylin", stains.haematoxylin, stains, tissue_px, mpp),
        **_stain("eosin", stains.eosin, stains, tissue_px, mpp),
        **_pattern(stains, mpp),
        **_nuclei(nuclei, stains, tissue_px, mpp),
    }


def _average(planes: NDArray[Any], side: int) -> Planes:
    """Mean of each block of ``side`` × ``side`` pixels; rows and columns that don't fill a block are left out.

    Sums of slices, rows first: several times faster than a mean over two axes of a reshaped array.
    """
    rows, columns = planes.shape[1] // side, planes.shape[2] // side
    cut = planes[:, : rows * side, : columns * side].astype(np.float32, copy=False)
    total: Planes = reduce(np.add, (cut[:, start::side] for start in range(side)))
    total = reduce(np.add, (total[:, :, start::side] for start in range(side)))
    return np.divide(total, np.float32(side * side))


def _step_of_1um(planes: NDArray[Any], mpp: float) -> int:
    """Pixels in about 1 µm; fewer where a small tile would not leave eight such steps a side."""
    return max(1, min(round(1 / mpp), int(min(planes.shape[1:3])) // (_MIN_SIDE // 2)))


def _over(amount: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """``amount / whole``, and 0 where the whole is 0."""
    return np.where(whole > 0, amount / np.where(whole > 0, whole, 1), 0.0)


def _total(planes: NDArray[Any], weight: Planes) -> Floats:
    """Sum of each tile's pixels (n_tiles,), those counted whose weight is 1 and not 0."""
    total: NDArray[np.float32] = np.multiply(planes, weight, dtype=np.float32).sum(axis=(1, 2))
    return total.astype(np.float64)


def _colour(tiles: NDArray[np.uint8], stains: StainPlanes, tissue_px: NDArray[np.int64]) -> dict[str, Floats]:
    tissue, haematoxylin, eosin = stains.tissue, stains.haematoxylin, stains.eosin
    pale = tissue & (stains.density < 0.16)
    pink = tissue & (eosin > 0.15) & (eosin > 4 * haematoxylin)

    def share(mask: NDArray[np.bool_]) -> Floats:
        return _over(mask.sum(axis=(1, 2)), tissue_px)

    red_blue = _total(tiles[..., 0], stains.weight) / np.maximum(_total(tiles[..., 2], stains.weight), 1)
    rest_mean = _over(_total(stains.rest, stains.weight), tissue_px)
    return {
        "white_share": 1 - tissue.mean(axis=(1, 2)),
        "pale_share": share(pale),
        "pale_blue_share": share(pale & (haematoxylin > eosin)),
        "pink_share": share(pink),
        "red_share": share(pink & (eosin > 0.6)),
        "foreign_share": share(tissue & (np.abs(stains.rest) > 0.2)),
        "red_blue_ratio": np.where(tissue.any(axis=(1, 2)), red_blue.clip(max=10), 1.0),
        "density_mean": _over(_total(stains.density, stains.weight), tissue_px),
        "rest_mean": rest_mean,
        "rest_sd": np.sqrt((_over(_total(stains.rest**2, stains.weight), tissue_px) - rest_mean**2).clip(min=0)),
        **_hue(stains, tissue_px),
    }


def _hue(stains: StainPlanes, tissue_px: NDArray[np.int64]) -> dict[str, Floats]:
    weight, haematoxylin, eosin = stains.weight, stains.haematoxylin, stains.eosin
    total_h, total_e = _total(haematoxylin.clip(min=0), weight), _total(eosin.clip(min=0), weight)
    mean_h = _over(_total(haematoxylin, weight), tissue_px)
    mean_e = _over(_total(eosin, weight), tissue_px)
    dh = (haematoxylin - mean_h.astype(np.float32)[:, None, None]) * weight
    de = (eosin - mean_e.astype(np.float32)[:, None, None]) * weight
    spread = np.sqrt(_total(dh * dh, weight) * _total(de * de, weight))
    return {
        "haematoxylin_share": _over(total_h, total_h + total_e),
        "stain_correlation": _over(_total(dh * de, weight), spread),
    }


def _stain(
    name: str, planes: Planes, stains: StainPlanes, tissue_px: NDArray[np.int64], mpp: float
) -> dict[str, Floats]:
    counts = histograms(planes, stains.tissue)
    mean = _over(_total(planes, stains.weight), tissue_px)
    variance = (_over(_total(planes * planes, stains.weight), tissue_px) - mean**2).clip(min=0)
    features = {
        f"{name}_mean": mean,
        f"{name}_sd": np.sqrt(variance),
        f"{name}_p10": quantile(counts, 0.1),
        f"{name}_p50": quantile(counts, 0.5),
        f"{name}_p90": quantile(counts, 0.9),
        **{f"{name}_texture_{2 * um}um": share for um, share in _textures(planes, mpp).items()},
    }
    if name == "haematoxylin":
        shares = _over(counts.reshape(len(counts), -1, 8).sum(axis=2), counts.sum(axis=1)[:, None])
        features["haematoxylin_entropy"] = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1)
    return features


def _textures(planes: Planes, mpp: float) -> dict[int, Floats]:
    """Share of the variance that is lost when blocks of each scale are averaged to blocks of twice its side."""
    scaled = _average(planes, _step_of_1um(planes, mpp))
    whole = scaled.var(axis=(1, 2), dtype=np.float64)
    shares: dict[int, Floats] = {}
    for um in TEXTURE_UM:
        if min(scaled.shape[1:]) < 2:  # a tile smaller than the scale
            shares[um] = np.zeros(len(planes))
            continue
        coarse = _average(scaled, 2)
        lost = (_average(scaled * scaled, 2) - coarse * coarse).mean(axis=(1, 2))
        scaled = coarse
        # Below the noise of 8-bit pixels there is no texture.
        shares[um] = np.where(whole > 1e-5, _over(lost, whole), 0.0).clip(0, 1)
    return shares


def _pattern(stains: StainPlanes, mpp: float) -> dict[str, Floats]:
    """Alignment of gradients (structure tensor) and local binary patterns, at about 1 µm a pixel.

    Source: Ojala, Pietikäinen and Mäenpää, Multiresolution gray-scale and rotation invariant texture
    classification with local binary patterns, 2002; the eight neighbours unweighted.
    """
    step = _step_of_1um(stains.tissue, mpp)
    eosin = _average(stains.eosin, step)
    down, right = eosin[:, 2:, 1:-1] - eosin[:, :-2, 1:-1], eosin[:, 1:-1, 2:] - eosin[:, 1:-1, :-2]
    strength, stretch, shear = down**2 + right**2, right**2 - down**2, 2 * right * down

    def alignment(side: int) -> Floats:
        power, along, across = (_average(part, side) for part in (strength, stretch, shear))
        return _over(np.hypot(along, across).sum(axis=(1, 2)), power.sum(axis=(1, 2)))

    density = _average(stains.density, step)
    height, width = density.shape[1] - 2, density.shape[2] - 2
    around = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    # A grain of 0.01 OD: what differs by less is the camera, and counts as lighter.
    middle = density[:, 1:-1, 1:-1] + np.float32(0.01)
    darker = [density[:, y : y + height, x : x + width] > middle for y, x in around]
    ones = reduce(np.add, [side.astype(np.uint8) for side in darker])
    changes = reduce(np.add, [(a ^ b).astype(np.uint8) for a, b in zip(darker, [*darker[1:], darker[0]], strict=True)])
    regular = changes <= 2
    return {
        "fibre_coherence": alignment(max(2, round(16 / (step * mpp)))),
        "fibre_alignment": alignment(min(height, width)),
        "edge_share": (regular & (ones >= 3) & (ones <= 5)).mean(axis=(1, 2)),
        "spot_share": (ones == 8).mean(axis=(1, 2)),
        "irregular_share": (~regular).mean(axis=(1, 2)),
    }


def _nuclei(nuclei: Nuclei, stains: StainPlanes, tissue_px: NDArray[np.int64], mpp: float) -> dict[str, Floats]:
    n_tiles, height, width = stains.tissue.shape
    tile, tissue_mm2 = nuclei.tile, tissue_px * (mpp / 1000) ** 2
    count, area = np.bincount(tile, minlength=n_tiles), np.minimum(nuclei.area, _MAX_AREA_UM2)
    nuclei_px = nuclei.mask.sum(axis=(1, 2))

    def total(values: NDArray[Any]) -> Floats:
        return np.bincount(tile, weights=values, minlength=n_tiles).astype(np.float64, copy=False)

    def mean(values: NDArray[Any]) -> Floats:
        return _over(total(values), count)

    def sd(values: Floats) -> Floats:
        return np.sqrt(mean((values - mean(values)[tile]) ** 2))

    lymphocyte = (nuclei.area >= 12) & (nuclei.area <= 45) & (nuclei.eccentricity < 0.75) & (nuclei.fill > 0.9)
    largest = np.zeros(n_tiles)
    np.maximum.at(largest, tile, area)
    inside = nuclei.mask.astype(np.float32)
    stain_inside = _over(_total(stains.haematoxylin, inside), nuclei_px)
    stain_around = _over(_total(stains.haematoxylin, stains.weight - inside), tissue_px - nuclei_px)
    axes = nuclei.eccentricity * np.exp(2j * nuclei.angle)
    far = uniform_filter(inside, (0, *(2 * [max(1, round(_FAR_UM / mpp))]))) < 1e-4
    return {
        "nuclei_density": _over(count / 1000, tissue_mm2),
        "nuclei_area_share": _over(nuclei_px, tissue_px),
        "nuclei_area_mean": mean(area),
        "nuclei_area_sd": sd(area),
        "nuclei_area_max": largest,
        "large_nuclei_share": mean(nuclei.area > 70),
        "nuclei_eccentricity_mean": mean(nuclei.eccentricity),
        "nuclei_eccentricity_sd": sd(nuclei.eccentricity),
        "spindle_share": mean(nuclei.eccentricity > 0.9),
        "nuclei_fill_mean": mean(nuclei.fill),
        "nuclei_haematoxylin_mean": stain_inside,
        "nuclei_haematoxylin_sd": sd(nuclei.haematoxylin),
        "nuclei_contrast": np.where(count > 0, stain_inside - stain_around, 0.0),
        "nuclei_chromatin": mean(nuclei.chromatin),
        "nuclei_threshold": nuclei.threshold,
        "nuclei_alignment": _over(np.hypot(total(axes.real), total(axes.imag)), total(nuclei.eccentricity)),
        "lymphocyte_density": _over(total(lymphocyte) / 1000, tissue_mm2),
        "lymphocyte_share": mean(lymphocyte),
        "nucleus_free_share": _over((far & stains.tissue).sum(axis=(1, 2)), tissue_px),
        "speck_density": _over(nuclei.specks / 1000, tissue_mm2),
        **_neighbours(nuclei, count, side_um=max(height, width) * mpp),
        "nuclei_clustering": _clustering(nuclei, n_tiles, side_um=max(height, width) * mpp),
    }


def _neighbours(nuclei: Nuclei, count: NDArray[np.int64], side_um: float) -> dict[str, Floats]:
    """Distances to the nearest nucleus of the same tile: one tree, its tiles laid far apart."""
    alone = count < 2
    distance = np.full(len(nuclei.tile), side_um)
    if len(nuclei.tile) > 1:
        points = np.stack([nuclei.x + 10 * side_um * nuclei.tile, nuclei.y], axis=1)
        distance = np.minimum(KDTree(points).query(points, k=2)[0][:, 1], 2 * side_um)
    mean = _over(np.bincount(nuclei.tile, distance, len(count)), count)
    variance = _over(np.bincount(nuclei.tile, (distance - mean[nuclei.tile]) ** 2, len(count)), count)
    return {
        "neighbour_distance_mean": np.where(alone, side_um, mean),
        "neighbour_distance_sd": np.where(alone, 0.0, np.sqrt(variance)),
    }


def _clustering(nuclei: Nuclei, n_tiles: int, side_um: float) -> Floats:
    column = np.minimum(nuclei.x * _QUADRATS / side_um, _QUADRATS - 1).astype(np.int64)
    row = np.minimum(nuclei.y * _QUADRATS / side_um, _QUADRATS - 1).astype(np.int64)
    square = (nuclei.tile * _QUADRATS + row) * _QUADRATS + column
    counts = np.bincount(square, minlength=n_tiles * _QUADRATS**2).reshape(n_tiles, -1)
    return _over(counts.var(axis=1), counts.mean(axis=1))
