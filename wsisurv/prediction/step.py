"""Step 6, predict: a student and the features of cases → risks."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from wsisurv.bags.cases import CaseRead, CaseUnread, SlideRead, read_cases
from wsisurv.bags.checks import Expected
from wsisurv.engine.devices import choose_device
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.workers import Pool, cores, finished
from wsisurv.errors import (
    BackendError,
    EncoderMismatchError,
    FormatError,
    MissingArtifactError,
    SettingsError,
    SlideError,
)
from wsisurv.formats.finding_rows import CaseFindings
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import read_model
from wsisurv.formats.remote import RemotePath
from wsisurv.formats.risks import Risk
from wsisurv.formats.tiles import read_tiles
from wsisurv.models.ensemble import Ensemble
from wsisurv.prediction.card import open_student
from wsisurv.prediction.findings import OpenHeads
from wsisurv.prediction.rows import OddSlide, make_row
from wsisurv.prediction.stain import look_at, measured_warnings
from wsisurv.slides.find import require_tiled
from wsisurv.slides.reader import Slide
from wsisurv.slides.stage import staged
from wsisurv.workspace.freshness import Origin, compare, require_fresh
from wsisurv.workspace.ledger import Failure, make_failure
from wsisurv.workspace.paths import Workspace

HORIZONS = (1.0, 3.0, 5.0)


@dataclass(frozen=True)
class Prediction:
    """What came out.

    Attributes:
        risks: one a case that could be read, sorted by case.
        failed: cases of which a features file is missing or damaged, not of the slide's tiles or not of the student's
            encoder, or whose slide is another now than was tiled; no risk is given from half a case.
        findings: how likely each finding is in each case with tiles; empty without heads.
    """

    risks: tuple[Risk, ...]
    failed: tuple[Failure, ...]
    findings: tuple[CaseFindings, ...] = ()


def check_horizons(years: Sequence[float]) -> tuple[float, ...]:
    """Years to which survival is wanted, in order.

    Raises:
        SettingsError: one is no positive number, or comes twice.
    """
    names = [f"{value:g}" for value in years]
    if any(not 0 < value < float("inf") for value in years) or len(set(names)) < len(names):
        raise SettingsError(f"horizons {', '.join(names)}: different numbers of years above 0 are needed")
    return tuple(sorted(years))


def student_device(device: str) -> str:
    """Where the student computes: on CUDA if asked or there, of several the first; for others its work is too small.

    Raises:
        SettingsError: as ``choose_device``.
    """
    first = device.partition(",")[0].strip()
    return str(choose_device(first if first.startswith(("auto", "cuda")) else "cpu", ("cuda",)))


def group_slides(slide_ids: Sequence[str], slide_map: Mapping[str, str] | None = None) -> dict[str, tuple[str, ...]]:
    """Whose each slide is, for slides straight from the scanner.

    Args:
        slide_ids: the slides.
        slide_map: slide_id → case_id, as ``cohort.map_slides`` gives it.

    Returns:
        case_id → its slides, both sorted; a slide that is not in the map is a case of its own.
    """
    groups: dict[str, list[str]] = {}
    for slide_id in sorted(set(slide_ids)):
        groups.setdefault((slide_map or {}).get(slide_id) or slide_id, []).append(slide_id)
    return {case_id: tuple(groups[case_id]) for case_id in sorted(groups)}


def training_folds(student: Path, guidance: Path) -> dict[str, int]:
    """The fold of each case that the student was trained on: case_id → fold.

    Empty where ``guidance`` is of another training than the student's: then its cases are new to the student.

    Raises:
        MissingArtifactError, FormatError: a file is missing or damaged.
        StaleError: student and guidance lie side by side, but the teacher was trained anew since.
    """
    _, header = read_model(student, "student")
    guided, made = read_guidance(guidance)
    seen = compare(
        Origin(header.inputs.get("guidance", "")), Origin(made.fingerprint), also=["the teacher was trained anew since"]
    )
    if seen.done:
        return dict(zip(guided.case_ids, guided.fold.tolist(), strict=True))
    if student.parent.resolve() == guidance.parent.resolve():
        require_fresh({student: seen}, remedy="Run `wsisurv distill --redo` first.")
    return {}


def look_at_slides(
    workspace: Workspace,
    slide_ids: Sequence[str],
    *,
    pool: Pool | None = None,
    stage: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, tuple[str, ...]]:
    """What the colours of slides say against H&E: slide_id → warnings; slides that can't be looked at are left out.

    Args:
        workspace: where they are tiled.
        slide_ids: the slides.
        pool: machines to do it on, instead of threads here.
        stage: folder on a disk of the machine, to which a slide at a URL is copied; of others a few tiles are read.
        progress: called after each slide.

    Raises:
        StorageError: ``stage`` has no room.
        BackendError: a worker died again and again.
    """
    if pool is not None:  # whose working folder is another
        workspace, stage = Workspace(workspace.root.absolute()), stage and stage.absolute()
    seen = {}
    look = partial(_look, workspace, stage)
    with closing(finished(look, slide_ids, min(cores(), len(slide_ids)), pool=pool)) as looks:
        for number, (slide_id, warnings) in enumerate(looks):
            if isinstance(warnings, Exception):  # why the pool can't give them
                raise BackendError(f"{slide_id}: {warnings}")
            progress(number + 1, len(slide_ids), slide_id)
            if warnings is not None:
                seen[slide_id] = warnings
    progress(len(slide_ids), len(slide_ids), "")
    return seen


def _look(workspace: Workspace, stage: Path | None, slide_id: str) -> tuple[str, ...] | None:
    try:
        tiles, _ = read_tiles(workspace.tiles(slide_id))
        place = tiles.slide_path
        with staged(place, stage if isinstance(place, RemotePath) else None) as file, Slide(file, tiles.mpp) as slide:
            side = tiles.tile_level0_px
            return look_at(slide, tiles.coords, level0_px=side, tile_px=tiles.tile_px).warnings
    except (MissingArtifactError, FormatError, SlideError, OSError):
        return None  # of a slide that can't be read there is a failure already, or features without a slide


def predict_cases(
    student: Path,
    bags: Mapping[str, Sequence[Path]],
    *,
    fold_of: Mapping[str, int] | None = None,
    horizons: Sequence[float] = HORIZONS,
    looks: Mapping[str, Sequence[str]] | None = None,
    tiles: Workspace | None = None,
    force_unfamiliar: bool = False,
    heads: OpenHeads | None = None,
    head_fold_of: Mapping[str, int] | None = None,
    device: str = "cpu",
    part: bool = False,
    progress: Progress = no_progress,
) -> Prediction:
    """Predict the risk of each case from all tiles of all of its slides; a few cases in memory at a time.

    A case without a tile has no risk and is of group ``unknown``: nothing was seen, so nothing is said. One that the
    student does not know is ``unfamiliar``, for the reason in its warning, and has no survival.

    Args:
        student: the model's file.
        bags: case_id → features files of its slides.
        fold_of: ``training_folds``; a case of a fold is predicted only by members that did not see that fold, so
            that the student does not repeat what it was taught.
        horizons: years to which survival is wanted.
        looks: ``look_at_slides``.
        tiles: workspace of the slides' tiles: a slide whose file is another now than was tiled fails its case, and
            stored stain densities are asked where a slide was not looked at and was measured.
        force_unfamiliar: give group and survival of unfamiliar cases too.
        heads: of findings, on the features of the student; None says nothing of findings.
        head_fold_of: ``heads_folds``: a case of a fold is left to the member that did not see it.
        device: where to compute, as torch names it.
        part: others do the rest of the cases, so that an error of all these may be one of theirs alone.
        progress: called before each case.

    Raises:
        MissingArtifactError, FormatError: the student is missing or damaged.
        SettingsError: as ``check_horizons``.
        EncoderMismatchError: none of the cases has features of the student's encoder, weights and width.
        FormatError: the student gives no finite number for any case.
    """
    horizons = check_horizons(horizons)
    opened = open_student(student, device=device)
    risks: list[Risk] = []
    failed: list[Failure] = []
    findings: list[CaseFindings] = []
    refused: EncoderMismatchError | FormatError | None = None
    ordered = {case_id: bags[case_id] for case_id in sorted(bags)}
    with closing(read_cases(ordered, Expected(opened.scale.card, student))) as reading:
        for number, case in enumerate(reading):
            progress(number, len(bags), case.case_id)
            if isinstance(case, CaseUnread):
                failed.append(make_failure(case.case_id, case.path, case.error, opened.scale.fingerprint))
                refused = case.error if isinstance(case.error, EncoderMismatchError) else refused
                continue
            if (replaced := _replaced(case, tiles)) is not None:
                failed.append(replaced)
                continue
            states = opened.ensemble.states(case.tiles) if case.n_tiles else None
            odd = [_odd(slide, looks or {}, tiles) for slide in case.slides]
            if sum(len(slide.features.values) > 0 for slide in case.slides) > 1:
                odd = [_with_states(one, slide, opened.ensemble) for one, slide in zip(odd, case.slides, strict=True)]
            fold = (fold_of or {}).get(case.case_id)
            try:
                risks.append(
                    make_row(
                        opened.scale,
                        case,
                        states,
                        odd=odd,
                        fold=fold,
                        horizons=horizons,
                        force_unfamiliar=force_unfamiliar,
                    )
                )
            except FormatError as error:
                failed.append(make_failure(case.case_id, student, error, opened.scale.fingerprint))
                refused = error
                continue
            if heads is not None and case.n_tiles:
                own = (head_fold_of or {}).get(case.case_id)
                findings.append(heads.of_case(case.case_id, case.tiles, fold=own, force_unfamiliar=force_unfamiliar))
    if refused is not None and not risks and not part:
        raise refused  # it is the student that is wrong here, and not one of many cases
    progress(len(bags), len(bags), "")
    return Prediction(tuple(risks), tuple(failed), tuple(findings))


def _replaced(case: CaseRead, tiles: Workspace | None) -> Failure | None:
    """The failure of a case of which a slide's file, where it is there, is not the one that was tiled."""
    if tiles is None:
        return None
    for slide_id in case.slide_ids:
        path = tiles.tiles(slide_id)
        if not path.exists():
            continue
        try:
            tiled, header = read_tiles(path)
            if tiled.slide_path.exists():  # features are enough to predict from
                require_tiled(tiled.slide_path, slide_id, header.inputs.get("slide"))
        except (FormatError, SlideError) as error:
            return make_failure(case.case_id, path, error, "")
    return None


def _with_states(odd: OddSlide, slide: SlideRead, ensemble: Ensemble) -> OddSlide:
    """The slide, with what the members make of it alone; as it is where it has no tile."""
    values = slide.features.values
    return replace(odd, alone=ensemble.states(values)) if len(values) else odd


def _odd(slide: SlideRead, looks: Mapping[str, Sequence[str]], tiles: Workspace | None) -> OddSlide:
    """All that is odd about a slide."""
    slide_id = str(slide.features.slide_id)
    stain = tuple(looks.get(slide_id, ()))
    if slide_id not in looks and tiles is not None and slide.features.tile_settings.get("measures"):
        with suppress(MissingArtifactError, FormatError):
            stain = measured_warnings(read_tiles(tiles.tiles(slide_id))[0])
    return OddSlide(slide_id, slide.warnings, stain)
