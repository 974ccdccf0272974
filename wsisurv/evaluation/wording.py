"""What the models of the account are called where a person reads of them."""

from collections.abc import Sequence

from wsisurv.evaluation.fold_models import (
    COMBINED,
    COVARIATES,
    DISTILLED,
    MEAN_POOL,
    PLAIN,
    TEACHER,
    TEXT,
    TEXT_COMBINED,
)


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
