"""The models of the results table: their keys in metrics.json, in the order of its rows, and what a person reads."""

from collections.abc import Sequence

COVARIATES = "covariates"
MEAN_POOL = "mean_pool"
TEXT = "text"
WORDS = "words_and_findings"
FULL_TEXT = "full_text"
PLAIN = "plain"
DISTILLED = "distilled"
SELECTED = "selected"
TEACHER = "teacher"
FINDINGS = "findings"
COMBINED = "student_and_covariates"
TEXT_COMBINED = "text_and_covariates"
WORDS_COMBINED = "words_and_covariates"
FULL_TEXT_COMBINED = "full_text_and_covariates"

LABELS = {
    COVARIATES: "{clinic}",
    MEAN_POOL: "mean tile, Cox",
    FINDINGS: "findings told from slides",
    TEXT: "report, text branch",
    WORDS: "report, words and findings",
    FULL_TEXT: "report, whole text",
    PLAIN: "baseline student (no teacher)",
    DISTILLED: "distilled student",
    SELECTED: "selected student",
    TEACHER: "slides and report (teacher)",
    COMBINED: "selected student + {clinic}",
    TEXT_COMBINED: "text branch + {clinic}",
    WORDS_COMBINED: "words and findings + {clinic}",
    FULL_TEXT_COMBINED: "whole text + {clinic}",
}
"""Key → label, with a place for the names of the covariates.

The text branch is the teacher's: ridge on the mean statement vector, or attention over statements. Words and findings
are what cross-validation of reports alone reads by ridge. The selected student is the one that distill writes as
student.h5.
"""


def model_names(covariates: Sequence[str]) -> dict[str, str]:
    """Key in metrics.json → label, by the names of the covariates."""
    clinic = ", ".join(covariates) or "covariates"
    return {key: label.format(clinic=clinic) for key, label in LABELS.items()}
