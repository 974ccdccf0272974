"""Where each kind of tissue lies on a demo slide, and how much stain it takes up.

Layout is drawn on a coarse grid of ``GRID_UM`` µm; only texture and nuclei are drawn at the scanner's resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from wsisurv.demo.nuclei import Array, Kind, stamp
from wsisurv.demo.population import MorphologyName

GRID_UM = 2.0
"""Side of a cell of the layout, µm."""
_MANTLE_UM = 28.0
"""Width of the dark rim of a lymphoid follicle."""


class Region(IntEnum):
    """What a place on a slide is."""

    GLASS = 0
    STROMA = 1
    DESMOPLASTIC = 2
    GLANDS = 3
    HIGH_GRADE = 4
    NECROSIS = 5
    LYMPHOCYTES = 6
    MUCIN = 7
    FAT = 8
    MUSCLE = 9
    HAEMORRHAGE = 10
    FOLLICLE = 11
    """A lymphoid follicle away from the tumour, which any bowel has."""
    REACTIVE = 12
    """Glands whose nuclei are large but alike."""


@dataclass(frozen=True)
class Layout:
    """A slide's plan; every array is ``(rows, columns)`` of cells of ``GRID_UM``."""

    region: NDArray[np.uint8]
    """Values of ``Region``."""
    epithelium: NDArray[np.bool_]
    """Cells of tumour, as against the stroma and the lumens in between."""
    lumen: NDArray[np.bool_]
    gland_angle: Array
    """Direction from a gland's edge to its middle, radians."""
    fibre: Array
    """Distance across the fibres, µm: they run along its contours."""

    def share(self, region: Region) -> float:
        """Share of the tissue's area."""
        return float((self.region == region).sum() / (self.region != Region.GLASS).sum())


def make_layout(
    random: np.random.Generator, *, width_um: float, height_um: float, shares: Mapping[MorphologyName, float]
) -> Layout:
    """Plan a slide whose tissue holds each morphology at its share of the tissue's area (± a cell).

    Args:
        random: draws everything that ``shares`` leaves open.
        width_um: width of the slide, µm.
        height_um: height of the slide, µm.
        shares: of the tissue's area; ``gland_formation`` of the glandular tumour's.
    """
    shape = (round(height_um / GRID_UM), round(width_um / GRID_UM))
    tissue = _tissue(random, shape)
    area = int(tissue.sum())
    bulk = smooth(random, shape, 240) + 0.35 * smooth(random, shape, 80)
    solid = shares["high_grade_nuclei"] + shares["necrosis"] + shares["mucin"]
    tumour = _densest(bulk, tissue, max(random.uniform(0.38, 0.56), solid + 0.05) * area)
    region = np.where(tissue, Region.STROMA, Region.GLASS).astype(np.uint8)
    region[tumour] = Region.GLANDS

    def grow(kind: Region, where: NDArray[np.bool_], score: NDArray[np.floating], share: float) -> None:
        region[_densest(score, where, share * area)] = kind

    patches = smooth(random, shape, 110) + 0.25 * smooth(random, shape, 30)
    grow(Region.NECROSIS, tumour, patches + 0.5 * bulk, shares["necrosis"])
    grow(Region.HIGH_GRADE, region == Region.GLANDS, smooth(random, shape, 130), shares["high_grade_nuclei"])
    grow(Region.MUCIN, region == Region.GLANDS, smooth(random, shape, 90), shares["mucin"])
    front = 0.8 * smooth(random, shape, 70) + 0.5 * bulk  # lymphocytes gather where stroma meets tumour
    grow(Region.LYMPHOCYTES, region == Region.STROMA, front, shares["lymphocyte_infiltrate"])
    grow(Region.DESMOPLASTIC, region == Region.STROMA, bulk + smooth(random, shape, 120), shares["desmoplastic_stroma"])
    _grow_bystanders(random, region, bulk, area)

    glands = smooth(random, shape, 38) + 0.3 * smooth(random, shape, 14)
    in_glands, in_high = np.isin(region, (Region.GLANDS, Region.REACTIVE)), region == Region.HIGH_GRADE
    epithelium = np.zeros(shape, bool)
    lumen = np.zeros(shape, bool)
    if in_glands.any():
        low, high = np.quantile(glands[in_glands], [0.30, 1 - 0.28 * shares["gland_formation"]])
        epithelium |= in_glands & (glands > low) & (glands <= high)
        lumen |= in_glands & (glands > high)
    if in_high.any():  # solid sheets with thin septa
        epithelium |= in_high & (glands > np.quantile(glands[in_high], 0.08))
    along_y, along_x = np.gradient(glands)
    fibre = _fibre_distance(random, shape)
    return Layout(region, epithelium, lumen, np.arctan2(along_y, along_x).astype(np.float32), fibre)


def _grow_bystanders(random: np.random.Generator, region: NDArray[np.uint8], bulk: Array, area: int) -> None:
    """Add what no report mentions; some of it looks like what drives the hazard."""
    shape = region.shape

    def grow(kind: Region, instead_of: Region, score: NDArray[np.floating], cells: float) -> None:
        region[_densest(score, region == instead_of, cells)] = kind

    grow(Region.REACTIVE, Region.GLANDS, smooth(random, shape, 120), random.uniform(0, 0.12) * area)
    grow(Region.FOLLICLE, Region.STROMA, smooth(random, shape, 110) - 0.6 * bulk, random.uniform(0, 0.045) * area)
    grow(Region.HAEMORRHAGE, Region.STROMA, smooth(random, shape, 80), random.uniform(0, 0.05) * area)
    free = (region == Region.STROMA).sum()
    grow(Region.MUSCLE, Region.STROMA, smooth(random, shape, 220) - 0.5 * bulk, random.uniform(0, 0.6) * free)
    grow(Region.FAT, Region.STROMA, smooth(random, shape, 140) - bulk, random.uniform(0, 0.3) * free)


def smooth(random: np.random.Generator, shape: tuple[int, int], scale_um: float) -> Array:
    """Smooth noise on the layout's grid, mean about 0 and deviation about 1; hills ``scale_um`` µm apart."""
    cells = scale_um / GRID_UM
    coarse = random.standard_normal([int(side / cells) + 4 for side in shape]).astype(np.float32)
    rows, columns = (int(round(side * cells)) for side in coarse.shape)
    top, left = (int(random.integers(int(cells), int(1.9 * cells) + 1)) for _ in shape)
    wide = Image.fromarray(coarse).resize((columns, len(coarse)), Image.Resampling.BICUBIC)  # along, then across:
    wide = wide.crop((left, 0, left + shape[1], len(coarse)))  # columns that nobody sees are not made
    fine = wide.resize((shape[1], rows), Image.Resampling.BICUBIC).crop((0, top, shape[1], top + shape[0]))
    return np.asarray(fine) * np.float32(1.45)


def resize(field: Array, shape: tuple[int, int]) -> Array:
    """``field`` at another size, bicubic."""
    picture = Image.fromarray(np.ascontiguousarray(field, np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _densest(score: NDArray[np.floating], where: NDArray[np.bool_], cells: float) -> NDArray[np.bool_]:
    """The ``cells`` cells of ``where`` with the highest score."""
    inside = score[where]
    count = min(round(cells), len(inside))
    if count == 0:
        return np.zeros_like(where)
    least = np.partition(inside, len(inside) - count)[len(inside) - count]
    return np.asarray(where & (score >= least))


def _tissue(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """One to three pieces of irregular outline on the glass, with a few clefts."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    pieces = int(random.choice([1, 1, 2, 2, 3]))
    mask = np.zeros(shape, bool)
    rough = np.minimum(0.16 * smooth(random, shape, 200), 0.10)
    rough = rough + 0.04 * smooth(random, shape, 45) + 0.02 * smooth(random, shape, 14)
    turn = random.uniform(0, np.pi)
    for piece in range(pieces):
        offset = (piece - (pieces - 1) / 2) * 0.9 / pieces
        centre_y = rows * (0.5 + offset * np.sin(turn) + random.normal(0, 0.015))
        centre_x = columns * (0.5 + offset * np.cos(turn) + random.normal(0, 0.015))
        long, short = 0.43, 0.43 / (pieces**0.75)
        away_y, away_x = (y - centre_y) / rows, (x - centre_x) / columns
        across = away_x * np.cos(turn) + away_y * np.sin(turn)
        along = -away_x * np.sin(turn) + away_y * np.cos(turn)
        mask |= (across / short) ** 2 + (along / long) ** 2 < (1 + rough) ** 2
    edge = 8
    mask[:edge], mask[-edge:], mask[:, :edge], mask[:, -edge:] = False, False, False, False
    cleft = np.abs(smooth(random, shape, 300)) < 0.012 * (smooth(random, shape, 90) > 0.4)
    return np.asarray(mask & ~cleft)


def _fibre_distance(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * GRID_UM
    turn = random.uniform(0, np.pi)
    wave = 45 * smooth(random, shape, 260) + 7 * smooth(random, shape, 60) + 1.2 * smooth(random, shape, 16)
    return np.asarray(x * np.cos(turn) + y * np.sin(turn) + wave, np.float32)


@dataclass(frozen=True)
class Stains:
    """How much of each stain every pixel took up: ``(height, width)`` float32 concentrations, 1 is usual."""

    haematoxylin: Array
    eosin: Array


# haematoxylin, eosin, contrast of fibres, contrast of grain
_BASE: dict[Region, tuple[float, float, float, float]] = {
    Region.GLASS: (0.0, 0.0, 0.0, 0.0),
    Region.STROMA: (0.06, 0.50, 0.17, 0.05),
    Region.DESMOPLASTIC: (0.14, 0.34, 0.11, 0.10),
    Region.GLANDS: (0.10, 0.42, 0.15, 0.08),
    Region.HIGH_GRADE: (0.10, 0.42, 0.15, 0.08),
    Region.NECROSIS: (0.08, 0.58, 0.0, 0.20),
    Region.LYMPHOCYTES: (0.16, 0.26, 0.06, 0.08),
    Region.MUCIN: (0.10, 0.05, 0.05, 0.03),
    Region.FAT: (0.0, 0.02, 0.0, 0.0),
    Region.MUSCLE: (0.10, 0.62, 0.07, 0.05),
    Region.HAEMORRHAGE: (0.02, 0.80, 0.0, 0.26),
    Region.FOLLICLE: (0.16, 0.26, 0.06, 0.08),
    Region.REACTIVE: (0.10, 0.42, 0.15, 0.08),
}
_EPITHELIUM = (0.30, 0.52, 0.0, 0.10)
_HIGH_GRADE_EPITHELIUM = (0.34, 0.46, 0.0, 0.14)
_LUMEN = (0.01, 0.03, 0.0, 0.03)
_SHRINKAGE = (0.93, 1.0, 1.0, 1.07)
"""Shrinkage of nuclei in formalin and wax, one for each slide."""


def stain_tissue(random: np.random.Generator, layout: Layout, *, mpp: float) -> Stains:
    """Draw the layout's tissue at the scanner's resolution.

    Args:
        random: draws texture and nuclei.
        layout: the plan.
        mpp: µm per pixel of the result.
    """
    rows, columns = layout.region.shape
    shape = (round(rows * GRID_UM / mpp), round(columns * GRID_UM / mpp))
    smooth_planes = (ndimage.gaussian_filter(plane, 0.7) for plane in _base_planes(random, layout))
    base_h, base_e, fibres, grain = (resize(plane, shape) for plane in smooth_planes)
    fibre_texture, grain_texture = _FibreTexture.draw(random, layout, shape), _GrainTexture.draw(random, mpp)
    nuclei = np.zeros(shape, np.float32)
    shrinkage = _SHRINKAGE[random.integers(len(_SHRINKAGE))]
    for population in _populations(random, layout):
        places = _places(random, population, mpp)
        angles = population.angle[places.cells[:, 0], places.cells[:, 1]] + random.normal(0, 0.25, len(places.cells))
        stamp(nuclei, population.kind, places.pixels, angles.astype(np.float32), mpp * shrinkage, random)
    stains = Stains(np.empty(shape, np.float32), np.empty(shape, np.float32))
    for band in bands(shape):
        dust = grain[band] * grain_texture.rows(band, shape[1])
        eosin = base_e[band] + fibres[band] * fibre_texture.rows(band)
        eosin += dust
        eosin *= 1 - np.float32(0.45) * np.minimum(nuclei[band], 1)
        np.maximum(eosin, 0, out=stains.eosin[band])
        dust *= np.float32(0.5)
        dust += base_h[band]
        np.maximum(dust, nuclei[band], out=stains.haematoxylin[band])  # never below 0: nuclei aren't
    return stains


def bands(shape: tuple[int, ...]) -> list[slice]:
    """Rows of a picture, a few at a time: what is computed of them stays in the processor's cache."""
    rows = max(1, _BAND_PX // shape[1])
    return [slice(top, min(top + rows, shape[0])) for top in range(0, shape[0], rows)]


def _base_planes(random: np.random.Generator, layout: Layout) -> list[Array]:
    """Mean haematoxylin, mean eosin, fibre contrast and grain contrast on the layout's grid."""
    table = np.array([_BASE[region] for region in Region], np.float32)
    planes = table[layout.region]
    high = layout.region == Region.HIGH_GRADE
    planes[layout.epithelium] = _EPITHELIUM
    planes[layout.epithelium & high] = _HIGH_GRADE_EPITHELIUM
    planes[layout.lumen] = _LUMEN
    shape = layout.region.shape
    planes[..., :2] *= (1 + 0.10 * smooth(random, shape, 160) + 0.06 * smooth(random, shape, 25))[..., None]
    fat = layout.region == Region.FAT
    planes[fat, 1] += _fat_walls(random, shape)[fat]
    mucin = layout.region == Region.MUCIN
    wisps = np.exp(-((smooth(random, shape, 40) + 0.4 * smooth(random, shape, 16)) ** 2) / 0.02)
    planes[mucin, 0] += 0.16 * wisps[mucin]
    return list(np.moveaxis(planes, -1, 0))


def _fat_walls(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Eosin of the thin walls between fat cells about 60 µm wide."""
    places = _jittered(random, shape, 60 / GRID_UM)
    seeds = np.zeros(shape, np.int32)
    seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
    owners = seeds[tuple(ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True))]
    walls = (ndimage.maximum_filter(owners, 3) != owners).astype(np.float32)
    return np.asarray(0.5 * walls, np.float32)


_TEXTURE = 1024
_BAND_PX = 1 << 16


@lru_cache(maxsize=1)
def _fibre_tile() -> Array:
    """Fibres that run along the second axis; deviation 1, repeats without a seam."""
    random = np.random.default_rng(11)
    noise = random.standard_normal((_TEXTURE, _TEXTURE)).astype(np.float32)
    fibres = np.zeros_like(noise)
    for across, along, weight in ((1.2, 12, 0.8), (3, 24, 1.0), (8, 50, 0.6)):
        band = ndimage.gaussian_filter(noise, (across, along), mode="wrap")
        fibres += weight * band / band.std()
    fibres = np.tanh(fibres / fibres.std())  # neither holes nor ropes
    return np.asarray(fibres / fibres.std(), np.float32)


@lru_cache(maxsize=8)
def _grain_tile(mpp: float) -> Array:
    random = np.random.default_rng(12)
    noise = random.standard_normal((_TEXTURE, _TEXTURE)).astype(np.float32)
    fine, coarse = (ndimage.gaussian_filter(noise, um / mpp, mode="wrap") for um in (0.5, 2.2))
    grain = fine / fine.std() + coarse / coarse.std()
    return np.asarray(grain / grain.std(), np.float32)


@dataclass(frozen=True)
class _FibreTexture:
    """Wavy fibres: a picture of straight ones looked up at the layout's distance across them."""

    across: Array
    """``(height, width)``, µm."""
    along_y: NDArray[np.float64]
    """What a row, and below what a column, adds to the place along the fibres, in half µm: the picture's pixels."""
    along_x: NDArray[np.float64]

    @classmethod
    def draw(cls, random: np.random.Generator, layout: Layout, shape: tuple[int, int]) -> "_FibreTexture":
        along_y, along_x = np.ogrid[: shape[0], : shape[1]]
        scale = GRID_UM * layout.region.shape[0] / shape[0] * 2
        turn = random.uniform(-0.5, 0.5)
        return cls(resize(layout.fibre, shape), along_y * scale * np.cos(turn), along_x * scale * np.sin(turn))

    def rows(self, band: slice) -> Array:
        across = (self.across[band] * np.float32(2)).astype(np.int32)
        along = (self.along_y[band] - self.along_x).astype(np.int32)
        across &= _TEXTURE - 1
        along &= _TEXTURE - 1
        across *= _TEXTURE
        across += along
        return _fibre_tile().ravel().take(across)


@dataclass(frozen=True)
class _GrainTexture:
    """Grain that repeats after ``_TEXTURE`` pixels, each way."""

    tile: Array

    @classmethod
    def draw(cls, random: np.random.Generator, mpp: float) -> "_GrainTexture":
        return cls(np.roll(_grain_tile(mpp), random.integers(_TEXTURE, size=2), (0, 1)))

    def rows(self, band: slice, width: int) -> Array:
        rows = self.tile[np.arange(band.start, band.stop) % _TEXTURE]
        return np.tile(rows, (1, -(-width // _TEXTURE)))[:, :width]


@dataclass(frozen=True)
class _Population:
    """Nuclei of a kind; arrays on the layout's grid."""

    kind: Kind
    chance: Array
    """Share of the places that is taken."""
    spacing_um: float
    """Between neighbouring places."""
    angle: Array
    """Direction of the long axis, radians."""


def _populations(random: np.random.Generator, layout: Layout) -> list[_Population]:
    region = layout.region
    anywhere = random.uniform(0, np.pi, region.shape).astype(np.float32)
    along_y, along_x = np.gradient(layout.fibre)
    fibres = np.asarray(np.arctan2(along_y, along_x) + np.pi / 2, np.float32)
    high = layout.epithelium & (region == Region.HIGH_GRADE)
    loose = (
        np.isin(region, (Region.STROMA, Region.GLANDS, Region.REACTIVE, Region.HIGH_GRADE))
        & ~layout.epithelium
        & ~layout.lumen
    )
    reactive = layout.epithelium & (region == Region.REACTIVE)
    follicle = region == Region.FOLLICLE
    centre = ndimage.distance_transform_edt(follicle) * GRID_UM > _MANTLE_UM
    solid = (region != Region.GLASS) & (region != Region.FAT) & ~layout.lumen
    lymphocytes = _feathered(region == Region.LYMPHOCYTES, 7) * solid

    def of(kind: Kind, chance: NDArray[np.floating], spacing_um: float, angle: Array) -> _Population:
        return _Population(kind, chance.astype(np.float32), spacing_um, angle)

    return [
        of("regular", 0.92 * (layout.epithelium & ~high & ~reactive), 8.0, layout.gland_angle),
        of("high_grade", 0.92 * high, 13.5, anywhere),
        of("reactive", 0.92 * reactive, 11.0, layout.gland_angle),
        of("mitosis", 0.35 * high, 40.0, anywhere),
        of("spindle", 0.5 * loose, 24.0, fibres),
        of("spindle", 0.8 * (region == Region.DESMOPLASTIC), 16.0, fibres),
        of("spindle", 0.6 * (region == Region.MUSCLE), 24.0, fibres),
        of("lymphocyte", 0.95 * lymphocytes, 6.4, anywhere),
        of("lymphocyte", 0.95 * (follicle & ~centre), 6.4, anywhere),
        of("germinal", 0.95 * centre, 8.5, anywhere),
        of("lymphocyte", 0.3 * loose, 45.0, anywhere),
        of("debris", 0.7 * (region == Region.NECROSIS), 11.0, anywhere),
        of("ghost", 0.5 * (region == Region.NECROSIS), 20.0, anywhere),
        of("debris", random.uniform(0, 0.6) * layout.lumen, 40.0, anywhere),
    ]


def _feathered(mask: NDArray[np.bool_], reach_um: float) -> Array:
    """A mask whose edge fades out over about ``reach_um`` to either side."""
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), reach_um / GRID_UM))


def _jittered(random: np.random.Generator, shape: tuple[int, int], spacing: float) -> NDArray[np.int64]:
    """Places ``(n, 2)`` on a staggered grid, each moved by up to 0.42 of ``spacing``, inside ``shape``."""
    rows = np.arange(0, shape[0], spacing * 0.87)
    columns = np.arange(0, shape[1], spacing)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    places[1::2, :, 1] += spacing / 2
    places = places.reshape(-1, 2) + random.uniform(-0.42, 0.42, (places.size // 2, 2)) * spacing
    inside = ((places >= 0) & (places < np.array(shape))).all(axis=1)
    return places[inside].astype(np.int64)


@dataclass(frozen=True)
class _Places:
    """Centres of nuclei ``(n, 2)`` in pixels, and the layout's cells that they lie in."""

    pixels: NDArray[np.int64]
    cells: NDArray[np.int64]


def _places(random: np.random.Generator, population: _Population, mpp: float) -> _Places:
    grid = population.chance.shape
    pixels = _jittered(
        random, (int(grid[0] * GRID_UM / mpp), int(grid[1] * GRID_UM / mpp)), population.spacing_um / mpp
    )
    cells = np.minimum((pixels * (mpp / GRID_UM)).astype(np.int64), np.array(grid) - 1)
    kept = random.random(len(cells)) < population.chance[cells[:, 0], cells[:, 1]]
    return _Places(pixels[kept], cells[kept])
