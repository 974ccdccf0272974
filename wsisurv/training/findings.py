"""Findings of reports told from slides: a calibrated head a finding, fitted and judged within hospital."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.packed import Bags
from wsisurv.cohort import Cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import CohortError
from wsisurv.formats.atomic import write_json, write_text
from wsisurv.formats.cards import FamiliarityLimit
from wsisurv.formats.finding_cards import FindingRow, FindingsCard, FindingsResult
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, model_format, read_model, write_model
from wsisurv.formats.statements import ReportRecord, read_statements
from wsisurv.models.familiarity import Familiarity, fit_familiarity
from wsisurv.models.finding_heads import CrossFittedHeads, cross_fit_heads
from wsisurv.models.finding_table import KINDS, FindingTable, make_table
from wsisurv.models.principal import principal_directions
from wsisurv.settings.base import fingerprint
from wsisurv.settings.findings import FindingsSettings
from wsisurv.survival.splits import hospital_strata, kept_whole, make_folds
from wsisurv.training.finding_figures import covariate_heads, judge, why_no_head
from wsisurv.training.inputs import TrainingCases, read_training_cases
from wsisurv.version import versions
from wsisurv.workspace.freshness import all_done
from wsisurv.workspace.paths import Workspace

STEP = "findings"
METHOD = {"wsisurv's version of findings": "1"}
"""Raised when the same settings fit or judge otherwise."""
_FAMILIAR_DIRECTIONS = 16
_FEW_REPORTS = 0.5


def learn_findings(
    workspace: Workspace,
    cohort: Cohort,
    settings: FindingsSettings | None = None,
    *,
    allow_random_weights: bool = False,
    memory_gib: float | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> FindingsResult:
    """Learn what reports state from tiles, and judge each finding out of fold.

    Writes findings.h5, evaluation/findings.json and evaluation/findings.csv into the cohort's folder. Findings that
    can't be told have figures there and no head in the model.

    Args:
        workspace: holds features and statements.
        cohort: the cases.
        settings: how; None for the defaults.
        allow_random_weights: use features of an encoder that was never trained.
        memory_gib: what features may take in memory; None for half of the machine's. Changes no result.
        redo: replace a model that was made otherwise.
        progress: called after each fit.

    Raises:
        MissingArtifactError: no statements, or features of a slide are missing.
        CohortError: no case of the cohort has statements.
        EncoderMismatchError, SettingsError: as ``read_training_cases``.
        StaleError: the model was made otherwise, and not ``redo``.
        BusyError: another process is at it.

    Example:
        >>> import wsisurv
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> [row.name for row in wsisurv.findings(place, wsisurv.Cohort.load(place)).told]  # doctest: +SKIP
    """
    settings = settings or FindingsSettings()
    records = read_statements(workspace.statements)
    cases = read_training_cases(
        workspace,
        cohort,
        encoder=settings.encoder,
        text_encoder=None,
        allow_random_weights=allow_random_weights,
        memory_gib=memory_gib,
    )
    table = _table(workspace.statements, records, cohort.name, cases)
    folder = workspace.cohort(cohort.name)
    read = {one: records[one].fingerprint for one in cases.case_ids if one in records}
    inputs = {**cases.inputs, "statements": fingerprint({}, read), **METHOD}
    path = folder / "findings.h5"
    header = make_header(model_format("findings"), settings, inputs)
    if all_done({path: header}, redo=redo):
        return read_model(path, "findings")[0].card.result.model_copy(update={"kept": True})
    with workspace.claim_alone(
        STEP, cohort.name, f"learning findings of cohort {cohort.name}", settings.model_dump(mode="json")
    ):
        means = mean_tiles_of(cases.bags)
        fitted = fit_findings(table, cases.site, means, cases.bags, settings, progress)
        by_covariates = covariate_heads(cases.clinical, fitted.targets, fitted.fold) if fitted.kinds else None
        judged = judge(table, fitted.kinds, fitted.crossed, by_covariates, fitted.fold, cases.site, settings)
        result = FindingsResult(
            cases=len(cases.case_ids),
            reports=int(table.reported.sum()),
            hospitals=len({site for site in cases.site if site}),
            interval=judged.units.method,
            covariates=tuple(sorted({name for case in cases.clinical for name in case.covariates})),
            findings=judged.rows,
            warnings=(*cases.warnings, *_warnings(table, cases, fitted, judged.rows, judged.units.warning)),
        )
        write_json(
            folder / "evaluation" / "findings.json",
            _record(cohort, settings, cases, fitted, header.fingerprint, result),
        )
        write_text(folder / "evaluation" / "findings.csv", _csv(judged.rows))
        write_model(path, _model(cohort, settings, cases, means, fitted, result), header)  # last: where it is, all is
    return result


@dataclass(frozen=True)
class FittedFindings:
    """Heads of the findings that have cases enough."""

    kinds: tuple[int, ...]  # their numbers in ``KINDS``
    targets: NDArray[np.float64]  # (n_cases, n_kinds), 1 present, 0 absent, NaN unknown
    crossed: CrossFittedHeads  # in this order
    fold: NDArray[np.int64]  # (n_cases,); member k was fitted without fold k


def fit_findings(
    table: FindingTable,
    site: Sequence[str | None],
    means: NDArray[np.float64],
    bags: Bags,
    settings: FindingsSettings,
    progress: Progress = no_progress,
) -> FittedFindings:
    """Fit the heads of all findings that have cases enough, and none on any other case.

    Args:
        table: what the reports of the cases state.
        site: hospital of each case, kept whole in the folds where they can be.
        means: (n_cases, d), ``mean_tiles_of(bags)``.
        bags: tiles of the cases.
        settings: how.
        progress: called after each fit.
    """
    kinds = tuple(k for k in range(len(KINDS)) if not why_no_head(table.target(k), settings.fewest))
    targets = np.stack([table.target(k) for k in kinds], axis=1) if kinds else np.zeros((len(means), 0))
    n_folds = min(settings.folds, len(means))
    fold = make_folds(event=table.reported, n_folds=n_folds, seed=settings.seed, site=site)
    crossed = cross_fit_heads(
        targets,
        site,
        fold,
        means=means,
        tiles=(lambda: each_bag(bags)) if settings.pooling == "attention" else None,
        progress=lambda done, total: progress(done, total, STEP),
    )
    return FittedFindings(kinds, targets, crossed, fold)


def each_bag(bags: Bags) -> Iterator[NDArray[np.floating]]:
    """Tiles of each bag, (n_tiles, d), one after the other; some in memory at a time."""
    for part in bags.parts():
        packed = part.load()
        rows, ends = packed.rows.numpy(), packed.offsets.tolist()
        yield from (rows[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True))


def mean_tiles_of(bags: Bags) -> NDArray[np.float64]:
    """Mean tile of each bag, float64 (n_bags, d)."""
    return np.stack([tiles.mean(axis=0, dtype=np.float64) for tiles in each_bag(bags)])


def _table(path: Path, records: dict[str, ReportRecord], cohort: str, cases: TrainingCases) -> FindingTable:
    table = make_table(records, cases.case_ids)
    if not table.reported.any():
        with_some = next((case_id for case_id, record in records.items() if record.statements), None)
        seen = f"its reports are of other cases, {with_some} for one" if with_some else "no report in it gave any"
        raise CohortError(
            f"{path}: no case of cohort {cohort} has statements ({seen}; the cohort has {cases.case_ids[0]}). Run "
            "`wsisurv extract-report` on the reports of these cases, whose ids must be those of the clinical table."
        )
    return table


def _warnings(
    table: FindingTable, cases: TrainingCases, fitted: FittedFindings, rows: Sequence[FindingRow], units: str
) -> list[str]:
    share = float(table.reported.mean())
    told = []
    if share < _FEW_REPORTS:
        told.append(f"{table.reported.sum()} of {len(cases.case_ids)} cases have statements: are they of this cohort?")
    known = sum(map(bool, cases.site))
    if hospital_strata(cases.site) is None:
        told.append(
            "all cases are of one hospital: figures say nothing of another"
            if known == len(cases.site) and len(set(cases.site)) == 1
            else f"the hospital is known of {known} of {len(cases.site)} cases: it can't be excluded that heads tell "
            "hospitals by their stain, and not findings. Name a column with --site when the cohort is made."
        )
    elif all(cases.site) and not kept_whole(cases.site, fitted.fold):
        told.append("hospitals could not be kept whole in folds: figures are of hospitals that heads have seen")
    told += [units] if units and not told else []
    if not fitted.kinds:
        told.append("no finding has cases enough with and without it: no head was fitted (--fewest)")
    elif not any(row.told for row in rows):
        told.append("no finding can be told from these features. Are the reports those of these cases?")
    return told


def _record(
    cohort: Cohort,
    settings: FindingsSettings,
    cases: TrainingCases,
    fitted: FittedFindings,
    made: str,
    result: FindingsResult,
) -> dict[str, Any]:
    return {
        "format": "wsisurv/findings-record",
        "cohort": {"name": cohort.name, "fingerprint": cohort.fingerprint},
        "model": made,
        "settings": settings.model_dump(mode="json"),
        "versions": versions(),
        **result.model_dump(mode="json", exclude={"kept"}),
        "folds": dict(zip(cases.case_ids, fitted.fold.tolist(), strict=True)),
    }


def _csv(rows: Sequence[FindingRow]) -> str:
    """The figures, a row a finding; an empty cell is not known."""
    import csv
    import io

    text = io.StringIO()
    table = csv.DictWriter(text, list(FindingRow.model_fields), lineterminator="\n")
    table.writeheader()
    for row in rows:
        values = row.model_dump()
        table.writerow({name: f"{v:.4f}" if isinstance(v, float) else v for name, v in values.items()})
    return text.getvalue()


def _model(
    cohort: Cohort,
    settings: FindingsSettings,
    cases: TrainingCases,
    means: NDArray[np.float64],
    fitted: FittedFindings,
    result: FindingsResult,
) -> ModelFile[FindingsCard]:
    names = [KINDS[kind].name for kind in fitted.kinds]
    told = {row.name for row in result.told}
    heads = {name: head for name, head in zip(names, fitted.crossed.heads, strict=True) if name in told}
    to, familiarity = fit_case_familiarity(means, fitted.fold, cases.site)
    arrays = {
        f"heads/{name}/{part}": np.asarray(value) for name, head in heads.items() for part, value in vars(head).items()
    }
    arrays |= {"usual": means.mean(axis=0), "directions": to, **familiarity.arrays()}
    card = FindingsCard(
        encoder=settings.encoder,
        n_features=means.shape[1],
        embed_settings=dict(cases.embed_settings),
        encoder_weights=cases.encoder_weights,
        tile_settings=dict(cases.tile_settings),
        pooling=settings.pooling,
        cohort=cohort.name,
        members=len(np.unique(fitted.fold)),
        heads=tuple(heads),
        familiarity=FamiliarityLimit(threshold=familiarity.threshold),
        result=result,
    )
    return ModelFile(arrays, card)


def fit_case_familiarity(
    means: NDArray[np.float64], fold: NDArray[np.int64], site: Sequence[str | None]
) -> tuple[NDArray[np.float64], Familiarity]:
    """Directions (d, k) of the mean tiles, and how far along them a case may lie from those of the training."""
    mean, sd = means.mean(axis=0), means.std(axis=0)
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-9 * (1 + np.abs(mean)))
    to = scale[:, None] * principal_directions((means - mean) * scale, _FAMILIAR_DIRECTIONS).rows.T
    members = np.unique(fold)
    states = np.broadcast_to((means - mean) @ to, (len(members), len(means), to.shape[1]))
    return to, fit_familiarity(states, seen=fold != members[:, None], site=site)
