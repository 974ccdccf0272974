"""The models of the results table: their keys in metrics.json, in the order of its rows, and what a person reads."""

from collections.abc import Sequence

COVARIATES = "covariates"
MEAN_POOL = "mean_pool"
TEXT = "text"
FULL_TEXT = "full_text"
PLAIN = "plain"
DISTILLED = "distilled"
TEACHER = "teacher"
COMBINED = "student_and_covariates"
TEXT_COMBINED = "text_and_covariates"
FULL_TEXT_COMBINED = "full_text_and_covariates"

LABELS = {
    COVARIATES: "{clinic}",
    MEAN_POOL: "mean tile, Cox",
    TEXT: "report alone",
    FULL_TEXT: "whole text of the report",
    PLAIN: "plain student",
    DISTILLED: "student",
    TEACHER: "slides and report",
    COMBINED: "student + {clinic}",
    TEXT_COMBINED: "report + {clinic}",
    FULL_TEXT_COMBINED: "whole text + {clinic}",
}
"""Key → label, with a place for the names of the covariates."""


def model_names(covariates: Sequence[str]) -> dict[str, str]:
    """Key in metrics.json → label, by the names of the covariates."""
    clinic = ", ".join(covariates) or "covariates"
    return {key: label.format(clinic=clinic) for key, label in LABELS.items()}
