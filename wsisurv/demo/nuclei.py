"""Nuclei of the demo's tissue: small pictures drawn once, then stamped by the thousand."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Kind = Literal["regular", "high_grade", "mitosis", "lymphocyte", "spindle", "debris", "ghost", "reactive", "germinal"]

_VARIANTS = 12
_ANGLES = 16


@dataclass(frozen=True)
class _Look:
    """How nuclei of a kind look; lengths in µm, density as concentration of haematoxylin."""

    length: tuple[float, float]
    elongation: tuple[float, float]
    density: tuple[float, float]
    irregular: float
    """How far the outline strays, as a share of the radius."""
    clumps: float
    """Contrast of the chromatin."""
    rim: float
    """Extra density of the membrane."""
    nucleoli: int = 0


_LOOKS: dict[Kind, _Look] = {
    "regular": _Look((8.0, 10.5), (1.5, 2.1), (0.85, 1.1), 0.05, 0.22, 0.15),
    "high_grade": _Look((11.0, 17.0), (1.05, 1.6), (0.65, 1.25), 0.14, 0.45, 0.35, nucleoli=2),
    "mitosis": _Look((8.0, 11.0), (1.8, 3.2), (1.7, 2.0), 0.35, 0.15, 0.0),
    "lymphocyte": _Look((5.6, 7.0), (1.0, 1.15), (1.25, 1.5), 0.04, 0.25, 0.1),
    "spindle": _Look((10.0, 16.0), (3.2, 5.5), (0.65, 0.95), 0.05, 0.15, 0.05),
    "debris": _Look((1.6, 4.0), (1.0, 1.8), (0.8, 1.4), 0.25, 0.1, 0.0),
    "reactive": _Look((10.0, 14.5), (1.3, 2.0), (0.75, 1.0), 0.05, 0.2, 0.2, nucleoli=1),
    "germinal": _Look((7.5, 10.0), (1.0, 1.3), (0.5, 0.8), 0.08, 0.35, 0.3),
    "ghost": _Look((8.0, 12.0), (1.0, 1.6), (0.16, 0.3), 0.1, 0.3, 0.1),
}


@lru_cache(maxsize=128)
def sprites(kind: Kind, mpp: float) -> tuple[tuple[Array, ...], ...]:
    """Pictures of a kind of nucleus, by angle (``_ANGLES`` over half a turn) and variant.

    Each is float32, a square of odd side, the concentration of haematoxylin at ``mpp`` µm per pixel.
    """
    random = np.random.default_rng([len(kind), *kind.encode()])  # the same nuclei in every process
    look = _LOOKS[kind]
    shapes = [_Shape.draw(look, random) for _ in range(_VARIANTS)]
    angles = np.arange(_ANGLES) * np.pi / _ANGLES
    return tuple(tuple(shape.picture(float(angle), mpp) for shape in shapes) for angle in angles)


@dataclass(frozen=True)
class _Shape:
    """One nucleus without an angle; lengths in µm."""

    half_length: float
    half_width: float
    density: float
    waves: tuple[tuple[int, float, float], ...]
    """Waves of the outline: number a turn, share of the radius, phase."""
    chromatin: Array
    look: _Look
    nucleoli: tuple[tuple[float, float], ...]

    @classmethod
    def draw(cls, look: _Look, random: np.random.Generator) -> "_Shape":
        half_length = random.uniform(*look.length) / 2
        waves = tuple(
            (turns, look.irregular * random.normal() / turns**0.5, random.uniform(0, 2 * np.pi)) for turns in (2, 3, 5)
        )
        spots = tuple((random.uniform(-0.4, 0.4), random.uniform(-0.4, 0.4)) for _ in range(look.nucleoli))
        return cls(
            half_length=half_length,
            half_width=half_length / random.uniform(*look.elongation),
            density=random.uniform(*look.density),
            waves=waves,
            chromatin=random.standard_normal((24, 24)).astype(np.float32),
            look=look,
            nucleoli=spots,
        )

    def picture(self, angle: float, mpp: float) -> Array:
        reach = int(np.ceil((self.half_length * (1 + 2 * self.look.irregular) + 0.8) / mpp))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] * mpp
        along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        u, v = along / self.half_length, across / self.half_width
        turn = np.arctan2(v, u)
        outline = 1 + sum(share * np.cos(turns * turn + phase) for turns, share, phase in self.waves)
        depth = (1 - np.hypot(u, v) / np.maximum(outline, 0.4)) * self.half_width  # µm inside the membrane, roughly
        inside = np.clip(0.5 + depth / 0.7, 0, 1)
        places = [12 + along / 0.8, 12 + across / 0.8]
        chromatin = ndimage.map_coordinates(self.chromatin, places, order=1, mode="reflect")
        picture = 1 + self.look.clumps * chromatin + self.look.rim * np.exp(-((depth - 0.4) ** 2) / 0.3)
        for at_u, at_v in self.nucleoli:
            picture += 0.9 * np.exp(
                -((u - at_u) ** 2 * self.half_length**2 + (v - at_v) ** 2 * self.half_width**2) / 0.9
            )
        return np.asarray(self.density * inside * np.clip(picture, 0.25, 2.2), np.float32)


def stamp(
    canvas: Array, kind: Kind, places: NDArray[np.int64], angles: Array, mpp: float, random: np.random.Generator
) -> None:
    """Draw nuclei on ``canvas`` in place; where two overlap the denser one is seen.

    Args:
        canvas: ``(height, width)`` concentration of haematoxylin.
        kind: which nuclei.
        places: ``(n, 2)`` centres y, x in pixels of the canvas.
        angles: ``(n,)`` direction of the long axis, radians.
        mpp: µm per pixel of the canvas.
        random: chooses among the variants.
    """
    bank = sprites(kind, mpp)
    turns = np.round(np.mod(angles, np.pi) * _ANGLES / np.pi).astype(int) % _ANGLES
    variants = random.integers(_VARIANTS, size=len(places))
    height, width = canvas.shape
    for (y, x), turn, variant in zip(places.tolist(), turns.tolist(), variants.tolist(), strict=True):
        sprite = bank[turn][variant]
        reach = len(sprite) // 2
        top, left = y - reach, x - reach
        if top >= 0 and left >= 0 and y + reach < height and x + reach < width:  # none are cut by the slide's edge
            window = canvas[top : y + reach + 1, left : x + reach + 1]
            np.maximum(window, sprite, out=window)
