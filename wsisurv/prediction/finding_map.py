"""Which tiles of a case speak for a finding: maps, GeoJSON, a sheet of the most telling tiles, and a record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from wsisurv.bags.checks import Expected
from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats import geojson
from wsisurv.formats.atomic import write_text
from wsisurv.formats.features import FORMAT as FEATURES
from wsisurv.formats.finding_maps import FindingMap, FindingTile, read_finding_map, write_finding_map
from wsisurv.formats.header import read_header
from wsisurv.formats.pictures import write_picture
from wsisurv.formats.statements import Statement
from wsisurv.models.finding_heads import attention
from wsisurv.models.finding_table import speaks_of
from wsisurv.prediction.contributions import CaseTiles
from wsisurv.prediction.explained import DARKEST, qupath_colours, strongest
from wsisurv.prediction.extremes import ShownEnds, choose_ends, draw_ends, signed
from wsisurv.prediction.findings import OpenHeads
from wsisurv.prediction.heatmap_picture import DIVERGING, Ground, Layer, draw_maps, with_banner
from wsisurv.prediction.slide_views import LocatedSlide, SlideView, locate_slide, view_slide
from wsisurv.settings.base import fingerprint
from wsisurv.workspace.freshness import Origin, compare
from wsisurv.workspace.paths import Workspace

_VERSION = 2
_CONTACT_SHEET = "tiles.jpg"
_ENDS_CALLED = {
    True: ("Speak for it", "Speak against it least: none speaks for it"),
    False: ("Speak against it", "Speak for it least: none speaks against it"),
}


@dataclass(frozen=True)
class ScoredFinding:
    """What each tile of a case says of a finding."""

    # what a tile adds to the log odds is its contribution; they sum to the case's less those of a case of usual tiles
    tiles: CaseTiles
    probability: float | None  # None without a tile, and of a case that the heads do not know
    prevalence: float  # in the training cases
    warning: str  # why the heads do not know the case; else empty

    def layer(self, rows: NDArray[np.int64]) -> Layer:
        """The map of some tiles; colours are those of the whole case."""
        limit = strongest(self.tiles.contribution)
        ends = (f"−{limit:.2g} against", f"for +{limit:.2g}")
        share = self.tiles.contribution[rows]
        return Layer("what each tile adds to the log odds", share, -limit, limit, DIVERGING, ends, DARKEST)


def score_finding(
    heads: OpenHeads, finding: str, case_id: str, places: Sequence[LocatedSlide], fold: int | None = None
) -> ScoredFinding:
    """Score every tile of a case for one finding.

    Args:
        heads: of the finding among others.
        finding: its name.
        case_id: of the case.
        places: its slides.
        fold: of a training case, for which the member speaks that did not see it; None for all members.

    Raises:
        SettingsError: there is no head of the finding.
    """
    head = heads.head(finding)
    if fold is not None:
        head = replace(head, **{name: value[[fold]] for name, value in vars(head).items()})
    values = [place.features.values for place in places if len(place.features.values)]
    rows = np.concatenate(values) if values else np.zeros((0, heads.card.n_features), np.float16)
    share, weight = np.zeros(len(rows)), np.zeros(len(rows))
    if len(rows):
        share = head.tile_shares(rows, heads.usual)
        weight = np.full(len(rows), 1 / len(rows))
        if head.focus.size:
            weight = attention(rows.astype(np.float64), head.focus).mean(axis=1)
    number = np.repeat(np.arange(len(places)), [len(place.features.values) for place in places])
    coords = np.concatenate([np.zeros((0, 2), np.int64), *(place.place.coords for place in places)])
    row = next(one for one in heads.card.result.findings if one.name == finding)
    warning = heads.of_case(case_id, rows, fold=fold).warning if len(rows) else ""
    chance = float(expit(head.log_odds(rows).mean())) if len(rows) and not warning else None
    return ScoredFinding(CaseTiles(number, coords, rows, weight, share), chance, row.prevalence or 0.0, warning)


def draw_finding(
    heads: OpenHeads,
    finding: str,
    case_id: str,
    slide_ids: Sequence[str],
    workspace: Workspace,
    folder: Path,
    *,
    fold: int | None = None,
    statements: Sequence[Statement] = (),
    slides: Mapping[str, Path] | None = None,
    n_shown: int = 12,
    stage: Path | None = None,
    redo: bool = False,
) -> tuple[FindingMap, bool]:
    """Draw one finding of one case into FOLDER; gives the record, and whether it was there already.

    Args:
        heads: of the finding among others.
        finding: its name.
        case_id: of the case.
        slide_ids: its slides.
        workspace: holds their features and tiles.
        folder: where pictures, GeoJSON and finding.json go.
        fold: of a training case, for which the member speaks that did not see it; None for all members.
        statements: of the case's report; those that speak of the finding are quoted.
        slides: slide_id → file, before where it was when it was tiled.
        n_shown: tiles for, and tiles against, on the contact sheet.
        stage: folder on a disk of the machine, to which each slide is copied before it is read.
        redo: draw again what is there.

    Raises:
        SettingsError: there is no head of the finding.
        MissingArtifactError, FormatError, StaleError: features are missing, damaged or of other tiles.
        EncoderMismatchError: features that the heads were not fitted on.
        StorageError: no room or no permission.
    """
    heads.head(finding)
    quotes = tuple((one.polarity, one.evidence) for one in statements if speaks_of(one, finding))
    inputs = {"heads": heads.fingerprint} | {
        f"features/{one}": read_header(workspace.features(heads.card.encoder, one), FEATURES, "").fingerprint
        for one in slide_ids
    }
    settings = {"version": _VERSION, "shown": n_shown, "case": case_id, "finding": finding, "fold": fold}
    made = fingerprint({**settings, "quotes": [list(one) for one in quotes]}, inputs)
    if not redo and (there := _there(folder, made)) is not None:
        return there, True
    expected = Expected(heads.card, heads.path)
    places = [locate_slide(workspace, one, expected, (slides or {}).get(one)) for one in slide_ids]
    seen = score_finding(heads, finding, case_id, places, fold)
    tiles, chance, warning = seen.tiles, seen.probability, seen.warning
    ends = choose_ends(tiles, places, n_shown)
    views = [
        view_slide(place, tiles, [tile for tile in ends.marks if tiles.slide[tile] == n], stage=stage)
        for n, place in enumerate(places)
    ]
    chances = "not known" if chance is None else f"probability {chance:.2f}"
    said = (f"{case_id} · {finding}", f"{chances}; of the training cases {seen.prevalence:.2f} have it")
    pictures = [_slide(one, views[n], seen, n, said, ends, folder) for n, one in enumerate(places)]
    cuts = {tile: cut for view in views for tile, cut in view.cuts.items()}
    if cuts:
        sheet = draw_ends(*said, tiles, ends, cuts, strongest(tiles.contribution), _ENDS_CALLED)
        write_picture(folder / _CONTACT_SHEET, with_banner(sheet, warning), "JPEG", quality=90)
    shown = [
        tuple(
            FindingTile(
                slide_ids[int(tiles.slide[t])],
                int(tiles.coords[t, 0]),
                int(tiles.coords[t, 1]),
                float(tiles.contribution[t]),
            )
            for t in some
        )
        for some in (ends.highest, ends.lowest)
    ]
    record = FindingMap(
        case_id=case_id,
        finding=finding,
        probability=chance,
        prevalence=seen.prevalence,
        out_of_fold=fold is not None,
        n_tiles=len(tiles.values),
        pictures=tuple(pictures),
        speak_for=shown[0],
        speak_against=shown[1],
        contact_sheet=_CONTACT_SHEET if cuts else "",
        quotes=quotes,
        problems=tuple(view.problem for view in views if view.problem),
        warning=warning,
        fingerprint=made,
        model=heads.fingerprint,
    )
    write_finding_map(folder, record)
    return record, False


def _there(folder: Path, made: str) -> FindingMap | None:
    """The same, where it was drawn before with the pixels of every slide."""
    try:
        record = read_finding_map(folder)
    except (MissingArtifactError, FormatError):
        return None
    return record if compare(Origin(record.fingerprint), Origin(made)).done and not record.problems else None


def _slide(
    place: LocatedSlide,
    view: SlideView,
    seen: ScoredFinding,
    number: int,
    said: tuple[str, str],
    ends: ShownEnds,
    folder: Path,
) -> str:
    """Picture and GeoJSON of one slide; gives the picture's name. ``said``: its title, and the line below."""
    slide_id, mpp, tiles = str(place.features.slide_id), place.place.mpp, seen.tiles
    rows: NDArray[np.int64] = np.flatnonzero(tiles.slide == number)
    corner = (tiles.coords[rows] - view.bounds[:2]) * (mpp / view.mpp)
    boxes = np.concatenate([corner, corner + place.side * mpp / view.mpp], axis=1)
    share = tiles.contribution[rows]
    part = f"{slide_id}: {len(rows)} of the case's {len(tiles.values)} tiles, {signed(share.sum(), 2)} of its log odds"
    lines = [said[1], part, *filter(None, [view.problem])]
    marks = [(ends.marks[tile], row) for row, tile in enumerate(rows.tolist()) if tile in ends.marks]
    picture = draw_maps(Ground(view.pixels, view.mpp, boxes), said[0], lines, [seen.layer(rows)], marks)
    write_picture(folder / f"{slide_id}.png", with_banner(picture, seen.warning), "PNG")
    figures = {"log_odds": share, "attention": tiles.attention[rows]}
    shown = qupath_colours(share, strongest(tiles.contribution), ("speaks against", "speaks for"))
    squares = geojson.tiles(tiles.coords[rows] - view.bounds[:2], place.side, figures, shown)
    write_text(folder / f"{slide_id}.geojson", geojson.collection(squares))
    return f"{slide_id}.png"
