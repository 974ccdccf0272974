"""The demo's slides as files: stains become colour, a pen mark on some, and a tiled pyramid that OpenSlide opens."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsisurv.demo.population import DemoCase, Hospital
from wsisurv.demo.tissue import Layout, Stains, bands, make_layout, resize, stain_tissue
from wsisurv.formats.atomic import replacing

_TILE_PX = 256
_LEVELS = 3
_QUALITY = 85
_PENS = ((25, 45, 150), (20, 95, 60), (25, 25, 30))
_PEN_SHARE = 0.15
# Standard deviations of logarithms, from slide to slide of one hospital
_THICKNESS_SPREAD = 0.08
_DAY_SPREAD = 0.12
_HUE_SPREAD = 0.05
_SIDE, _SMALL_SIDE = (64, 71), (36, 40)
"""Least side of a slide and what is above all, in steps of 16 µm: 1,024 to 1,104 µm; small ones 576 to 624 µm."""


def make_slide(path: Path, case: DemoCase, *, letter: int, seed: int, small: bool = False) -> None:
    """Draw one slide of a case and write it.

    Args:
        path: the TIFF to write; whole or not at all.
        case: whose slide; its shares of morphologies and its hospital.
        letter: 0 for the case's first slide, 1 for the second.
        seed: the cohort's seed.
        small: draw a third of the area.

    Raises:
        StorageError: no room or no permission.
    """
    random = np.random.default_rng([seed, 2, case.number, letter])
    width_um, height_um = (16.0 * int(random.integers(*(_SMALL_SIDE if small else _SIDE))) for _ in range(2))
    layout = make_layout(random, width_um=width_um, height_um=height_um, shares=case.shares)
    stains = stain_tissue(random, layout, mpp=case.hospital.mpp)
    pixels = colour(random, stains, case.hospital)
    if random.random() < _PEN_SHARE:
        mark_with_pen(random, pixels, layout)
    write_pyramid(path, pixels, mpp=case.hospital.mpp)


def colour(random: np.random.Generator, stains: Stains, hospital: Hospital) -> NDArray[np.uint8]:
    """Light through the stained tissue: ``(height, width, 3)`` RGB.

    Source: Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001 (Beer-Lambert).
    """
    thickness = np.exp(_THICKNESS_SPREAD * random.standard_normal())
    day = thickness * np.exp(_DAY_SPREAD * random.standard_normal(2))  # one batch of stain is not as the next
    hue = np.exp(_HUE_SPREAD * random.standard_normal((2, 3)))
    shape = stains.eosin.shape
    noise = random.integers(-2, 3, shape, dtype=np.int8)  # the sensor's, about one grey level
    pixels = np.empty((*shape, 3), np.uint8)
    for band in bands(shape):
        h = stains.haematoxylin[band] * np.float32(hospital.strength[0] * day[0])
        e = stains.eosin[band] * np.float32(hospital.strength[1] * day[1])
        for channel in range(3):
            light = h * np.float32(hospital.haematoxylin[channel] * hue[0, channel])
            light += e * np.float32(hospital.eosin[channel] * hue[1, channel])
            np.exp(np.negative(light, out=light), out=light)
            light *= np.float32(hospital.glass[channel])
            light += noise[band]
            pixels[band, :, channel] = np.clip(light, 0, 255, out=light)
    return pixels


def mark_with_pen(random: np.random.Generator, pixels: NDArray[np.uint8], layout: Layout) -> None:
    """Draw a pathologist's felt pen on the slide, in place, mostly beside the tissue."""
    rows, columns = layout.region.shape
    picture = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(picture)
    centre_y, centre_x = random.choice([0.12, 0.88], size=2) * (rows, columns)
    turns = np.linspace(0, random.uniform(2.5, 5.5), 200) + random.uniform(0, 2 * np.pi)
    reach = random.uniform(0.08, 0.12) * rows * (1 + 0.12 * np.sin(2 * turns))
    tip = random.uniform(6, 11)
    for x, y in zip(centre_x + reach * np.cos(turns), centre_y + reach * np.sin(turns), strict=True):
        draw.ellipse((x - tip, y - tip, x + tip, y + tip), fill=255)
    ink = resize(np.asarray(picture, np.float32) / np.float32(255), pixels.shape[:2]) * np.float32(
        random.uniform(0.75, 0.92)
    )
    inked = np.nonzero(ink > 0.01)
    strength = ink[inked][:, None]
    pen = np.array(_PENS[random.integers(len(_PENS))], np.float32)
    pixels[inked] = pixels[inked] * (1 - strength + strength * pen / 255)


def write_pyramid(path: Path, pixels: NDArray[np.uint8], *, mpp: float) -> None:
    """Write a tiled, JPEG-compressed TIFF of three levels, each half the one before; no time stamp in it.

    Args:
        path: where to.
        pixels: ``(height, width, 3)`` RGB, level 0.
        mpp: µm per pixel of level 0.

    Raises:
        StorageError: no room or no permission.
    """
    with replacing(path) as partial, tifffile.TiffWriter(partial) as tiff:
        level = pixels
        for number in range(_LEVELS):
            per_cm = 10_000 / mpp * level.shape[1] / pixels.shape[1]
            tiff.write(
                level,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": _QUALITY},
                tile=(_TILE_PX, _TILE_PX),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(number > 0),
                description="Synthetic demo slide made by wsisurv: no patient" if number == 0 else None,
                metadata=None,
                software=False,
                maxworkers=1,
            )
            level = _halved(level)


def _halved(level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = level.shape[0] // 2, level.shape[1] // 2
    mean = np.empty((rows, columns, 3), np.uint8)
    for band in bands(mean.shape):
        even = level[2 * band.start : 2 * band.stop, : 2 * columns]
        pairs = np.add(even[::2], even[1::2], dtype=np.uint16)
        mean[band] = (pairs[:, ::2] + pairs[:, 1::2] + np.uint16(2)) >> 2
    return mean
