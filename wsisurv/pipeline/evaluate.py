"""``evaluate``: external validation of a student, from slides or features to a record and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsisurv.bags.cases import find_bags
from wsisurv.cohort import Audit, Cohort, build_cohort, read_clinical, read_slide_map, save_cohort
from wsisurv.engine.progress import Progress, no_progress, of_step
from wsisurv.engine.workers import Pool
from wsisurv.errors import SettingsError
from wsisurv.experiments.drift import drift_verdict
from wsisurv.experiments.external import ExternalCases, ExternalFigures, external_cases, external_figures
from wsisurv.experiments.external_clinic import BesideClinic, beside_clinic, clinic_verdict
from wsisurv.experiments.external_record import RISKS, write_record
from wsisurv.experiments.known_cases import training_cases, without_known
from wsisurv.formats.models import read_model
from wsisurv.formats.risks import risk_frame, write_risks
from wsisurv.pages.external_figures import draw_calibration, draw_groups
from wsisurv.pages.model_card import own_figures
from wsisurv.pipeline.from_slides import FromSlides, prepare_slides
from wsisurv.prediction.card import RiskScale, read_scale
from wsisurv.prediction.step import HORIZONS, Prediction, check_horizons, predict_cases, student_device
from wsisurv.settings.cohort import CohortSettings
from wsisurv.slides.resolution import GivenMpp
from wsisurv.workspace.ledger import Summary
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EvaluateResult:
    """What an external validation found and wrote.

    Attributes:
        cohort: the other cohort, cases without a risk included.
        audit: how it was put together, where it was made now; else None.
        time_unit: of all times here: the student's training cohort's.
        cases: those evaluated, as the student predicts them.
        prediction: the student's risks, and the cases that failed.
        figures: order, calibration and risk groups.
        clinic: what the student adds to covariates; None where none are named.
        own: the student's row of its own cross-validation; None where there is none.
        verdict: what all that shows, a sentence a line.
        warnings: what should be known before it is believed.
        record: external.json.
        summaries: of tiling and embedding, where slides were named.
    """

    cohort: Cohort
    audit: Audit | None
    time_unit: str
    cases: ExternalCases
    prediction: Prediction
    figures: ExternalFigures
    clinic: BesideClinic | None
    own: Mapping[str, Any] | None
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    record: Path
    summaries: tuple[Summary, ...]

    def to_frame(self) -> "pd.DataFrame":
        """Risk and follow-up of each evaluated case, by case_id; ``time`` is in ``time_unit``."""
        import pandas as pd

        risks = risk_frame(self.prediction.risks).dropna(subset=["log_hazard"])
        follow_up = pd.DataFrame({"time": self.cases.time, "event": self.cases.event}, index=list(self.cases.case_ids))
        return risks.join(follow_up)


def evaluate(
    workspace: Workspace,
    student: Path,
    slides: Sequence[Path] = (),
    *,
    cohort: str | None = None,
    clinical: Path | None = None,
    columns: CohortSettings | None = None,
    covariates: Sequence[str] | None = None,
    slide_map: Path | None = None,
    drop_incomplete: bool = False,
    drop_known: bool = False,
    horizons: Sequence[float] = HORIZONS,
    landmarks: Sequence[float] = (),
    resamples: int = 1000,
    given: GivenMpp | None = None,
    weights_file: Path | None = None,
    pool_weights: Path | None = None,
    tissue_model: Path | None = None,
    force_unfamiliar: bool = False,
    device: str = "auto",
    pool: Pool | None = None,
    stage: Path | None = None,
    redo: bool = False,
    command: str = "wsisurv.evaluate",
    progress: Progress = no_progress,
) -> EvaluateResult:
    """Judge a student on another cohort, with cut-offs and calibration as fixed in its training.

    Writes external.json, external_risk.csv and two figures into ``cohorts/NAME/evaluation/``.

    Args:
        workspace: where features are, or are made, and the other cohort's folder.
        student: the student's file; files beside it say which cases it was trained on.
        slides: the other cohort's, tiled and embedded first as the student's were; none where features are there.
        cohort: name of the other cohort; needed with ``clinical``, else None for the only one there is.
        clinical: clinical table; None for a cohort that was made before.
        columns: which of its columns mean what.
        covariates: columns that the student is held against; None for all that ``columns`` or the cohort names.
        slide_map: table slide_id,case_id; without it a slide is of the case whose id begins its name.
        drop_incomplete: leave out, and list, rows whose time or event is missing.
        drop_known: leave out cases that the student was trained on, instead of stopping.
        horizons: years at which predicted and observed are compared.
        landmarks: years at which the cases still followed are looked at.
        resamples: bootstrap draws of cases.
        given: resolutions that slides don't state.
        weights_file: the encoder's weights, where the student was trained on features of a file.
        pool_weights: the slide encoder's weights, where the student was trained on rows that ``pool`` made with some.
        tissue_model: the network that finds tissue, where one found that of the student's training slides.
        force_unfamiliar: put cases that the student does not know into the risk groups of their log hazard. In all
            other figures they count with and without it, since leaving them out would flatter the student.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        pool: machines to tile and embed the slides on, instead of this one.
        stage: folder on a disk of the machine, to which each slide is copied before it is read.
        redo: make anew what was made otherwise.
        command: what was called, for the record.
        progress: called with (done, total, what).

    Raises:
        SettingsError: no name for a new cohort, or the training cohort's own; horizons that can't be.
        CohortError: the table can't be used; cases that the student was trained on; no case has a risk.
        StaleError: another cohort of this name is there and ``redo`` is not said.
        MetricError: no comparable pair of cases.
        MissingArtifactError, FormatError, EncoderMismatchError: as ``predict``.

    Example:
        >>> import wsisurv
        >>> found = wsisurv.evaluate(  # doctest: +SKIP
        ...     wsisurv.Workspace(Path("workspace")), Path("student.h5"), [Path("slides")],
        ...     cohort="lisbon", clinical=Path("lisbon.csv"), columns=wsisurv.CohortSettings(time="days"),
        ... )
        >>> found.figures.concordance.value, found.verdict  # doctest: +SKIP
    """
    years = check_horizons(horizons)
    scale = read_scale(student)
    card, time_unit = scale.card, scale.card.cohort.time_unit
    if clinical is not None and cohort is None:
        raise SettingsError("--cohort NAME is needed with --clinical: it names the folder of the new cohort")
    if clinical is None and slide_map is not None:
        raise SettingsError("--slide-map goes with --clinical: a cohort that is there has its slides")
    if clinical is not None and student.parent.resolve() == workspace.cohort(str(cohort)).resolve():
        raise SettingsError(f"--cohort {cohort} is the cohort that the student was trained on; name the other one")
    ready = FromSlides(workspace, (), {}, ())
    if slides:
        ready = prepare_slides(
            workspace,
            slides,
            student,
            given=given,
            weights_file=weights_file,
            pool_weights=pool_weights,
            tissue_model=tissue_model,
            device=device,
            pool=pool,
            stage=stage,
            redo=redo,
            progress=progress,
        )
    slide_ids = ready.slide_ids or workspace.embedded_slides(card.encoder)
    chosen, audit = _other_cohort(workspace, cohort, clinical, columns, slide_ids, slide_map, drop_incomplete)
    tested, warned = without_known(chosen, student, drop=drop_known)
    if audit is not None:
        save_cohort(workspace.cohort(chosen.name), chosen, audit, redo=redo)
    prediction = predict_cases(
        student,
        find_bags(ready.workspace, card.encoder, {str(one.case_id): one.slide_ids for one in tested.cases}),
        horizons=years,
        looks=ready.looks,
        tiles=ready.workspace,
        force_unfamiliar=force_unfamiliar,
        device=student_device(device if pool is None else "auto"),  # it computes here
        progress=of_step(progress, "predict"),
    )
    cases = external_cases(tested, prediction.risks, time_unit)
    in_unit = {one: scale.in_unit(one) for one in years}
    at = {one: scale.in_unit(one) for one in landmarks}
    figures = external_figures(cases, scale.prognosis, years=in_unit, landmarks=at, resamples=resamples)
    named = chosen.settings.covariates if covariates is None else tuple(covariates)
    clinic = _beside_clinic(cases, tested, student, named, resamples) if named else None
    own, source = _own_row(student)
    warnings = (
        *warned,
        *(clinic.warnings if clinic else ()),
        *_warnings(tested, prediction, figures),
        *filter(None, [chosen.outcome_note]),
        *(() if own else (f"nothing to hold these figures against: {source}",)),
    )
    verdict = drift_verdict(figures, scale.prognosis, own) + (clinic_verdict(clinic) if clinic else ())
    result = EvaluateResult(
        cohort=chosen,
        audit=audit,
        time_unit=time_unit,
        cases=cases,
        prediction=prediction,
        figures=figures,
        clinic=clinic,
        own=own,
        verdict=verdict,
        warnings=warnings,
        record=workspace.cohort(chosen.name) / "evaluation" / "external.json",
        summaries=ready.summaries,
    )
    _write(result, scale, years, command)
    return result


def _other_cohort(
    workspace: Workspace,
    name: str | None,
    clinical: Path | None,
    columns: CohortSettings | None,
    slide_ids: Sequence[str],
    slide_map: Path | None,
    drop_incomplete: bool,
) -> tuple[Cohort, Audit | None]:
    """The cohort as it was saved; or made of a clinical table, not saved yet, with its audit."""
    if clinical is None:
        return Cohort.load(workspace, name), None
    settings = columns or CohortSettings()
    return build_cohort(
        str(name),
        read_clinical(clinical, settings, drop_incomplete=drop_incomplete),
        settings,
        slide_ids=slide_ids,
        report_case_ids=(),
        slide_map=read_slide_map(slide_map) if slide_map else None,
    )


def _write(result: EvaluateResult, scale: RiskScale, years: Sequence[float], command: str) -> None:
    """Write the record, the risks, and the figures."""
    folder, unit = result.record.parent, result.time_unit
    title = f"{result.cohort.name}, by the student of {scale.card.cohort.name}"
    draw_groups(folder / "external_groups.png", result.cases, time_unit=unit, title=title)
    draw_calibration(folder / "external_calibration.png", result.cases, scale.prognosis, time_unit=unit, title=title)
    write_risks(folder / RISKS, result.prediction.risks, horizons=years)
    write_record(
        result.record,
        result.figures,
        cohort={
            "name": result.cohort.name,
            "fingerprint": result.cohort.fingerprint,
            "cases": len(result.cohort.cases),
            "evaluated": len(result.cases.case_ids),
            "time_unit": unit,
        },
        student={
            "id": scale.fingerprint[:12],
            "fingerprint": scale.fingerprint,
            "cohort": scale.card.cohort.model_dump(),
        },
        own=result.own,
        clinic=result.clinic,
        verdict=result.verdict,
        warnings=result.warnings,
        command=command,
    )


def _beside_clinic(
    cases: ExternalCases, tested: Cohort, student: Path, named: Sequence[str], resamples: int
) -> BesideClinic:
    by_id = {str(one.case_id): one for one in tested.cases}
    known = [by_id[case_id] for case_id in cases.case_ids]
    return beside_clinic(cases, known, training_cases(student), named, resamples=resamples)


def _warnings(tested: Cohort, prediction: Prediction, figures: ExternalFigures) -> list[str]:
    lines, risks = list(figures.warnings), prediction.risks
    if odd := [risk for risk in risks if risk.warning]:
        lines.append(
            f"{len(odd)} of {len(risks)} cases carry a warning of predict, the first {odd[0].case_id}: {odd[0].warning}"
        )
    if without := len(tested.cases) - figures.cases:
        lines.append(f"{without} cases have no risk and are left out")
    return lines


def _own_row(student: Path) -> tuple[dict[str, Any] | None, str]:
    """The student's own row of its cross-validation, and source.

    None where there is none, and why.
    """
    model, header = read_model(student, "student")
    evaluation, source = own_figures(student, model.card, header)
    row = evaluation.own if evaluation else None
    if row is None or None in (row.concordance, row.low, row.high):
        return None, source
    return row.model_dump(), source
