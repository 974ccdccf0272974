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
from wsisurv.formats.heatmaps import CaseMap, SlideMap, read_case_map, write_case_map
from wsisurv.formats.pictures import write_picture
from wsisurv.prediction.contributions import CaseTiles
from wsisurv.prediction.explained import CaseFiles, ExplainedCase, explain_case
from wsisurv.prediction.explainer import Explainer
from wsisurv.prediction.extremes import ShownEnds, choose_ends, describe_end, draw_ends, signed, why
from wsisurv.prediction.heatmap_picture import Ground, draw_maps, with_banner
from wsisurv.prediction.rows import OddSlide, Standing, stand
from wsisurv.prediction.slide_views import SlideView, view_slide
from wsisurv.settings.base import fingerprint
from wsisurv.workspace.freshness import Origin, compare
from wsisurv.workspace.ledger import Summary, forget_failures, make_failure, record_failure
from wsisurv.workspace.paths import Workspace

STEP = "heatmap"
_VERSION = 4
_CONTACT_SHEET = "tiles.jpg"
_ENDS_CALLED = {
    True: (
        "Highest contributions to the log hazard",
        "Highest contributions to the log hazard, none above 0: they lowered it least",
    ),
    False: (
        "Lowest contributions to the log hazard",
        "Lowest contributions to the log hazard, none below 0: they raised it least",
    ),
}
"""What the ends of the contact sheet are called, and where none of the tiles has the sign that one expects."""


def heatmaps(
    explainer: Explainer,
    cases: Sequence[CaseFiles],
    folder: Path,
    *,
    ledger: Workspace,
    slides: Mapping[str, Path] | None = None,
    meanings: Mapping[str, tuple[str, str]] | None = None,
    n_shown: int = 12,
    stage: Path | None = None,
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
        stage: folder on a disk of the machine, to which each slide is copied before it is read.
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
            drawn = _Drawing(explainer, case, folder / case.case_id, slides or {}, meanings or {}, n_shown, stage)
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
        stage: Path | None,
    ) -> None:
        self._explainer, self._case, self._folder = explainer, case, folder
        self._slides, self._meanings, self._n_shown, self._stage = slides, meanings, n_shown, stage
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
        ends = choose_ends(tiles, places, self._n_shown)
        views = []
        for number, place in enumerate(places):
            marked = [tile for tile in ends.marks if tiles.slide[tile] == number]
            views.append(view_slide(place, tiles, marked, stage=self._stage))
        standing = self._stand(tiles, views)
        banner = f"Do not believe this risk: {standing.why_unfamiliar}" if standing and standing.why_unfamiliar else ""
        said = _of_case(tiles, standing)
        maps = [self._slide(seen, number, view, banner, said, ends) for number, view in enumerate(views)]
        names, slide_ids = explainer.feature_names, list(map(str, self._case.slide_ids))
        top, bottom = (
            describe_end(ensemble, tiles, ends, slide_ids, highest=highest, names=names, meanings=self._meanings)
            for highest in (True, False)
        )
        cuts = {tile: cut for view in views for tile, cut in view.cuts.items()}
        if cuts:
            shown = {one.number: why(one) for end in (top, bottom) if end is not None for one in end.shown}
            told = {tile: shown[number] for tile, number in ends.marks.items()}
            sheet = draw_ends(case_id, said, tiles, ends, cuts, seen.limit, _ENDS_CALLED, told)
            write_picture(self._folder / _CONTACT_SHEET, with_banner(sheet, banner), "JPEG", quality=90)
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
            contact_sheet=_CONTACT_SHEET if cuts else "",
            fingerprint=self._fingerprint,
            student=explainer.scale.fingerprint,
            unfamiliar=standing.why_unfamiliar if standing else "",
            percentile=standing.percentile if standing else None,
            group=standing.group if standing else "",
            familiarity=standing.familiarity if standing else None,
        )
        write_case_map(self._folder, record)
        return record

    def _stand(self, tiles: CaseTiles, views: Sequence[SlideView]) -> Standing | None:
        """Where the case stands among the training cases; None where nothing was seen."""
        if tiles.log_hazard is None:
            return None
        explainer, case = self._explainer, self._case
        states = explainer.ensemble.states(tiles.values)
        several = len(np.unique(tiles.slide)) > 1
        odd = []
        for number, view in enumerate(views):
            own = tiles.values[tiles.slide == number]
            alone = explainer.ensemble.states(own) if several and len(own) else None
            odd.append(OddSlide(case.slide_ids[number], stain=view.stain, alone=alone))
        return stand(explainer.scale, tiles.log_hazard, states, odd, fold=explainer.fold_of.get(case.case_id))

    def _slide(
        self, seen: ExplainedCase, number: int, view: SlideView, banner: str, said: str, ends: ShownEnds
    ) -> SlideMap:
        place, tiles, rows = seen.places[number], seen.tiles, seen.rows(number)
        slide_id, mpp = str(place.features.slide_id), place.place.mpp
        corner = (tiles.coords[rows] - view.bounds[:2]) * (mpp / view.mpp)
        boxes = np.concatenate([corner, corner + place.side * mpp / view.mpp], axis=1)
        total = float(tiles.contribution[rows].sum())
        part = f"{len(rows)} tiles"
        if len(rows) < len(tiles.values):
            part = f"{len(rows)} of the case's {len(tiles.values)} tiles, {signed(total)} of its log hazard"
        lines = [said, f"{part}; by {seen.members}", *([view.problem] if view.problem else [])]
        case_id = self._case.case_id
        title = slide_id if slide_id.startswith(case_id) else f"{case_id} · {slide_id}"
        marks = [(ends.marks[tile], row) for row, tile in enumerate(rows.tolist()) if tile in ends.marks]
        picture = draw_maps(Ground(view.pixels, view.mpp, boxes), title, lines, seen.layers(rows), marks)
        png, outlines = f"{slide_id}.png", f"{slide_id}.geojson"
        write_picture(self._folder / png, with_banner(picture, banner), "PNG")
        write_text(self._folder / outlines, geojson.collection(seen.squares(number, *view.bounds[:2])))
        return SlideMap(slide_id, len(rows), total, png, outlines, view.problem)


def _of_case(tiles: CaseTiles, standing: Standing | None) -> str:
    """Log hazard, percentile, group and familiarity of the case, in words."""
    if standing is None:
        return "no tile: nothing was seen"
    odd = bool(standing.why_unfamiliar)
    return (
        f"log hazard {signed(tiles.log_hazard)}, percentile {standing.percentile:.0f} of the training cases, "
        f"{'no risk group' if odd else f'{standing.group} risk'}; {'not familiar' if odd else 'familiar'}: "
        f"{100 * standing.familiarity:.0f} % of cases like the training's lie as far out"
    )
