"""Settings of cross-validation."""

from typing import Any

from pydantic import Field, field_validator

from wsisurv.errors import SettingsError
from wsisurv.settings.base import Settings


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


class LandmarkSettings(Settings):
    """Times at which cases are looked at anew; nothing is trained for them."""

    landmark: tuple[float, ...] = Field(
        (),
        description="Years at which cases are looked at anew, e.g. 1y,3y: figures among those alive, free of the event "
        "and followed then.",
    )

    @field_validator("landmark", mode="before")
    @classmethod
    def _years(cls, words: Any) -> Any:
        said = ",".join(map(str, words))
        try:
            years = tuple(float(str(word).strip().removesuffix("y")) for word in words)
        except ValueError as error:
            raise SettingsError(f"--landmark {said}: years are needed, such as 1y or 1y,3y") from error
        if any(not 0 < one < float("inf") for one in years) or len(set(years)) < len(years):
            raise SettingsError(f"--landmark {said}: different numbers of years above 0 are needed")
        return tuple(sorted(years))
