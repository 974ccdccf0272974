"""Settings of cross-validation."""

from pydantic import Field

from wsisurv.settings.base import Settings


class CrossvalSettings(Settings):
    """How a cohort is cross-validated; how each fold is trained is in the teacher's and the student's settings."""

    folds: int = Field(
        5,
        ge=2,
        le=50,
        description="Folds of the cohort, in each of which all is trained anew; hospitals are kept whole. Not used "
        "with --splits.",
    )
    repeats: int = Field(
        3, ge=1, le=100, description="Repeats: divisions of the cohort into folds. Not used with --splits."
    )
    covariates: tuple[str, ...] | None = Field(
        None,
        description="Columns of the clinical model that slides and reports are compared with, e.g. age,stage; all of "
        "the cohort's if not given, no clinical model if empty.",
    )
    # repeat r is trained with the training's own seed plus r
    seed: int = Field(0, description="Seed of the folds and of the bootstrap: same seed and device, same result.")
    resamples: int = Field(
        1000,
        ge=100,
        le=100000,
        description="Resamples: bootstrap draws of hospitals where they are whole (more than five), else of cases.",
    )
