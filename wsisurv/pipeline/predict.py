"""``predict``: from slides, or from features that are there, to a table of risks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsisurv.bags.cases import find_bags
from wsisurv.cohort import map_slides, read_cohort, read_slide_map
from wsisurv.engine.progress import Progress, no_progress, of_step
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Pool
from wsisurv.errors import FormatError, InputError, SettingsError, StorageError
from wsisurv.formats.atomic import read_json
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.finding_rows import findings_path, write_case_findings
from wsisurv.formats.id_cells import formula_note
from wsisurv.formats.risk_shares import remove_shares
from wsisurv.formats.risks import Risk, risk_frame, unfamiliar_note, write_notes, write_risks, write_risks_jsonl
from wsisurv.pipeline.from_slides import prepare_slides
from wsisurv.pipeline.predict_shares import put_together
from wsisurv.prediction.card import read_scale
from wsisurv.prediction.findings import OpenHeads, heads_folds, open_heads, require_same_features
from wsisurv.prediction.notes import make_notes
from wsisurv.prediction.step import (
    HORIZONS,
    Prediction,
    check_horizons,
    group_slides,
    predict_cases,
    student_device,
    training_folds,
)
from wsisurv.settings.base import fingerprint
from wsisurv.slides.find import find_slides
from wsisurv.slides.resolution import GivenMpp
from wsisurv.units import shown_name
from wsisurv.workspace.ledger import Summary, exclusive, forget_failures, record_failure
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PredictResult:
    """What ``predict`` found and wrote.

    Attributes:
        prediction: a risk a case, and the cases that failed.
        horizons: years to which survival is given.
        table: the CSV.
        notes: the JSON beside it: what made the table.
        findings: the CSV of findings beside it; None where the student's folder has no heads of findings.
        warnings: what speaks against the survival to a horizon.
        summaries: of tiling and embedding, where slides were named.
        shares_left: shares of a job array that have not ended; the table is not written then, and ``prediction`` is of
            this share's cases.
    """

    prediction: Prediction
    horizons: tuple[float, ...]
    table: Path
    notes: Path
    findings: Path | None
    warnings: tuple[str, ...]
    summaries: tuple[Summary, ...]
    shares_left: int = 0

    def to_frame(self) -> "pd.DataFrame":
        """The table as a data frame, a row a case, by case_id; what is not known is missing."""
        return risk_frame(self.prediction.risks, horizons=self.horizons)


def predict(
    workspace: Workspace,
    slides: Sequence[Path] = (),
    *,
    student: Path | None = None,
    cohort: str | None = None,
    output: Path | None = None,
    jsonl: bool = False,
    horizons: Sequence[float] = HORIZONS,
    slide_map: Path | None = None,
    given: GivenMpp | None = None,
    allow_upsampling: bool = False,
    weights_file: Path | None = None,
    pool_weights: Path | None = None,
    tissue_model: Path | None = None,
    device: str = "auto",
    pool: Pool | None = None,
    stage: Path | None = None,
    force_unfamiliar: bool = False,
    shard: Shard | None = None,
    redo: bool = False,
    command: str = "wsisurv.predict",
    progress: Progress = no_progress,
) -> PredictResult:
    """Predict the risk of each case, from slides alone, and write the table.

    Args:
        workspace: where features are, or are made.
        slides: slides straight from the scanner, files or folders; they are tiled and embedded as the student's were.
            Without any: the cohort's own cases, each by members that did not see it; with ``student`` alone, every
            slide with features in the workspace.
        student: the student's file; None for ``cohorts/NAME/student.h5``.
        cohort: name of the cohort; None for the only one there is.
        output: the table; None for ``cohorts/NAME/risk.csv``, or ``risk.csv`` here where slides are named.
        jsonl: write the same rows as JSONL beside it.
        horizons: years to which survival is wanted.
        slide_map: table slide_id,case_id; without it each slide is a case of its own.
        given: resolutions that slides don't state.
        allow_upsampling: enlarge slides scanned coarser than the student's tiles; rows say so.
        weights_file: the encoder's weights, where the student was trained on features of a file.
        pool_weights: the slide encoder's weights, where the student was trained on rows that ``pool`` made with some.
        tissue_model: the network that finds tissue, where one found that of the student's training slides.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        pool: machines to tile and embed the slides on, instead of this one.
        stage: folder on a disk of the machine, to which each slide is copied before it is read.
        force_unfamiliar: give group and survival of cases too that the student does not know; without, their group is
            ``unfamiliar`` and their survival empty.
        shard: do this part of the cases only, and put the table together where the others are done.
        redo: make anew tiles and features that were made otherwise.
        command: what was called, for the notes.
        progress: called with (done, total, what).

    Returns:
        Risks, sorted by case; a case that can't be read is in ``prediction.failed``, never half predicted.

    Raises:
        SettingsError: horizons that can't be, or a table that is no CSV.
        InputError: there is nothing to predict.
        MissingArtifactError, FormatError: the student is missing or damaged.
        StaleError: the teacher was trained anew since the student was distilled.
        EncoderMismatchError: no case has features of the student's encoder.

    Example:
        >>> import wsisurv
        >>> found = wsisurv.predict(wsisurv.Workspace(Path("workspace")), [Path("new_slides")])  # doctest: +SKIP
        >>> found.to_frame()[["log_hazard", "risk_group", "warning"]]  # doctest: +SKIP
    """
    years = check_horizons(horizons)
    name = None if student and not cohort else workspace.the_cohort(cohort, having="student.h5")
    if slide_map is not None and name is not None and not slides:
        raise SettingsError(f"--slide-map {slide_map}: of no use for the cohort's own cases; it goes with slides")
    model = student or workspace.cohort(str(name)) / "student.h5"
    table = output or (workspace.cohort(name) / "risk.csv" if name is not None and not slides else Path("risk.csv"))
    if table.suffix in {".json", ".jsonl"}:
        raise SettingsError(f"-o {table}: the table is CSV; {table.with_suffix('.json').name} is written beside it")
    scale = read_scale(model)
    card = scale.card
    if not slides:
        workspace.require()
    encoder, heads = card.encoder, _heads(model, card)
    ready, asked = None, None
    if slides and shard is not None:
        found = {shown_name(slide_id): slide_id for slide_id in find_slides(slides)}
        asked = _grouped([*found], slide_map)
        mine = {found[slide_id] for several in shard.of([*asked.slides.values()]) for slide_id in several}
    if slides:
        ready = prepare_slides(
            workspace,
            slides,
            model,
            given=given,
            allow_upsampling=allow_upsampling,
            weights_file=weights_file,
            pool_weights=pool_weights,
            tissue_model=tissue_model,
            device=device,
            pool=pool,
            stage=stage,
            slide_ids=mine if asked else None,
            share=f"/{shard.number}-of-{shard.count}" if shard else "",
            redo=redo,
            progress=progress,
        )
    home = ready.workspace if ready else workspace
    if ready is None and name is not None:
        asked = _of_cohort(home, name, model, heads)
    elif asked is None:
        asked = _grouped(ready.slide_ids if ready else home.embedded_slides(encoder), slide_map)
    if not asked.slides:
        raise InputError(f"{home.root}: no features of encoder {encoder!r}. Name slides, or run `wsisurv embed`.")
    own = asked.slides if shard is None else dict(shard.of([*asked.slides.items()]))
    made = prediction = predict_cases(
        model,
        find_bags(home, encoder, own),
        fold_of=asked.folds,
        horizons=years,
        looks=ready.looks if ready else {},
        tiles=home,
        force_unfamiliar=force_unfamiliar,
        heads=heads,
        head_fold_of=asked.head_folds,
        device=student_device(device if pool is None else "auto"),  # it computes here
        part=shard is not None,
        progress=of_step(progress, "predict"),
    )
    left = 0
    with _alone(workspace, table):
        if shard is not None:
            settings = {"asked": vars(asked), "horizons": years, "force": force_unfamiliar, "shares": shard.count}
            models = {"student": scale.fingerprint, "heads": heads.fingerprint if heads else ""}
            made_of = fingerprint(settings, models)
            prediction, left, jsonl = put_together(
                home, encoder, asked.slides, table, shard, made_of, prediction, jsonl=jsonl
            )
        notes = make_notes(
            model,
            prediction,
            horizons=years,
            training_cases=asked.folds,
            command=command,
            force_unfamiliar=force_unfamiliar,
        )
        gone = [] if left or heads is not None else _without_findings(table)
        if not left:
            _write(table, prediction, notes, heads, years, jsonl=jsonl)
            remove_shares(table)
    _keep_failures(home, made)
    odd = [f"{one['column']}: {one['reason']}" for one in notes["horizons"] if one["reason"]]
    odd += [*gone, *asked.unused, *unfamiliar_note(prediction.risks), *_formulas(prediction.risks, table.name)]
    return PredictResult(
        prediction,
        years,
        table,
        table.with_suffix(".json"),
        findings_path(table) if heads is not None else None,
        tuple(odd),
        ready.summaries if ready else (),
        left,
    )


def _without_findings(table: Path) -> list[str]:
    """Remove the findings of an earlier table, which would go on saying what heads said that are gone; says so."""
    try:
        written = read_json(table.with_suffix(".json"))["findings"]["table"]
    except (FormatError, ValueError, KeyError, TypeError):  # none, or not ours
        return []
    old = findings_path(table)
    if written != old.name or not old.exists():
        return []
    old.unlink()
    return [f"{old.name} of an earlier prediction was removed: there are no heads of findings now (`wsisurv findings`)"]


def _write(
    table: Path,
    prediction: Prediction,
    notes: dict[str, Any],
    heads: OpenHeads | None,
    years: Sequence[float],
    *,
    jsonl: bool,
) -> None:
    """Write the table and what lies beside it."""
    if heads is not None:
        notes["findings"] = {
            "heads": str(heads.path),
            "fingerprint": heads.fingerprint,
            "table": findings_path(table).name,
            "meaning": "probability that a report would state the finding; empty for a case unlike the training cases",
        }
        write_case_findings(findings_path(table), prediction.findings, heads.card.heads)
    write_risks(table, prediction.risks, horizons=years)
    rows = table.with_suffix(".jsonl")
    if jsonl or rows.exists():  # one that lies there would go on saying what another student said
        write_risks_jsonl(rows, prediction.risks, horizons=years)
    write_notes(table, notes)


@dataclass(frozen=True)
class _Asked:
    """Cases to predict."""

    slides: Mapping[str, Sequence[str]]  # case → its slides
    folds: Mapping[str, int] = field(default_factory=dict)  # training case → its fold
    head_folds: Mapping[str, int] = field(default_factory=dict)  # the same of the heads of findings
    unused: Sequence[str] = ()  # what is odd about the slide map


def _grouped(slide_ids: Sequence[str], slide_map: Path | None) -> _Asked:
    """Slides that are of no cohort, by the case that a table says, or each a case."""
    of_slide, unused = map_slides(slide_ids, read_slide_map(slide_map)) if slide_map else ({}, [])
    return _Asked(group_slides(slide_ids, of_slide), unused=unused)


def _of_cohort(home: Workspace, name: str, model: Path, heads: OpenHeads | None) -> _Asked:
    """A cohort's own cases, each for the members that did not see it."""
    saved, _ = read_cohort(home.cohort(name))
    of_case = {str(case.case_id): case.slide_ids for case in saved.cases}
    folds = training_folds(model, home.cohort(name) / "guidance.h5")
    return _Asked(of_case, folds, heads_folds(heads) if heads is not None and heads.card.cohort == name else {})


def _heads(student: Path, card: StudentCard) -> OpenHeads | None:
    """The heads of findings beside a student; None where there are none, or none that tells anything."""
    path = student.parent / "findings.h5"
    if not path.exists():
        return None
    heads = open_heads(path)
    if not heads.heads:
        return None
    require_same_features(heads, card, student)
    return heads


def _keep_failures(home: Workspace, prediction: Prediction) -> None:
    with suppress(StorageError):  # a workspace that is only read; failures are in the notes too
        for failure in prediction.failed:
            record_failure(home, "predict", failure)
        forget_failures(home, "predict", [risk.case_id for risk in prediction.risks])


def _formulas(risks: Sequence[Risk], where: str) -> list[str]:
    """Cases that are written with a quote in front, or else slides."""
    slides = {slide for risk in risks for slide in risk.slides}
    return formula_note([risk.case_id for risk in risks], where) or formula_note(slides, where)


@contextmanager
def _alone(workspace: Workspace, table: Path) -> Iterator[None]:
    """Write a table and what lies beside it as one, however many runs write it; a workspace may be one to read only."""
    with ExitStack() as stack:
        with suppress(StorageError):
            stack.enter_context(exclusive(workspace, f"table/{fingerprint(str(table.absolute()), {})}"))
        yield
