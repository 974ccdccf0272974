"""``wsisurv check``: what each slide's header states, and what would fail, before any work."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.workers import finished
from wsisurv.errors import WsisurvError, some
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.facts import SlideFacts, read_facts
from wsisurv.slides.find import list_slides
from wsisurv.slides.passed_over import passed_over
from wsisurv.slides.resolution import GivenMpp, contradiction, find_mpp
from wsisurv.tiling.grid import check_overlap, make_grid
from wsisurv.units import SlideId

_READERS = 8  # headers are waited for, not computed
_TILES_FILE_BYTES = 8_192  # an HDF5 file's own structures and attributes
_FEATURES_FILE_BYTES = 16_384  # the same, with names and definitions of columns
_TILE_BYTES = 32  # coordinates and what is stored beside them, a tile
_FEATURE_BYTES = 2  # float16
_FEATURES_TILE_BYTES = 16  # coordinates again
_FLAT_PX = 50e6  # a larger slide without a pyramid is read whole for every overview
_DISAGREE = 1.5  # resolution and objective further apart than this can't both be right
_ALIKE = 0.02  # stated resolutions this close are one scanner setting


@dataclass(frozen=True)
class SlideCheck:
    """What is known of a slide from its header."""

    slide_id: str  # the slide
    path: str  # its file
    opens: bool = False  # whether OpenSlide opens it; if not, all that follows up to ``case_id`` is None
    format: str | None = None  # as OpenSlide names it
    file_bytes: int | None = None  # size of its files
    width: int | None = None  # of level 0, pixels
    height: int | None = None  # of level 0, pixels
    levels: int | None = None  # how many there are
    mpp_x: float | None = None  # as the file states it, µm per pixel
    mpp_y: float | None = None  # as the file states it, µm per pixel
    mpp: float | None = None  # what ``tile`` will use, µm per pixel; None where it would stop
    mpp_source: str | None = None  # where ``mpp`` comes from; else where the file states what can't be used
    objective: float | None = None  # objective power, as the file states it
    objective_source: str | None = None  # where
    # places of the grid on all that was scanned. Tissue is not looked at: it is an upper bound.
    tiles_at_most: int | None = None
    tiles_bytes: int | None = None  # what the tiles file takes at most
    # what the features file takes at most; None where the number of features is not known
    features_bytes: int | None = None
    case_id: str | None = None  # the case, where a clinical table was given
    problems: tuple[str, ...] = ()  # why ``tile`` would fail, with the ways out
    notes: tuple[str, ...] = ()  # what deserves a look

    def as_json(self) -> dict[str, Any]:
        """One line of the JSONL."""
        return asdict(self)


@dataclass(frozen=True)
class CheckReport:
    """All slides, sorted by slide_id, and what concerns them together."""

    slides: tuple[SlideCheck, ...]  # the slides; one whose slide_id comes twice is there twice
    notes: tuple[str, ...]  # what deserves a look

    @property
    def failing(self) -> int:
        """How many slides would fail."""
        return sum(bool(slide.problems) for slide in self.slides)

    def total(self, name: str) -> int:
        """Sum of a figure over the slides that have it."""
        return sum(getattr(slide, name) or 0 for slide in self.slides)


def check_slides(
    sources: Sequence[Path],
    settings: TileSettings,
    given: GivenMpp,
    *,
    n_features: int | None = None,
    allow_upsampling: bool = False,
    progress: Progress = no_progress,
) -> CheckReport:
    """Read the header of every slide and say what ``tile`` would make of it; nothing is written.

    Args:
        sources: slide files and folders.
        settings: of the tiles to be made.
        given: resolutions that the user gives.
        n_features: features a tile that the encoder will make, for the space they take.
        allow_upsampling: slides scanned coarser than ``tile_mpp`` are to be enlarged, and don't fail.
        progress: called after each slide.

    Raises:
        SettingsError: the overlap is not smaller than the tile.
        NoSlidesError: no slide is there.
        CohortError: no row of ``given.by_slide`` names a slide that is here.
    """
    check_overlap(settings)
    found = sorted(list_slides(sources), key=lambda pair: (pair[0], str(pair[1])))
    given, notes = given.of_slides({slide_id for slide_id, _ in found})
    seen = {}

    def look(slide: tuple[SlideId, Path]) -> SlideCheck:
        return _check(*slide, settings, given, n_features, allow_upsampling)

    for number, (slide, checked) in enumerate(finished(look, found, _READERS), start=1):
        seen[slide] = checked
        progress(number, len(found), checked.slide_id)
    slides = [seen[slide] for slide in found]
    return CheckReport(tuple(_with_duplicates(slides)), (*notes, *_together(slides), *passed_over(sources)))


def check_cases(report: CheckReport, case_of: Mapping[str, str], cases_without_slide: Sequence[str]) -> CheckReport:
    """Add whose each slide is.

    Args:
        report: the slides.
        case_of: slide_id → case_id of the clinical table; a slide that is not there has no case.
        cases_without_slide: cases of the table that have none.
    """
    slides = tuple(replace(slide, case_id=case_of.get(slide.slide_id)) for slide in report.slides)
    orphans = [slide.slide_id for slide in slides if slide.case_id is None]
    notes = list(report.notes)
    if orphans:
        notes.append(f"{len(orphans)} slides without a case: {some(orphans)}")
    if cases_without_slide:
        notes.append(f"{len(cases_without_slide)} cases without a slide: {some(cases_without_slide)}")
    return CheckReport(slides, tuple(notes))


def resolve_mpps(slides: Mapping[SlideId, Path], given: GivenMpp) -> dict[str, float]:
    """Resolutions to be used instead of the files' own, by slide_id; a slide that can't be opened is left out.

    Headers are read only where the objective is asked for.
    """
    mpps: dict[str, float] = {}
    for slide_id, path in slides.items():
        try:
            properties = read_facts(path).properties if given.from_objective else {}
        except WsisurvError:
            continue  # the step itself will say so
        if resolution := given.of(slide_id, properties):
            mpps[slide_id] = resolution.mpp
    return mpps


def _check(
    slide_id: SlideId,
    path: Path,
    settings: TileSettings,
    given: GivenMpp,
    n_features: int | None,
    allow_upsampling: bool,
) -> SlideCheck:
    check = SlideCheck(slide_id, str(path))
    try:
        facts = read_facts(path)
    except (WsisurvError, OSError) as error:
        return replace(check, problems=(str(error),))
    stated, chosen = facts.resolution, given.of(slide_id, facts.properties)
    used = chosen or stated
    check = replace(
        check,
        opens=True,
        format=facts.vendor,
        file_bytes=facts.file_bytes,
        width=facts.width,
        height=facts.height,
        levels=len(facts.level_downsamples),
        mpp_x=stated.mpp_x if stated else None,
        mpp_y=stated.mpp_y if stated else None,
        mpp_source=used.source if used else None,
        objective=facts.objective.power if facts.objective else None,
        objective_source=facts.objective.source if facts.objective else None,
    )
    try:
        mpp = chosen.mpp if chosen else find_mpp(path, facts.properties)
        check = replace(check, mpp=mpp, notes=tuple(_notes(facts, mpp, settings)))
        bounds = facts.bounds
        grid = make_grid(bounds.width, bounds.height, mpp, settings, allow_upsampling=allow_upsampling)
    except WsisurvError as error:
        return replace(check, problems=(_named(path, error),))
    tiles = len(grid.xs) * len(grid.ys)
    per_tile = _FEATURES_TILE_BYTES + _FEATURE_BYTES * (n_features or 0)
    return replace(
        check,
        tiles_at_most=tiles,
        tiles_bytes=_TILES_FILE_BYTES + _TILE_BYTES * tiles,
        features_bytes=None if n_features is None else _FEATURES_FILE_BYTES + per_tile * tiles,
    )


def _named(path: Path, error: WsisurvError) -> str:
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _notes(facts: SlideFacts, mpp: float, settings: TileSettings) -> Iterable[str]:
    yield from facts.notes
    yield from contradiction(mpp, facts.properties)
    stated, objective = facts.resolution, facts.objective
    if stated and stated.mpp_x != stated.mpp_y:
        yield f"mpp_x {stated.mpp_x:g} ≠ mpp_y {stated.mpp_y:g}"
    if objective and not 1 / _DISAGREE <= mpp / objective.mpp <= _DISAGREE:
        yield f"{mpp:g} µm/px at {objective.power:g}×, where about {objective.mpp:g} is usual: is one of them wrong?"
    if facts.width * facts.height > _FLAT_PX and max(facts.level_downsamples) < settings.tissue_mpp / mpp / 8:
        yield "no coarse level: the tissue view takes long to read"


def _with_duplicates(slides: Sequence[SlideCheck]) -> Iterable[SlideCheck]:
    times = Counter(slide.slide_id for slide in slides)
    for slide in slides:
        others = [other.path for other in slides if other.slide_id == slide.slide_id and other.path != slide.path]
        if times[slide.slide_id] > 1:
            problem = f"{slide.path}: {some(others)} has the slide_id {slide.slide_id!r} too. Rename or leave out one."
            slide = replace(slide, problems=(*slide.problems, problem))
        yield slide


def _together(slides: Sequence[SlideCheck]) -> Iterable[str]:
    mpps = sorted(slide.mpp for slide in slides if slide.mpp is not None)
    groups = [(low, 1) for low in mpps[:1]]
    for mpp in mpps[1:]:
        low, count = groups[-1]
        groups[-1:] = [(low, count + 1)] if mpp <= low * (1 + _ALIKE) else [(low, count), (mpp, 1)]
    if len(groups) > 1:
        yield "scanned at " + ", ".join(f"{low:.4g} µm/px ({count})" for low, count in groups)
