"""One switch at a time against the default, on the same folds and cases."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wsisurv.cohort import Case, Cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool
from wsisurv.errors import CohortError, SettingsError, SharesLeftError
from wsisurv.experiments.fold_settings import Changes, student_settings, teacher_settings, with_covariates
from wsisurv.experiments.model_names import DISTILLED, PLAIN, SELECTED
from wsisurv.experiments.scoring import STEP, ScoredFolds
from wsisurv.experiments.side_by_side import Difference, ModelFigures, compare_with_first
from wsisurv.experiments.switches import SWITCHES, switched
from wsisurv.experiments.tested import ScoredFold
from wsisurv.experiments.verdict import Judgement, judge
from wsisurv.experiments.with_slides import score_with_slides
from wsisurv.formats.atomic import write_json
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.version import versions
from wsisurv.workspace.paths import Workspace

DEFAULT = "default"


@dataclass(frozen=True)
class AblationResult:
    """What came out.

    Attributes:
        models: the selected student of the default and of each variant, by their names.
        differences: each variant minus the default, paired.
        judgements: what each difference shows, in the same order.
        gains: for the default and each variant, its distilled minus its baseline student: many switches
            act on both, and only this is what the reports add. None where no case has a report.
        path: of ablation.json.
        warnings: what a person should know, one line each.
    """

    models: tuple[ModelFigures, ...]
    differences: tuple[Difference, ...]
    judgements: tuple[Judgement, ...]
    gains: tuple[Difference, ...] | None
    path: Path
    warnings: tuple[str, ...]


def ablate(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    *,
    switches: Sequence[str] | None = None,
    teacher: TeacherSettings | Changes | None = None,
    student: DistillSettings | Changes | None = None,
    splits: Path | None = None,
    keep_together: bool = False,
    allow_random_weights: bool = False,
    device: str = "auto",
    memory_gib: float | None = None,
    workers: int | None = None,
    pool: Pool | None = None,
    shard: Shard | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> AblationResult:
    """Score the selected student of the default and of each variant; writes evaluation/ablation.json.

    The default's folds are those of ``crossval``, kept or made in crossval/; a variant's are in ablation/SWITCH/.

    Args:
        workspace: holds features and statements.
        cohort: the cases.
        settings: the same as for ``crossval``.
        switches: what to try, see ``switched``; None for every switch of the method that changes the default.
        teacher: the default's, as ``crossval``.
        student: the default's, as ``crossval``.
        splits: as ``crossval``.
        keep_together: as ``crossval``.
        allow_random_weights: as ``crossval``.
        device: as ``crossval``.
        memory_gib: as ``crossval``.
        workers: as ``crossval``.
        pool: as ``crossval``.
        shard: as ``crossval``, of the default's folds and of each variant's.
        redo: as ``crossval``.
        progress: called in each variant in turn.

    Raises:
        SettingsError: no such switch, or one that changes nothing.
        CohortError: no switch; as ``crossval``.
        SharesLeftError: as ``crossval``.
        WsisurvError: as ``crossval``.
    """
    folder = workspace.cohort(cohort.name)
    settings = with_covariates(settings, cohort)
    default = (teacher_settings(folder, teacher), student_settings(folder, student))
    variants = _variants(switches, *default)
    runs, left = {}, None
    for name, (its_teacher, its_student) in {DEFAULT: default, **variants}.items():
        place = STEP if name == DEFAULT else f"ablation/{name}"
        try:
            runs[name] = score_with_slides(
                workspace,
                cohort,
                settings,
                its_teacher,
                its_student,
                place=place,
                teachers_at=folder / STEP if name != DEFAULT and its_teacher == default[0] else None,
                splits=splits,
                keep_together=keep_together,
                allow_random_weights=allow_random_weights,
                device=device,
                memory_gib=memory_gib,
                workers=workers,
                pool=pool,
                shard=shard,
                redo=redo,
                progress=_named(progress, place),
            )
        except SharesLeftError as error:  # the other variants' folds of this share come first
            left = SharesLeftError(f"{place}: {error}")
    if left is not None:
        raise left
    return _record(runs, cohort, settings, folder / "evaluation" / "ablation.json")


def _variants(
    switches: Sequence[str] | None, teacher: TeacherSettings, student: DistillSettings
) -> dict[str, tuple[TeacherSettings, DistillSettings]]:
    """Switch → settings; switches of the method that change nothing here are passed over, asked ones are an error."""
    if switches is not None and not switches:
        raise CohortError("no switch to try: name one with --switch NAME=VALUE")
    variants = {switch: switched(switch, teacher, student) for switch in switches or SWITCHES}
    same = [switch for switch, settings in variants.items() if settings == (teacher, student)]
    if switches is not None and same:
        raise SettingsError(f"--switch {same[0]}: that is how the default is already")
    return {switch: settings for switch, settings in variants.items() if switch not in same}


def _named(progress: Progress, place: str) -> Progress:
    return lambda done, total, what: progress(done, total, f"{place}, {what}")


def _record(runs: Mapping[str, ScoredFolds], cohort: Cohort, settings: CrossvalSettings, path: Path) -> AblationResult:
    """Selected students against the default's, each distilled one against its baseline student; written to ``path``."""
    first = runs[DEFAULT]
    cases = first.cohort.cases
    scored = {name: run.for_results() for name, run in runs.items()}
    folds = [
        replace(fold, risks={name: scored[name][number].risks[SELECTED] for name in runs})
        for number, fold in enumerate(scored[DEFAULT])
    ]
    compared = compare_with_first(folds, cases, resamples=settings.resamples, seed=settings.seed)
    judgements = tuple(judge(difference) for difference in compared.differences)
    gains, warnings = None, [*first.warnings, *compared.warnings]
    for name, run in runs.items():
        warnings += [f"{name}, {line}" for line in run.warnings if line not in first.warnings]
    if first.cases_with_statements:
        gains = tuple(_gain(name, folds, cases, settings) for name, folds in scored.items())
    else:
        warnings.append("no case has statements of a report, so the students compared are baseline students")
    record = {
        "format": "wsisurv/ablation",
        "cohort": {"name": cohort.name, "fingerprint": cohort.fingerprint},
        "settings": {
            "crossval": settings.model_dump(mode="json"),
            **{name: run.settings for name, run in runs.items()},
        },
        "versions": versions(),
        "interval": compared.interval,
        "models": [asdict(row) for row in compared.models],
        "differences": [
            {**asdict(row), "finding": one.value} for row, one in zip(compared.differences, judgements, strict=True)
        ],
        "gains": None if gains is None else [asdict(row) for row in gains],
        "warnings": warnings,
    }
    write_json(path, record)
    return AblationResult(compared.models, compared.differences, judgements, gains, path, tuple(warnings))


def _gain(name: str, folds: Sequence[ScoredFold], cases: Sequence[Case], settings: CrossvalSettings) -> Difference:
    """The distilled student minus the baseline student of the same settings, named as the variant."""
    pairs = [replace(fold, risks={f"{name}, plain": fold.risks[PLAIN], name: fold.risks[DISTILLED]}) for fold in folds]
    return compare_with_first(pairs, cases, resamples=settings.resamples, seed=settings.seed).differences[0]
