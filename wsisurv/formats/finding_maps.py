"""``heatmaps/<case>/<finding>/finding.json``: which tiles speak for a finding, and what the report says of it."""

import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats.atomic import read_json, write_json

FORMAT = "wsisurv/finding-map"
FILE = "finding.json"


@dataclass(frozen=True)
class FindingTile:
    """A tile that speaks for or against a finding."""

    slide_id: str
    x: int  # left, level-0 pixels
    y: int  # top, level-0 pixels
    log_odds: float  # what it adds to those of the finding


@dataclass(frozen=True)
class FindingMap:
    """What each part of a case says of a finding."""

    case_id: str
    finding: str
    probability: float | None  # None without a tile, and of a case that the heads do not know
    prevalence: float  # in the training cases
    out_of_fold: bool  # whether the member that did not see the case speaks alone
    n_tiles: int
    pictures: tuple[str, ...]  # PNG of each slide, in this folder; each has a GeoJSON of the same name
    speak_for: tuple[FindingTile, ...]  # those on the contact sheet, most telling first
    speak_against: tuple[FindingTile, ...]
    contact_sheet: str  # JPEG of those; empty where the pixels are not there
    quotes: tuple[tuple[str, str], ...]  # (polarity, words) of the case's report, where it speaks of the finding
    problems: tuple[str, ...]  # why pixels are missing
    warning: str  # why the heads do not know the case; else empty
    fingerprint: str  # of all that made it
    model: str  # fingerprint of findings.h5


def write_finding_map(folder: Path, record: FindingMap) -> None:
    """Write the record into its folder, after all that it names.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(folder / FILE, {"format": FORMAT, **asdict(record)})


def read_finding_map(folder: Path) -> FindingMap:
    """Read the record of a case and a finding.

    Raises:
        MissingArtifactError: there is none.
        FormatError: it is damaged, or of another case or finding than its folders say.
    """
    path = folder / FILE
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `wsisurv heatmap --finding {folder.name}` first.")
    try:
        record = read_json(path)
        if record.pop("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT}")
        found = TypeAdapter(FindingMap).validate_python(record)
        for name, of in ((found.finding, folder.name), (found.case_id, folder.parent.name)):
            if unicodedata.normalize("NFC", name) != unicodedata.normalize("NFC", of):
                raise ValueError(f"is of {name!r}: exchanged with another's?")
        return found
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).splitlines()[1:3]).strip() if isinstance(error, ValidationError) else str(error)
        raise FormatError(f"{path}: damaged, or of another version ({reason}). Draw it again with --redo.") from error
