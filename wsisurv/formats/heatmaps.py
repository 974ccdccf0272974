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
class ShownTile:
    """A tile of the contact sheet.

    Attributes:
        slide_id: its slide.
        x: left, level-0 pixels.
        y: top, level-0 pixels.
        contribution: to the case's log hazard.
        attention: share of the case's attention.
    """

    slide_id: str
    x: int
    y: int
    contribution: float
    attention: float


@dataclass(frozen=True)
class FeatureShift:
    """How one feature of the highest or lowest tiles differs from that of the case's other tiles.

    Attributes:
        name: of the feature.
        unit: of its values; empty where it has none.
        definition: what it measures; empty where that is not known.
        mean: of these tiles.
        others: mean of all other tiles of the case.
        difference: mean less others, in standard deviations (root of the mean of both groups' variances).
        adds: the case's log hazard less what it would be if these tiles had the others' mean in this feature.
    """

    name: str
    unit: str
    definition: str
    mean: float
    others: float
    difference: float
    adds: float


@dataclass(frozen=True)
class Extreme:
    """The tiles of highest, or of lowest, contribution.

    Attributes:
        n_tiles: a tenth of the case's tiles; the features are compared over these.
        contribution: of these together.
        shown: those on the contact sheet, most extreme first, none over another.
        features: differences, largest first; empty where the features have no names.
    """

    n_tiles: int
    contribution: float
    shown: tuple[ShownTile, ...] = ()
    features: tuple[FeatureShift, ...] = ()


@dataclass(frozen=True)
class SlideMap:
    """One slide of the case.

    Attributes:
        slide_id: the slide.
        n_tiles: tiles of it.
        contribution: of all its tiles to the case's log hazard.
        picture: name of the PNG beside this file.
        geojson: name of the GeoJSON for QuPath.
        problem: why there is no thumbnail below the map, or empty.
    """

    slide_id: str
    n_tiles: int
    contribution: float
    picture: str
    geojson: str
    problem: str = ""


@dataclass(frozen=True)
class CaseMap:
    """What each part of a case did to its risk.

    Attributes:
        case_id: the case.
        log_hazard: sum of all tiles' contributions; None without a tile.
        members: members of the ensemble that spoke.
        out_of_fold: whether they are only those that did not see this case in training.
        n_tiles: tiles of all slides.
        n_kept: tiles of which the student's filter kept half or more; None where the student has none.
        exact: whether a contribution is the tile's own, not a stand-in of a model that looks at tiles together.
        raising: share of the tiles that raised the log hazard.
        slides: its slides.
        top: tiles of highest contribution; None without a tile.
        bottom: tiles of lowest contribution.
        contact_sheet: name of the JPEG of those; empty where the pixels are not there.
        fingerprint: of all that made it.
        student: fingerprint of the student; empty in records of before.
        unfamiliar: why the student does not know such a case, so that its risk should not be believed; else empty.
    """

    case_id: str
    log_hazard: float | None
    members: int
    out_of_fold: bool
    n_tiles: int
    n_kept: int | None
    exact: bool
    raising: float
    slides: tuple[SlideMap, ...]
    top: Extreme | None
    bottom: Extreme | None
    contact_sheet: str
    fingerprint: str
    student: str = ""
    unfamiliar: str = ""

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
