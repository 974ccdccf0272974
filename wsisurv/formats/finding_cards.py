"""The card of ``findings.h5``: what its heads must be given, and how well each tells its finding."""

from typing import Any, Literal

from pydantic import Field

from wsisurv.formats.cards import Card, FamiliarityLimit

_COUNT = Field(ge=0)


class FindingRow(Card):
    """Figures of one finding, out of fold; None where there is no head or a figure is undefined."""

    name: str
    what: str
    """When it is present."""
    present: int = _COUNT
    """Cases whose report states it."""
    absent: int = _COUNT
    """Cases whose report denies it."""
    not_stated: int = _COUNT
    """Cases whose report says nothing of it, or that have no report with statements."""
    silence_is_absence: bool
    """Whether reports name it only where it is there: a report that doesn't counts as absent."""
    compared: int = _COUNT
    """Cases that count as with or without it."""
    prevalence: float | None = None
    """Share of the compared cases with it."""
    auc: float | None = None
    """Area under the curve, of pairs of cases within one hospital where these are known, by heads that saw neither."""
    low: float | None = None
    high: float | None = None
    covariates_auc: float | None = None
    """The same of a head on the clinical covariates."""
    difference: float | None = None
    """AUC of tiles minus that of covariates, on the same cases and resamples."""
    difference_low: float | None = None
    difference_high: float | None = None
    brier: float | None = None
    """Mean squared error of the probability."""
    brier_of_prevalence: float | None = None
    """The same where every case is given the prevalence of the cases fitted on."""
    calibration_slope: float | None = None
    """Logistic slope of the finding on the log odds; 1 is right."""
    told: bool
    """Whether tiles tell it: the lower end of the AUC's interval is above .5, and its probability better than the
    prevalence."""
    why_not: str = ""
    """Why it is not told; empty where it is."""


class FindingsResult(Card):
    """What ``findings`` found."""

    kept: bool = False
    """True when the file was there already, made by the same settings from the same inputs."""
    cases: int = _COUNT
    """Cases with tiles."""
    reports: int = _COUNT
    """Cases whose report gave statements."""
    hospitals: int = _COUNT
    """0 where they are not known."""
    interval: str
    """What was drawn for the intervals."""
    covariates: tuple[str, ...]
    findings: tuple[FindingRow, ...]
    """All findings, told or not."""
    warnings: tuple[str, ...]
    """What a person should know, one line each."""

    @property
    def told(self) -> tuple[FindingRow, ...]:
        """The findings that tiles tell."""
        return tuple(row for row in self.findings if row.told)


class FindingsCard(Card):
    """What heads of findings must be told of their input, and how good they are."""

    encoder: str
    n_features: int = Field(gt=0)
    embed_settings: dict[str, Any]
    """Settings in the header of the features that they were fitted on."""
    encoder_weights: str
    tile_settings: dict[str, Any]
    pooling: Literal["attention", "mean"]
    cohort: str
    members: int = Field(gt=0)
    """Heads of each finding; member k was fitted without fold k."""
    heads: tuple[str, ...]
    """Findings that have heads in the file: those that are told."""
    familiarity: FamiliarityLimit
    result: FindingsResult
