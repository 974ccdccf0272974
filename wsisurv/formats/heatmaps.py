"""``heatmaps/<case>/heatmap.json``: what raised and what lowered a case's risk, for a person and the report page."""

import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats.atomic import read_json, write_json

FORMAT = "wsisurv/heatmap"
FILE = "heatmap.json"


@dataclass(frozen=True)
class TileDriver:
    """A feature that drove a tile."""

    name: str  # of the feature
    value: float  # of the tile
    mean: float  # of the case's tiles
    adds: float  # to the log hazard of a case of such tiles alone, against the case's mean in its place


@dataclass(frozen=True)
class ShownTile:
    """A tile of the contact sheet."""

    slide_id: str  # its slide
    x: int  # left, level-0 pixels
    y: int  # top, level-0 pixels
    contribution: float  # to the case's log hazard
    attention: float  # share of the case's attention
    number: int = 0  # on the map and the contact sheet; 0 in records of before, as what follows is empty
    alone: float | None = None  # log hazard of a case that were such tiles throughout
    drivers: tuple[TileDriver, ...] = ()  # features that drove it, most first; none where features have no names


@dataclass(frozen=True)
class FeatureShift:
    """How one feature of the highest or lowest tiles differs from that of the case's other tiles."""

    name: str  # of the feature
    unit: str  # of its values; empty where it has none
    definition: str  # what it measures; empty where that is not known
    mean: float  # of these tiles
    others: float  # mean of all other tiles of the case
    difference: float  # mean less others, in standard deviations (root of the mean of both groups' variances)
    adds: float  # the case's log hazard less what it would be if these tiles had the others' mean in this feature


@dataclass(frozen=True)
class Extreme:
    """The tiles of highest, or of lowest, contribution."""

    n_tiles: int  # a tenth of the case's tiles; the features are compared over these
    contribution: float  # of these together
    shown: tuple[ShownTile, ...] = ()  # those on the contact sheet, most extreme first, none over another
    features: tuple[FeatureShift, ...] = ()  # differences, largest first; empty where the features have no names


@dataclass(frozen=True)
class SlideMap:
    """One slide of the case."""

    slide_id: str  # the slide
    n_tiles: int  # tiles of it
    contribution: float  # of all its tiles to the case's log hazard
    picture: str  # name of the PNG beside this file
    geojson: str  # name of the GeoJSON for QuPath
    problem: str = ""  # why there is no thumbnail below the map, or empty


@dataclass(frozen=True)
class CaseMap:
    """What each part of a case did to its risk."""

    case_id: str  # the case
    log_hazard: float | None  # sum of all tiles' contributions; None without a tile
    members: int  # members of the ensemble that spoke
    out_of_fold: bool  # whether they are only those that did not see this case in training
    n_tiles: int  # tiles of all slides
    n_kept: int | None  # tiles of which the student's filter kept half or more; None where the student has none
    exact: bool  # whether a contribution is the tile's own, not a stand-in of a model that looks at tiles together
    raising: float  # share of the tiles that raised the log hazard
    slides: tuple[SlideMap, ...]  # its slides
    top: Extreme | None  # tiles of highest contribution; None without a tile
    bottom: Extreme | None  # tiles of lowest contribution
    contact_sheet: str  # name of the JPEG of those; empty where the pixels are not there
    fingerprint: str  # of all that made it
    student: str = ""  # fingerprint of the student; empty in records of before
    # why the student does not know such a case, so that its risk should not be believed; else empty
    unfamiliar: str = ""
    percentile: float | None = (
        None  # among the training cases, as in risk.csv; None without a tile and in records of before
    )
    group: str = ""  # risk group, as there; empty where the percentile is not known
    familiarity: float | None = None  # share of cases like the training's that are as odd, as there

    @property
    def problems(self) -> tuple[str, ...]:
        """Why pixels are missing, a line a slide."""
        return tuple(slide.problem for slide in self.slides if slide.problem)


def write_case_map(folder: Path, case: CaseMap) -> None:
    """Write the record into the case's folder, after all that it names.

    Raises:
        StorageError: no room or no permission.
    """
    record = {"format": FORMAT, **asdict(case)}
    write_json(folder / FILE, record)


def read_case_map(folder: Path) -> CaseMap:
    """Read the record of a case.

    Raises:
        MissingArtifactError: there is none.
        FormatError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `wsisurv heatmap` first.")
    try:
        record = read_json(path)
        if record.pop("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT}")
        case = TypeAdapter(CaseMap).validate_python(record)
        if unicodedata.normalize("NFC", case.case_id) != unicodedata.normalize("NFC", folder.name):
            raise ValueError(f"is of case {case.case_id!r}: exchanged with another's?")
        return case
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).splitlines()[1:3]).strip() if isinstance(error, ValidationError) else str(error)
        raise FormatError(
            f"{path}: damaged, or of another version ({reason}). Run `wsisurv heatmap --redo`."
        ) from error
