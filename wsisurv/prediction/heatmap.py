"""What raised and what lowered the risk of a case: maps, GeoJSON, a sheet of the extreme tiles, and a record."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import FormatError, MissingArtifactError, SlideError, StaleError, StorageError
from wsisurv.formats import geojson
from wsisurv.formats.atomic import write_text
from wsisurv.formats.features import FORMAT as FEATURES
from wsisurv.formats.header import read_header
from wsisurv.formats.heatmaps import CaseMap, Extreme, ShownTile, SlideMap, read_case_map, write_case_map
from wsisurv.formats.pictures import write_picture
from wsisurv.models.ensemble import Ensemble
from wsisurv.prediction.contributions import CaseTiles, extreme_tiles, feature_shifts, spread_out
from wsisurv.prediction.explained import CaseFiles, ExplainedCase, explain_case
from wsisurv.prediction.explainer import Explainer
from wsisurv.prediction.heatmap_picture import (
    Cut,
    Ground,
    draw_maps,
    draw_sheet,
    with_banner,
)
from wsisurv.prediction.rows import OddSlide, why_unfamiliar
from wsisurv.prediction.slide_views import LocatedSlide, SlideView, view_slide
from wsisurv.settings.base import fingerprint
from wsisurv.workspace.freshness import Origin, compare
from wsisurv.workspace.ledger import Summary, forget_failures, make_failure, record_failure
from wsisurv.workspace.paths import Workspace

STEP = "heatmap"
_VERSION = 3
_CONTACT_SHEET = "tiles.jpg"
_SHOWN_SHARE = 0.25
"""No more of the tiles are on one half of the contact sheet."""


def heatmaps(
    explainer: Explainer,
    cases: Sequence[CaseFiles],
    folder: Path,
    *,
    ledger: Workspace,
    slides: Mapping[str, Path] | None = None,
    meanings: Mapping[str, tuple[str, str]] | None = None,
    n_shown: int = 12,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Draw each case into FOLDER/CASE/; one that fails does not stop the others.

    Of a slide whose file is not found the map is drawn on white and the GeoJSON written, and the case counts as failed.

    Args:
        explainer: the student.
        cases: what to draw.
        folder: of all cases.
        ledger: whose ledger failures are written to.
        slides: slide_id → file, before where it was when it was tiled.
        meanings: unit and definition of named features.
        n_shown: tiles on each half of the contact sheet.
        redo: draw again what is there.
        progress: called before each case.

    Raises:
        EncoderMismatchError: features of another encoder, tiles or width than the student's.
        StorageError: no room or no permission.
    """
    summary = Summary(STEP)
    for number, case in enumerate(cases):
        progress(number, len(cases), case.case_id)
        try:
            drawn = _Drawing(explainer, case, folder / case.case_id, slides or {}, meanings or {}, n_shown)
            if not redo and drawn.is_there():
                summary.kept.append(case.case_id)
                continue
            with ledger.claim(STEP, f"{folder.parent.name}/{case.case_id}", wait=True):  # one drawing, one run
                if not redo and drawn.is_there():  # another process was quicker
                    summary.kept.append(case.case_id)
                    continue
                record = drawn.draw()
        except StorageError:
            raise
        except (MissingArtifactError, FormatError, StaleError, SlideError, OSError) as error:
            failure = make_failure(case.case_id, explainer.path, error, explainer.scale.fingerprint)
            record_failure(ledger, STEP, failure)
            summary.failed.append(failure)
            continue
        if record.problems:
            without = SlideError(f"drawn without pixels: {'; '.join(record.problems)}")
            failure = make_failure(case.case_id, folder / case.case_id, without, record.fingerprint)
            record_failure(ledger, STEP, failure)
            summary.failed.append(failure)
            continue
        summary.done.append(case.case_id)
        if record.log_hazard is None:
            summary.notes.append(f"{case.case_id}: no tile, so nothing raised or lowered its risk")
    progress(len(cases), len(cases), "")
    forget_failures(ledger, STEP, [*summary.done, *summary.kept])
    return summary


class _Drawing:
    """One case being drawn."""

    def __init__(
        self,
        explainer: Explainer,
        case: CaseFiles,
        folder: Path,
        slides: Mapping[str, Path],
        meanings: Mapping[str, tuple[str, str]],
        n_shown: int,
    ) -> None:
        self._explainer, self._case, self._folder = explainer, case, folder
        self._slides, self._meanings, self._n_shown = slides, meanings, n_shown
        inputs = {"student": explainer.scale.fingerprint, "guidance": explainer.guidance}
        for slide_id in case.slide_ids:
            path = case.workspace.features(explainer.scale.card.encoder, slide_id)
            inputs[f"features/{slide_id}"] = read_header(path, FEATURES, "wsisurv embed").fingerprint
        settings = {"version": _VERSION, "shown": n_shown, "case": case.case_id}
        self._fingerprint = fingerprint(settings, inputs)

    def is_there(self) -> bool:
        """Whether the same was drawn before, with the pixels of every slide."""
        try:
            record = read_case_map(self._folder)
        except (MissingArtifactError, FormatError):
            return False
        return compare(Origin(record.fingerprint), Origin(self._fingerprint)).done and not record.problems

    def draw(self) -> CaseMap:
        """Draw all of it; the record is written last."""
        explainer, case_id = self._explainer, self._case.case_id
        seen = explain_case(explainer, self._case, self._slides)
        places, ensemble, tiles = seen.places, seen.ensemble, seen.tiles
        ends = self._ends(tiles, places)
        views = []
        for number, place in enumerate(places):
            chosen = [tile for tile in {*ends[True], *ends[False]} if tiles.slide[tile] == number]
            views.append(view_slide(place, tiles, chosen, f"   slide {number + 1}" if len(places) > 1 else ""))
        unfamiliar = self._why_unfamiliar(tiles, views)
        banner = f"Do not believe this risk: {unfamiliar}" if unfamiliar else ""
        maps = [self._slide(seen, number, view, banner) for number, view in enumerate(views)]
        top, bottom = (self._extreme(ensemble, tiles, ends[highest], places, highest) for highest in (True, False))
        cuts = {tile: cut for view in views for tile, cut in view.cuts.items()}
        sheet = self._contact_sheet(tiles, ends, cuts, seen.limit, len(places), banner) if cuts else ""
        n_tiles = len(tiles.values)
        record = CaseMap(
            case_id=case_id,
            log_hazard=tiles.log_hazard,
            members=len(ensemble.members),
            out_of_fold=case_id in explainer.fold_of,
            n_tiles=n_tiles,
            n_kept=None if tiles.kept is None else int((tiles.kept >= 0.5).sum()),
            exact=tiles.exact,
            raising=float((tiles.contribution > 0).mean()) if n_tiles else 0.0,
            slides=tuple(maps),
            top=top,
            bottom=bottom,
            contact_sheet=sheet,
            fingerprint=self._fingerprint,
            student=explainer.scale.fingerprint,
            unfamiliar=unfamiliar,
        )
        write_case_map(self._folder, record)
        return record

    def _ends(self, tiles: CaseTiles, places: Sequence[LocatedSlide]) -> dict[bool, list[int]]:
        """Numbers of the highest tiles (True) and of the lowest ones that are shown."""
        sides = np.array([places[number].side for number in tiles.slide.tolist()])
        order = {end: extreme_tiles(tiles.contribution, highest=end, share=_SHOWN_SHARE) for end in (True, False)}
        return {end: spread_out(order[end], tiles.slide, tiles.coords, sides, self._n_shown) for end in order}

    def _why_unfamiliar(self, tiles: CaseTiles, views: Sequence[SlideView]) -> str:
        """Why the student does not know such a case; empty where it does, or where nothing was seen."""
        if not len(tiles.values):
            return ""
        explainer, case = self._explainer, self._case
        states = explainer.ensemble.states(tiles.values)
        several = len(np.unique(tiles.slide)) > 1
        odd = []
        for number, view in enumerate(views):
            own = tiles.values[tiles.slide == number]
            alone = explainer.ensemble.states(own) if several and len(own) else None
            odd.append(OddSlide(case.slide_ids[number], stain=view.stain, alone=alone))
        return why_unfamiliar(explainer.scale, states, odd, fold=explainer.fold_of.get(case.case_id))

    def _slide(self, seen: ExplainedCase, number: int, view: SlideView, banner: str) -> SlideMap:
        place, tiles, rows = seen.places[number], seen.tiles, seen.rows(number)
        slide_id, mpp = str(place.features.slide_id), place.place.mpp
        corner = (tiles.coords[rows] - view.bounds[:2]) * (mpp / view.mpp)
        boxes = np.concatenate([corner, corner + place.side * mpp / view.mpp], axis=1)
        total = float(tiles.contribution[rows].sum())
        lines = [
            f"{len(rows)} of the case's {len(tiles.values)} tiles, {total:+.3f} of its log hazard"
            + ("" if tiles.log_hazard is None else f" of {tiles.log_hazard:+.3f}")
            + f"; by {seen.members}"
        ]
        lines += [view.problem] if view.problem else []
        title = f"{self._case.case_id} · {slide_id}"
        picture = draw_maps(Ground(view.pixels, view.mpp, boxes), title, lines, seen.layers(rows))
        png, outlines = f"{slide_id}.png", f"{slide_id}.geojson"
        write_picture(self._folder / png, with_banner(picture, banner), "PNG")
        write_text(self._folder / outlines, geojson.collection(seen.squares(number, *view.bounds[:2])))
        return SlideMap(slide_id, len(rows), total, png, outlines, view.problem)

    def _extreme(
        self, ensemble: Ensemble, tiles: CaseTiles, shown: Sequence[int], places: Sequence[LocatedSlide], highest: bool
    ) -> Extreme | None:
        if not len(tiles.values):
            return None
        rows = extreme_tiles(tiles.contribution, highest=highest)
        return Extreme(
            n_tiles=len(rows),
            contribution=float(tiles.contribution[rows].sum()),
            shown=tuple(
                ShownTile(
                    slide_id=str(places[int(tiles.slide[tile])].features.slide_id),
                    x=int(tiles.coords[tile, 0]),
                    y=int(tiles.coords[tile, 1]),
                    contribution=float(tiles.contribution[tile]),
                    attention=float(tiles.attention[tile]),
                )
                for tile in shown
            ),
            features=feature_shifts(ensemble, tiles.values, rows, self._explainer.feature_names, self._meanings),
        )

    def _contact_sheet(
        self,
        tiles: CaseTiles,
        ends: Mapping[bool, Sequence[int]],
        cuts: Mapping[int, Cut],
        limit: float,
        n_slides: int,
        banner: str,
    ) -> str:
        groups = []
        for highest, word in ((True, "Highest"), (False, "Lowest")):
            found = [cuts[tile] for tile in ends[highest] if tile in cuts]
            groups.append((f"{word} contributions to the log hazard", found))
        over = f", {n_slides} slides" if n_slides > 1 else ""
        title = f"{self._case.case_id}: {len(tiles.values)} tiles{over}, log hazard {tiles.log_hazard:+.3f}"
        sheet = with_banner(draw_sheet(title, groups, limit), banner)
        write_picture(self._folder / _CONTACT_SHEET, sheet, "JPEG", quality=90)
        return _CONTACT_SHEET
