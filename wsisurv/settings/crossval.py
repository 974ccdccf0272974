"""Settings of cross-validation."""

from pydantic import (
    Field,
)

from wsisurv.settings.base import Settings


class CrossvalSettings(Settings):
    """How a cohort is cross-validated; how each fold is trained is in the other two."""

    folds: int = Field(5, ge=2, le=50)
    """Outer folds, in each of which all is trained anew; not used with the user's own splits."""
    repeats: int = Field(3, ge=1, le=100)
    """Divisions of the cohort into folds; not used with the user's own splits."""
    covariates: tuple[str, ...] = ()
    """Columns of the clinical model that the slides are compared with; none leaves it out."""
    seed: int = 0
    """Of the folds and of the bootstrap; repeat r is trained with the training's own seed plus r."""
    resamples: int = Field(1000, ge=100, le=100000)
    """Bootstrap draws of cases."""
