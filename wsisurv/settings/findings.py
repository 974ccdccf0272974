"""Settings of ``findings``."""

from typing import Literal

from pydantic import Field

from wsisurv.settings.base import Settings


class FindingsSettings(Settings):
    """How heads of findings are fitted and judged."""

    encoder: str = Field(
        "histomics", description="Encoder whose features are used: their folder in features/, as `embed` printed it."
    )
    pooling: Literal["attention", "mean"] = Field(
        "attention",
        description="What a head reads of a case: the mean tile and one by attention (attention), or the mean alone.",
    )
    fewest: int = Field(
        20, ge=5, description="Cases that must have a finding, and that must not, for it to have a head."
    )
    folds: int = Field(5, ge=2, le=20, description="Folds of the cases; hospitals are kept whole where they are known.")
    resamples: int = Field(
        1000, ge=100, le=100000, description="Bootstrap resamples, of hospitals where these are enough, else of cases."
    )
    seed: int = Field(0, description="Seed of folds and bootstrap.")
