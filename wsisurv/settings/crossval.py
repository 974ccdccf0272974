"""Settings of cross-validation."""

from pydantic import Field

from wsisurv.errors import SettingsError
from wsisurv.settings.base import Settings


def years_of_landmarks(text: str | None) -> tuple[float, ...]:
    """Landmarks as typed, ``1y,3y`` or ``0.5``, as years in order; none where nothing is typed.

    Raises:
        SettingsError: one is no number of years above 0, or comes twice.
    """
    try:
        years = tuple(float(word.strip().removesuffix("y")) for word in (text or "").split(",") if word.strip())
    except ValueError as error:
        raise SettingsError(f"--landmark {text}: years are needed, such as 1y or 1y,3y") from error
    if any(not 0 < one < float("inf") for one in years) or len(set(years)) < len(years):
        raise SettingsError(f"--landmark {text}: different numbers of years above 0 are needed")
    return tuple(sorted(years))


class CrossvalSettings(Settings):
    """How a cohort is cross-validated; how each fold is trained is in the teacher's and the student's settings."""

    folds: int = Field(
        5,
        ge=2,
        le=50,
        description="Folds of the cohort; each hospital is kept in one. Not used with --splits.",
    )
    repeats: int = Field(
        3, ge=1, le=100, description="Repeats of the cross-validation, with other folds. Not used with --splits."
    )
    covariates: tuple[str, ...] | None = Field(
        None,
        description="Clinical columns that slides and reports are compared with, e.g. age,stage; those of the cohort "
        "if not given, none if empty.",
    )
    # repeat r is trained with the training's own seed plus r
    seed: int = Field(0, description="Seed of the folds and of the bootstrap.")
    resamples: int = Field(
        1000,
        ge=100,
        le=100000,
        description="Bootstrap resamples: of hospitals where more than five are kept whole, else of cases.",
    )
