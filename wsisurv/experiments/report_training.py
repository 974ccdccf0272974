"""How a fold without slides is trained: the statements, and where it is asked for the whole text, of the reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case
from wsisurv.engine.progress import no_progress
from wsisurv.settings.training import TeacherSettings
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.report_fold import FitAttention, FittedText, ReportTraining


def report_training(
    place: Workspace, teacher: TeacherSettings, branch: Literal["ridge", "attention"], report_text: Path | None
) -> "ReportTraining":
    """Training of a fold without slides.

    Args:
        place: the workspace, with its statements.
        teacher: of which the text branch's settings are taken.
        branch: which text branch.
        report_text: the reports themselves, for a model of their whole text; None leaves it out.

    Raises:
        MissingArtifactError: no statements, or no vectors of the text encoder.
        ReportError: the reports can't be read.
    """
    from wsisurv.experiments.report_fold import read_report_training
    from wsisurv.reports.sources import read_reports

    attention = branch == "attention"
    teacher = teacher.model_copy(update={"text_branch": branch})
    return read_report_training(
        place,
        teacher.text_encoder,
        branch,
        settings={"teacher": teacher.model_dump(mode="json")} if attention else {},
        full_text=read_reports(report_text) if report_text is not None else None,
        attention=_attention(teacher) if attention else None,
    )


def _attention(teacher: TeacherSettings) -> "FitAttention":
    """The teacher's own text branch; its history is not kept."""
    from wsisurv.training.crossfit import Reports, cross_fit_text
    from wsisurv.training.loop import Log

    def fit(statements: Sequence[NDArray[np.float32]], cases: Sequence[Case], seed: int) -> "FittedText":
        reports = Reports(
            statements=statements,
            time=np.array([case.time for case in cases], dtype=np.float64),
            event=np.array([case.event for case in cases], dtype=np.bool_),
            site=[case.site for case in cases],
        )
        with TemporaryDirectory() as folder:
            log = Log(Path(folder) / "history.jsonl", "crossval", no_progress, total=teacher.text_epochs)
            fitted = cross_fit_text(reports, teacher, seed=teacher.seed + seed, part="text", log=log)
        return _Fitted(fitted.risk, fitted.text.log_hazard)

    return fit


@dataclass(frozen=True)
class _Fitted:
    """A ``FittedText``."""

    risk: NDArray[np.float64]
    log_hazard: Callable[[NDArray[np.float32]], float]
