"""wsisurv: from raw whole-slide images and pathology reports to survival risk scores.

Each name below is imported where it is first used, so that ``import wsisurv`` takes no time. What a step prints on the
command line is in what it returns here; how far it is, it tells to ``progress``, a callable of (done, total, what).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wsisurv.version import __version__

if TYPE_CHECKING:
    from wsisurv.cohort import Cohort, make_cohort, make_endpoints
    from wsisurv.embedding.step import embed, resolve_settings
    from wsisurv.errors import WsisurvError
    from wsisurv.experiments.crossval import crossval
    from wsisurv.formats.frames import read_features
    from wsisurv.pages.cohort_page import write_report as report
    from wsisurv.pipeline.evaluate import evaluate
    from wsisurv.pipeline.heatmap import heatmap
    from wsisurv.pipeline.predict import predict
    from wsisurv.pipeline.tile import tile
    from wsisurv.prediction.student import LoadedStudent as Student
    from wsisurv.reports.step import extract as extract_report
    from wsisurv.settings.cohort import CohortSettings
    from wsisurv.settings.crossval import CrossvalSettings
    from wsisurv.settings.embedding import EmbedSettings
    from wsisurv.settings.findings import FindingsSettings
    from wsisurv.settings.reports import ReportSettings
    from wsisurv.settings.tiles import TileSettings
    from wsisurv.settings.training import DistillSettings, TeacherSettings
    from wsisurv.slides.resolution import GivenMpp
    from wsisurv.training.distill import distill
    from wsisurv.training.findings import learn_findings as findings
    from wsisurv.training.teacher import train_teacher
    from wsisurv.workspace.paths import Workspace

_WHERE = {
    "Cohort": "cohort:Cohort",
    "CohortSettings": "settings.cohort:CohortSettings",
    "CrossvalSettings": "settings.crossval:CrossvalSettings",
    "DistillSettings": "settings.training:DistillSettings",
    "EmbedSettings": "settings.embedding:EmbedSettings",
    "FindingsSettings": "settings.findings:FindingsSettings",
    "GivenMpp": "slides.resolution:GivenMpp",
    "ReportSettings": "settings.reports:ReportSettings",
    "Student": "prediction.student:LoadedStudent",
    "TeacherSettings": "settings.training:TeacherSettings",
    "TileSettings": "settings.tiles:TileSettings",
    "Workspace": "workspace.paths:Workspace",
    "WsisurvError": "errors:WsisurvError",
    "crossval": "experiments.crossval:crossval",
    "distill": "training.distill:distill",
    "embed": "embedding.step:embed",
    "evaluate": "pipeline.evaluate:evaluate",
    "extract_report": "reports.step:extract",
    "findings": "training.findings:learn_findings",
    "heatmap": "pipeline.heatmap:heatmap",
    "make_cohort": "cohort:make_cohort",
    "make_endpoints": "cohort:make_endpoints",
    "predict": "pipeline.predict:predict",
    "read_features": "formats.frames:read_features",
    "report": "pages.cohort_page:write_report",
    "resolve_settings": "embedding.step:resolve_settings",
    "tile": "pipeline.tile:tile",
    "train_teacher": "training.teacher:train_teacher",
}

__all__ = [
    "Cohort",
    "CohortSettings",
    "CrossvalSettings",
    "DistillSettings",
    "EmbedSettings",
    "FindingsSettings",
    "GivenMpp",
    "ReportSettings",
    "Student",
    "TeacherSettings",
    "TileSettings",
    "Workspace",
    "WsisurvError",
    "__version__",
    "crossval",
    "distill",
    "embed",
    "evaluate",
    "extract_report",
    "findings",
    "heatmap",
    "make_cohort",
    "make_endpoints",
    "predict",
    "read_features",
    "report",
    "resolve_settings",
    "tile",
    "train_teacher",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'wsisurv' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    found = globals()[name] = getattr(import_module(f"wsisurv.{module}"), attribute)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
