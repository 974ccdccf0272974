"""What a slide's header says of its scale: level-0 resolution and objective power, and in which place it says so.

Resolution is read, never guessed: objective power is none (20× is 0.46 µm per pixel on one scanner and 0.5 on the
next), so it serves only where a user asks for it.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsisurv.errors import MissingMppError, SlideError
from wsisurv.formats.slide_names import by_slide_id, unknown_note

PLAUSIBLE_MPP = (0.05, 32.0)
"""A 100× objective gives about 0.1; resolution tags left at 72 dpi give 353."""

_SQUARE = 0.01  # sides of a pixel may differ by this share
_OBJECTIVE_UM = 10.0  # µm per pixel × magnification: 40× is about 0.25
_UNITS_UM = {"centimeter": 1e4, "inch": 25400.0}
_OME_UNITS_UM = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)")
_APERIO_MAG = re.compile(r"\|\s*AppMag\s*=\s*([0-9.eE+-]+)")
_OME_SIZE = 'PhysicalSize{axis}\\s*=\\s*"([0-9.eE+-]+)"'
_OME_UNIT = 'PhysicalSize{axis}Unit\\s*=\\s*"([^"]+)"'
_WAY_OUT = (
    "Give it with --slide-mpp if you know it, or slide by slide with a table slide_id,mpp. Where only the objective "
    "is known, --mpp-from-objective takes 10 / power."
)


@dataclass(frozen=True)
class Resolution:
    """A level-0 resolution that a header states."""

    mpp_x: float  # µm per pixel along x
    mpp_y: float  # µm per pixel along y
    source: str  # the place in the file, in words

    @property
    def mpp(self) -> float:
        """Mean of both."""
        return (self.mpp_x + self.mpp_y) / 2

    @property
    def square(self) -> bool:
        """Whether a pixel is as wide as high, to within one percent."""
        return abs(self.mpp_x - self.mpp_y) <= _SQUARE * max(self.mpp_x, self.mpp_y)

    @property
    def plausible(self) -> bool:
        """Whether a microscope can have it."""
        low, high = PLAUSIBLE_MPP
        return low <= self.mpp_x <= high and low <= self.mpp_y <= high


@dataclass(frozen=True)
class Objective:
    """An objective power that a header states, and where."""

    power: float
    source: str

    @property
    def mpp(self) -> float:
        """The resolution that goes with it by convention, 10 / power: only where a user asks for that."""
        return _OBJECTIVE_UM / self.power


@dataclass(frozen=True)
class GivenMpp:
    """What a user says of resolution, where files don't say or are wrong.

    Attributes:
        every: µm per pixel of every slide.
        by_slide: µm per pixel by slide; goes before ``every``. ``of_slides`` brings the names of a table to slide_ids.
        from_objective: where the file states no resolution that can be, take 10 / objective power.
    """

    every: float | None = None
    by_slide: Mapping[str, float] = field(default_factory=dict)
    from_objective: bool = False

    def of_slides(self, slide_ids: Collection[str]) -> tuple["GivenMpp", list[str]]:
        """The same with ``by_slide`` by slide_id, and a note on rows of the table that name no slide that is here.

        Raises:
            CohortError: there is a table, and no row of it names a slide that is here.
        """
        found, unknown = by_slide_id(self.by_slide, slide_ids, "the mpp table")
        return replace(self, by_slide=found), unknown_note(unknown, "the mpp table")

    def of(self, slide_id: str, properties: Mapping[str, str]) -> Resolution | None:
        """What is to be used instead of the file's own resolution; None where the file's stands."""
        if slide_id in self.by_slide:
            return Resolution(self.by_slide[slide_id], self.by_slide[slide_id], "the table given")
        if self.every is not None:
            return Resolution(self.every, self.every, "--slide-mpp")
        stated = find_resolution(properties)
        objective = find_objective(properties)
        if self.from_objective and objective and not (stated and stated.plausible):
            return Resolution(objective.mpp, objective.mpp, f"10 / objective power of {objective.power:g}")
        return None


def find_resolution(properties: Mapping[str, str]) -> Resolution | None:
    """The first plausible resolution among the places that may state one; else the first stated; else None."""
    stated = list(_resolutions(properties))
    return next((resolution for resolution in stated if resolution.plausible), stated[0] if stated else None)


def contradiction(mpp: float, properties: Mapping[str, str]) -> list[str]:
    """A note where a resolution that the user gave is more than 5 % off what the file states; empty else."""
    stated = find_resolution(properties)
    if stated is None or not stated.plausible or 1 / 1.05 <= mpp / stated.mpp <= 1.05:
        return []
    return [f"the file states {stated.mpp:g} µm/px ({stated.source}); {mpp:g} is used, as given"]


def find_objective(properties: Mapping[str, str]) -> Objective | None:
    """The objective power, from OpenSlide or else from an Aperio description."""
    if power := _number(properties.get("openslide.objective-power")):
        return Objective(power, f"{_vendor(properties)} header")
    if power := _matched(_APERIO_MAG, _description(properties)):
        return Objective(power, "AppMag of an Aperio description")
    return None


def find_mpp(path: Path, properties: Mapping[str, str]) -> float:
    """Level-0 resolution from the file, µm per pixel.

    Raises:
        MissingMppError: the file states none, or none that can be.
        SlideError: pixels are not square to within one percent.
    """
    resolution = find_resolution(properties)
    if resolution is None:
        objective = find_objective(properties)
        hint = f" (only an objective power of {objective.power:g})" if objective else ""
        raise MissingMppError(f"{path}: the file does not say its resolution, µm per pixel{hint}. {_WAY_OUT}")
    stated = f"{resolution.mpp_x:g} × {resolution.mpp_y:g} µm per pixel ({resolution.source})"
    if not resolution.plausible:
        raise MissingMppError(f"{path}: the resolution in the file, {stated}, can't be. {_WAY_OUT}")
    if not resolution.square:
        raise SlideError(
            f"{path}: pixels are not square: {stated}. If one is wrong, give the right resolution with --slide-mpp."
        )
    return resolution.mpp


def _resolutions(properties: Mapping[str, str]) -> Iterator[Resolution]:
    """Every resolution stated: OpenSlide's own reading, then TIFF tags, then descriptions that it passes over."""
    tags = _from_tags(properties)
    x, y = (_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy")
    if x and y:
        same = tags is not None and math.isclose(x, tags.mpp_x, rel_tol=1e-3)
        yield Resolution(x, y, tags.source if same and tags else _openslide_source(properties))
    elif tags is not None:
        yield tags
    description = _description(properties)
    if mpp := _matched(_APERIO_MPP, description):
        yield Resolution(mpp, mpp, "MPP of an Aperio description")
    first = "<Image ".join(description.split("<Image ")[:2])  # which is read; another's size says nothing of it
    width, height = (_ome_size(first, axis) for axis in "XY")
    if width and height:
        yield Resolution(width, height, "PhysicalSize of an OME description")


def _openslide_source(properties: Mapping[str, str]) -> str:
    if "aperio.MPP" in properties:
        return "MPP of an Aperio description"
    vendor = _vendor(properties)
    return "DICOM pixel spacing" if vendor == "dicom" else f"{vendor} header"


def _from_tags(properties: Mapping[str, str]) -> Resolution | None:
    unit = _UNITS_UM.get(properties.get("tiff.ResolutionUnit", ""))
    x, y = (_number(properties.get(f"tiff.{axis}Resolution")) for axis in "XY")
    return Resolution(unit / x, unit / y, "TIFF resolution tags") if unit and x and y else None


def _description(properties: Mapping[str, str]) -> str:
    return properties.get("tiff.ImageDescription") or properties.get("openslide.comment") or ""


def _vendor(properties: Mapping[str, str]) -> str:
    return properties.get("openslide.vendor", "OpenSlide")


def _ome_size(description: str, axis: str) -> float | None:
    size = _matched(re.compile(_OME_SIZE.format(axis=axis)), description)
    unit = re.search(_OME_UNIT.format(axis=axis), description)
    scale = _OME_UNITS_UM.get(unit[1].replace("\u03bc", "µ")) if unit else 1.0  # OME's default unit is µm
    return size * scale if size and scale else None


def _matched(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return _number(found[1]) if found else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None
