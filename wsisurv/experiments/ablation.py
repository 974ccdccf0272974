"""One switch at a time against the default, on the same folds and cases."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wsisurv.cohort import Case, Cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import CohortError
from wsisurv.experiments.crossval import versions
from wsisurv.experiments.fold_job import Training
from wsisurv.experiments.model_names import DISTILLED, PLAIN
from wsisurv.experiments.results import Difference, ModelFigures, compare_within
from wsisurv.experiments.scoring import STEP, ScoredFolds, score_folds
from wsisurv.experiments.tested import ScoredFold
from wsisurv.experiments.verdict import Finding, finding
from wsisurv.formats.atomic import write_text
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.workspace.paths import Workspace

DEFAULT = "default"


@dataclass(frozen=True)
class AblationResult:
    """What came out.

    Attributes:
        models: the default and each variant, by their names.
        differences: each variant minus the default, paired.
        findings: what each difference shows, in the same order.
        gains: for the default and each variant, its student minus the plain student of the same settings: many switches
            act on both, and only this is what the reports add. None where no case has a report.
        path: of ablation.json.
        warnings: what a person should know, one line each.
    """

    models: tuple[ModelFigures, ...]
    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...]
    gains: tuple[Difference, ...] | None
    path: Path
    warnings: tuple[str, ...]


def ablate(
    workspace: Workspace,
    cohort: Cohort,
    settings: CrossvalSettings,
    default: Training,
    variants: Mapping[str, Training],
    *,
    splits: Path | None = None,
    keep_together: bool = False,
    redo: bool = False,
    progress: Progress = no_progress,
) -> AblationResult:
    """Score the student of the default and of each variant; writes evaluation/ablation.json.

    The default's folds are those of ``crossval``, kept or made in crossval/; a variant's are in ablation/NAME/.

    Args:
        workspace: holds features and statements.
        cohort: the cases.
        settings: the same as for ``crossval``.
        default: training with nothing switched.
        variants: name → training with one thing switched.
        splits: as ``crossval``.
        keep_together: as ``crossval``.
        redo: as ``crossval``.
        progress: told of each variant in turn.

    Raises:
        CohortError: no variant; as ``score_folds``.
        WsisurvError: as ``crossval``.
    """
    if not variants:
        raise CohortError("no switch to try: name one with --switch NAME=VALUE")

    def scored_by(training: Training, place: str, redo_splits: bool) -> ScoredFolds:
        return score_folds(
            workspace,
            cohort,
            settings,
            training,
            splits=splits,
            keep_together=keep_together,
            redo=redo_splits,
            place=place,
            progress=lambda done, total, what: progress(done, total, f"{place}, {what}"),
        )

    runs = {DEFAULT: scored_by(default, STEP, redo)}
    for name, training in variants.items():
        runs[name] = scored_by(training, f"ablation/{name}", redo)
    first = runs[DEFAULT]
    student = DISTILLED if first.cases_with_statements else PLAIN
    numbered = {name: run.for_account() for name, run in runs.items()}
    folds = [
        replace(fold, risks={name: numbered[name][number].risks[student] for name in runs})
        for number, fold in enumerate(numbered[DEFAULT])
    ]
    compared = compare_within(folds, first.cohort.cases, resamples=settings.resamples, seed=settings.seed)
    findings = tuple(finding(difference) for difference in compared.differences)
    gains = None
    if student == DISTILLED:
        gains = tuple(_gain(name, folds, first.cohort.cases, settings) for name, folds in numbered.items())
    warnings = list(first.warnings)
    if student == PLAIN:
        warnings.append("no case has statements of a report, so the students compared are plain ones")
    record = {
        "format": "wsisurv/ablation",
        "cohort": {"name": cohort.name, "fingerprint": cohort.fingerprint},
        "settings": {
            "crossval": settings.model_dump(mode="json"),
            **{name: training.settings for name, training in {DEFAULT: default, **variants}.items()},
        },
        "versions": versions(),
        "models": [asdict(row) for row in compared.models],
        "differences": [
            {**asdict(row), "finding": found.value} for row, found in zip(compared.differences, findings, strict=True)
        ],
        "gains": None if gains is None else [asdict(row) for row in gains],
        "warnings": warnings,
    }
    path = workspace.cohort(cohort.name) / "evaluation" / "ablation.json"
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return AblationResult(compared.models, compared.differences, findings, gains, path, tuple(warnings))


def _gain(name: str, folds: Sequence[ScoredFold], cases: Sequence[Case], settings: CrossvalSettings) -> Difference:
    """The distilled student minus the plain one of the same settings, named as the variant."""
    pairs = [replace(fold, risks={f"{name}, plain": fold.risks[PLAIN], name: fold.risks[DISTILLED]}) for fold in folds]
    return compare_within(pairs, cases, resamples=settings.resamples, seed=settings.seed).differences[0]
