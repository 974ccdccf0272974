"""Ways to part tissue from glass: each a small function of a low-power view to a mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Mask = NDArray[np.bool_]
Method = Literal["otsu", "hsv", "entropy"]

_SMOOTH_UM = 10.0  # nuclei and gaps between fibres belong to the tissue around them
_WHITE_RANGE = (225, 255)  # glass is at least this bright, so a slide full of pale tissue is not taken for white
_WHITE_TINT = 15.0  # and its channels differ by less than this; more is stain
_WHITE_SHARE = 0.995  # of the pixels are darker than white
_THRESHOLD_RANGE = (0.04, 0.07)  # below: noise of blank glass; above: pale stroma beside dark tumour is tissue
_BINS = 256
_BAND = 64  # rows at a time, that stay in the processor's cache
_LEAST_SATURATION = 0.07
_STAIN_HUES = (180.0, 375.0)  # degrees: from the blue of haematoxylin through pink to the red of blood
_GREYS = 16  # levels whose disorder is measured
_TEXTURE_UM = 72.0  # side of the square in which it is
_GLASS_STEPS = 1.5  # glass may differ from white by so many greys before it counts as another grey
_ENTROPY_RANGE = (0.3, 0.45)  # bits; below: a grain of dust; above: what little texture pale stroma has


@dataclass(frozen=True)
class View:
    """A slide at low power, and what several rules ask of it, worked out once."""

    rgb: NDArray[np.uint8]  # uint8 (height, width, 3)
    mpp: float  # µm per pixel

    @property
    def _image(self) -> Image.Image:
        """Copied anew each time: of a large slide it would be the largest thing that is kept."""
        return Image.fromarray(self.rgb)

    @cached_property
    def planes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Red, green, blue, each uint8 (height, width) and contiguous: several times faster to reckon with."""
        red, green, blue = (np.asarray(plane) for plane in self._image.split())
        return red, green, blue

    @cached_property
    def brightest(self) -> NDArray[np.uint8]:
        """Largest of the channels: uint8 (height, width)."""
        red, green, blue = self.planes
        return np.asarray(np.maximum(np.maximum(red, green), blue))

    @cached_property
    def darkest(self) -> NDArray[np.uint8]:
        """Smallest of the channels: uint8 (height, width)."""
        red, green, blue = self.planes
        return np.asarray(np.minimum(np.minimum(red, green), blue))

    @cached_property
    def white(self) -> NDArray[np.float32]:
        """What the glass looks like, red, green, blue: float32 (3,)."""
        counts = np.array(self._image.histogram()).reshape(3, 256)
        below = np.cumsum(counts, axis=1)
        white = (below < _WHITE_SHARE * below[:, -1:]).sum(axis=1).astype(np.float32).clip(*_WHITE_RANGE)
        return np.asarray(np.maximum(white, white.max() - np.float32(_WHITE_TINT)))

    def reduced(self, mpp: float) -> "View":
        """The same at about ``mpp``, coarser by a whole number; its last row and column may be cut short."""
        factor = max(1, round(mpp / self.mpp))
        return self if factor == 1 else View(np.asarray(self._image.reduce(factor)), self.mpp * factor)

    def smooth(self, values: NDArray[np.float32], um: float = _SMOOTH_UM) -> NDArray[np.float32]:
        """Blur over about ``um``, in place: a large slide's values are tens of megabytes."""
        ndimage.gaussian_filter(values, um / self.mpp / 2, mode="nearest", output=values)
        return values


def otsu_mask(view: View) -> Mask:
    """Tissue absorbs light, coloured light above all: Otsu's threshold on the optical density.

    A pixel's score is its largest optical density over the channels less half of the smallest, so that coloured
    absorption counts twice as much as grey (dust, shadows of the coverslip). The threshold is held within a range, so
    that blank glass gives nothing and a slide full of tissue gives all.

    Source: Otsu 1979, A threshold selection method from gray-level histograms.
    """
    levels = np.maximum(np.arange(256, dtype=np.float32), 1)
    density = [np.maximum(0, -np.log10(levels / white)).astype(np.float32) for white in view.white]
    score = np.empty(view.rgb.shape[:2], np.float32)
    for top in range(0, len(score), _BAND):
        rows = view.rgb[top : top + _BAND]
        absorbed = [table.take(rows[..., channel]) for channel, table in enumerate(density)]
        highest = np.maximum(np.maximum(absorbed[0], absorbed[1]), absorbed[2])
        lowest = np.minimum(np.minimum(absorbed[0], absorbed[1]), absorbed[2])
        score[top : top + _BAND] = highest - 0.5 * lowest
    view.smooth(score)
    return np.asarray(score > np.clip(otsu(score), *_THRESHOLD_RANGE))


def hsv_mask(view: View) -> Mask:
    """Tissue has colour, and the hue of the stains: fixed thresholds, the same for every slide."""
    planes = [view.smooth(plane.astype(np.float32)) for plane in view.planes]
    mask = np.empty(view.rgb.shape[:2], bool)
    for top in range(0, len(mask), _BAND):
        mask[top : top + _BAND] = _has_hue_of_stain(*(plane[top : top + _BAND] for plane in planes))
    return mask


def _has_hue_of_stain(red: NDArray[np.float32], green: NDArray[np.float32], blue: NDArray[np.float32]) -> Mask:
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    safe = np.maximum(chroma, 1e-6)
    of_green, of_blue = 2 + (blue - red) / safe, 4 + (red - green) / safe
    hue = np.where(value == red, (green - blue) / safe, np.where(value == green, of_green, of_blue))
    hue = np.mod(60 * hue, 360)
    low, high = _STAIN_HUES
    return np.asarray((chroma > _LEAST_SATURATION * np.maximum(value, 1)) & ((hue >= low) | (hue <= high - 360)))


def entropy_mask(view: View) -> Mask:
    """Tissue is textured and glass is not: Otsu's threshold on the local entropy of sixteen greys, counted from white.

    Finds unstained and very pale tissue that colour misses; where there is no texture (an even wash of stain) it
    finds nothing.

    Source: Shannon 1948, A mathematical theory of communication.
    """
    grey = view.smooth(view.rgb.mean(axis=-1, dtype=np.float32), _SMOOTH_UM / 2)
    steps = (view.white.mean() - grey) * (_GREYS / 256) - _GLASS_STEPS + 1
    levels = np.clip(steps, 0, _GREYS - 1).astype(np.uint8)
    side = max(3, int(_TEXTURE_UM / view.mpp) | 1)
    entropy = np.zeros(grey.shape, np.float32)
    for level in np.unique(levels):
        share = ndimage.uniform_filter((levels == level).astype(np.float32), side, mode="nearest")
        entropy -= share * np.log2(np.maximum(share, 1e-6))
    return np.asarray(entropy > np.clip(otsu(entropy), *_ENTROPY_RANGE))


METHODS: Mapping[str, Callable[[View], Mask]] = MappingProxyType(
    {"otsu": otsu_mask, "hsv": hsv_mask, "entropy": entropy_mask}
)


def otsu(values: NDArray[np.float32]) -> float:
    """Threshold that parts the values into two classes of greatest variance between them."""
    counts, edges = np.histogram(values[..., ::2], bins=_BINS)  # half of them say as much
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1 + np.argmax(np.nan_to_num(between))])
