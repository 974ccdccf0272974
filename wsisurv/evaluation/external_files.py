"""The record and the pictures of an external validation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.evaluation.crossval import versions
from wsisurv.evaluation.external import ExternalCases, ExternalFigures
from wsisurv.evaluation.external_clinic import BesideClinic
from wsisurv.evaluation.figures import RISK_GROUPS, Group, kaplan_meier
from wsisurv.evaluation.style import COLOURS, new_figure, save_figure, styled
from wsisurv.formats.atomic import write_text
from wsisurv.survival import kaplan_meier as curves
from wsisurv.survival.prognosis import Prognosis

FORMAT = "wsisurv/external"
_POINTS = 200


def write_record(
    path: Path,
    figures: ExternalFigures,
    *,
    cohort: Mapping[str, Any],
    student: Mapping[str, Any],
    own: Mapping[str, Any] | None,
    clinic: BesideClinic | None = None,
    verdict: Sequence[str],
    warnings: Sequence[str],
    command: str,
) -> None:
    """Write external.json: what was evaluated on what, the figures of both cohorts, and what they show.

    Raises:
        StorageError: no room or no permission.
    """
    record = {
        "format": FORMAT,
        "command": command,
        "cohort": dict(cohort),
        "student": dict(student),
        "external": asdict(figures),
        "own": dict(own) if own is not None else None,
        "clinic": asdict(clinic) if clinic is not None else None,
        "verdict": list(verdict),
        "warnings": list(warnings),
        "versions": versions(),
    }
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@dataclass(frozen=True)
class ExternalRecord:
    """What a page takes from external.json; as ``write_record`` was given it."""

    cohort: Mapping[str, Any]
    student: Mapping[str, Any]
    external: ExternalFigures
    own: Mapping[str, Any] | None
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    clinic: BesideClinic | None = None


def read_record(path: Path) -> ExternalRecord:
    """Read external.json.

    Raises:
        MissingArtifactError: there is none.
        FormatError: it is damaged.
    """
    name = path.parent.parent.name
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `wsisurv evaluate --cohort {name} --student FILE` first.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format is {record['format']!r}")
        known = {field: record[field] for field in ExternalRecord.__dataclass_fields__ if field in record}
        return TypeAdapter(ExternalRecord).validate_python(known)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).splitlines()[:3])
        raise FormatError(
            f"{path}: damaged ({type(error).__name__}: {reason}). Run `wsisurv evaluate --cohort {name}` again."
        ) from error


def draw_groups(path: Path, cases: ExternalCases, *, time_unit: str, title: str) -> tuple[Path, Path]:
    """Kaplan-Meier curves of the risk groups, PNG and SVG; as ``figures.kaplan_meier``."""
    return kaplan_meier(path, cases.groups(RISK_GROUPS), time_unit=time_unit, title=title)


def draw_calibration(
    path: Path, cases: ExternalCases, prognosis: Prognosis, *, time_unit: str, title: str
) -> tuple[Path, Path]:
    """Predicted and observed survival of each risk group, PNG and SVG.

    Args:
        path: the PNG; an SVG of the same name is written beside it.
        cases: of the other cohort.
        prognosis: of the student.
        time_unit: of the training cohort.
        title: above the picture.

    Raises:
        StorageError: no room or no permission.
    """
    end = min(float(cases.time.max()), prognosis.baseline.followed_until)
    at = np.linspace(0, end, _POINTS)
    label = np.array(cases.group)
    with styled():
        figure = new_figure(5.8, 4.4)
        axes = figure.subplots()
        for number, name in enumerate(RISK_GROUPS):
            rows = label == name
            if not rows.any():
                continue
            predicted = prognosis.survival(log_hazard=cases.log_hazard[rows], horizons=at).mean(axis=0)
            axes.plot(at, predicted, color=COLOURS[number], linestyle=(0, (4, 2)))
            seen = _seen(cases.groups([name])[name], at)
            axes.step(at, seen, where="post", color=COLOURS[number], label=f"{name} ({int(rows.sum())} cases)")
        axes.plot([], [], color="0.3", linestyle=(0, (4, 2)), label="predicted")
        axes.plot([], [], color="0.3", label="observed (Kaplan-Meier)")
        axes.set(xlim=(0, end), ylim=(0, 1.02), xlabel=f"Time ({time_unit})", ylabel="Survival", title=title)
        axes.legend(frameon=False, fontsize=9, loc="lower left")
        return save_figure(figure, path)


def _seen(group: Group, at: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Observed survival; nothing where nobody of the group was followed so long."""
    survival = curves.kaplan_meier(time=group.time, event=group.event).at(at)
    return np.where(at <= group.time.max(), survival, np.nan)
