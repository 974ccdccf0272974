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


EXPLAINED = {
    COVARIATES: "a Cox model of the clinical columns alone, which slides must add to.",
    MEAN_POOL: "a Cox model with a penalty on the mean of a case's tiles: the simplest that slides can do.",
    FINDINGS: "a Cox model of the findings (grade, invasion …) that were told from the slides.",
    TEXT: "the part of the teacher that reads the statements of the report; no slide.",
    WORDS: "a Cox model with a penalty on the words of the statements and what they find; no slide.",
    FULL_TEXT: "the same of the words of the whole report.",
    PLAIN: "a student (network over tiles) trained on follow-up alone, without any report.",
    DISTILLED: "the same student, guided in training by a teacher that also read the reports; later it needs none.",
    SELECTED: "the baseline or the distilled student, whichever was better out of fold on the training cases; it is "
    "what distill writes as student.h5 and predict uses.",
    TEACHER: "slides and report together: what would be known where each case has a report.",
    COMBINED: "a Cox model of the selected student's risk beside the clinical columns.",
    TEXT_COMBINED: "a Cox model of the text branch's risk beside the clinical columns.",
    WORDS_COMBINED: "a Cox model of the risk from words and findings beside the clinical columns.",
    FULL_TEXT_COMBINED: "a Cox model of the risk from the whole text beside the clinical columns.",
}
"""Key → what the model is, for who reads the table for the first time."""


def model_names(covariates: Sequence[str]) -> dict[str, str]:
    """Key in metrics.json → label, by the names of the covariates."""
    clinic = ", ".join(covariates) or "covariates"
    return {key: label.format(clinic=clinic) for key, label in LABELS.items()}
