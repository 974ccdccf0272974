"""Settings of a cohort."""

from typing import Literal

from wsisurv.settings.base import Settings


class CohortSettings(Settings):
    """Which columns of the clinical table mean what."""

    time: str = "time"
    event: str = "event"
    time_unit: Literal["days", "weeks", "months", "years"] = "days"
    event_values: tuple[str, str] | None = None
    """The table's words for (did not happen, happened), e.g. ``("Alive", "Dead")``; None takes 0/1/true/false."""
    case: str = "case_id"
    site: str | None = None
    covariates: tuple[str, ...] = ()
