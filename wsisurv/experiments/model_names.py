"""What the models of the account are called where a person reads of them."""

from collections.abc import Sequence

COVARIATES = "covariates"
MEAN_POOL = "mean_pool"
TEXT = "text"
PLAIN = "plain"
DISTILLED = "distilled"
TEACHER = "teacher"
COMBINED = "student_and_covariates"
TEXT_COMBINED = "text_and_covariates"
FULL_TEXT = "full_text"
FULL_TEXT_COMBINED = "full_text_and_covariates"
"""Models of the table, by their names in metrics.json."""


def model_names(covariates: Sequence[str]) -> dict[str, str]:
    """Model in metrics.json → its name in words."""
    clinic = ", ".join(covariates) or "covariates"
    return {
        COVARIATES: clinic,
        MEAN_POOL: "mean tile, Cox",
        TEXT: "report alone",
        PLAIN: "plain student",
        DISTILLED: "student",
        TEACHER: "slides and report",
        COMBINED: f"student + {clinic}",
        TEXT_COMBINED: f"report + {clinic}",
    }
