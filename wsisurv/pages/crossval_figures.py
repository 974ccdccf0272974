"""What the cohort page takes from evaluation/metrics.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.experiments.landmarks import Landmark
from wsisurv.experiments.likelihood_ratio import Added
from wsisurv.experiments.model_names import SELECTED
from wsisurv.experiments.side_by_side import Difference, ModelFigures
from wsisurv.formats.atomic import read_json
from wsisurv.survival.resampling import OF_CASES


@dataclass(frozen=True)
class CrossvalFigures:
    """What the page takes from metrics.json.

    Attributes:
        models: a row a model.
        differences: paired.
        added: what the slides add to the covariates; None where it was not tested.
        added_by_report: what the report adds to them.
        folds: as crossval recorded them.
        verdict: in words.
        warnings: what should be known.
        cohort: what was tested.
        settings: of crossval and its trainings, by part.
        versions: that the figures depend on.
        interval: what was drawn for the intervals.
        uno_until: time at which Uno's concordance is truncated, in the cohort's unit; None in files of before.
        horizons: times over which AUC and Brier score are means, in the cohort's unit.
        landmarks: figures among the cases alive at each.
        competing: tested cases with a competing event; None where nothing competes.
    """

    models: tuple[ModelFigures, ...]
    differences: tuple[Difference, ...]
    added: Added | None
    folds: tuple[Mapping[str, Any], ...]
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    cohort: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    interval: str = OF_CASES
    uno_until: float | None = None
    horizons: tuple[float, ...] = ()
    landmarks: tuple[Landmark, ...] = ()
    competing: int | None = None
    added_by_report: Added | None = None

    def row(self, model: str) -> ModelFigures | None:
        """The row of a model; None where it was not scored."""
        return next((row for row in self.models if row.model == model), None)

    @property
    def repeats(self) -> int:
        """How often the cohort was divided into folds anew, whose names are ``<repeat>-<fold>``."""
        return len({str(one.get("name", "")).partition("-")[0] for one in self.folds})

    @property
    def time_unit(self) -> str:
        """Unit of the cohort's times."""
        return str(self.cohort.get("time_unit", ""))

    @property
    def covariates(self) -> tuple[str, ...]:
        """Columns of the clinical model."""
        crossval = self.settings.get("crossval")
        return tuple(map(str, crossval.get("covariates", ()))) if isinstance(crossval, Mapping) else ()


def read_metrics(path: Path, *, reports_only: bool = False) -> CrossvalFigures:
    """Read the figures of crossval.

    Args:
        path: metrics.json, or metrics-reports-only.json.
        reports_only: whether they are of reports and covariates alone, and no student is among them.

    Raises:
        MissingArtifactError: there are none.
        FormatError: the file is damaged, or of an older version, which did not score the selected student.
    """
    name, only = path.parent.parent.name, " --reports-only" if reports_only else ""
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `wsisurv crossval{only} --cohort {name}` first.")
    try:
        record = read_json(path)
        if record["format"] != "wsisurv/metrics":
            raise ValueError(f"format is {record['format']!r}")
        record["added"] = record["added_by_slides"]
        known = {field: record[field] for field in CrossvalFigures.__dataclass_fields__ if field in record}
        figures = TypeAdapter(CrossvalFigures).validate_python(known)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        lines = str(error).splitlines()
        reason = " ".join(lines[1:3]) if isinstance(error, ValidationError) else lines[0] if lines else ""
        raise FormatError(
            f"{path}: damaged ({type(error).__name__}: {reason}). Run `wsisurv crossval{only} --cohort {name}` again: "
            "folds that are done are kept."
        ) from error
    if not reports_only and figures.row(SELECTED) is None:
        raise FormatError(
            f"{path}: made by an older wsisurv, whose figures are of the distilled student, not of the selected one, "
            f"which is in student.h5. Run `wsisurv crossval --cohort {name} --redo`."
        )
    return figures
