"""Settings of a cohort."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from wsisurv.errors import SettingsError
from wsisurv.settings.base import Settings

_LATER: dict[str, Any] = {"decimal": ".", "entry": None, "competing": None}
"""Fields that came later, at their defaults."""
_NONE = object()


@dataclass(frozen=True)
class Endpoint:
    """One of several outcomes of a cohort."""

    name: str  # folder of its own in the cohort's
    time: str  # column
    event: str  # column
    competing: str | None = None  # column of the event that makes it impossible


def parse_endpoints(texts: Sequence[str]) -> tuple[Endpoint, ...]:
    """Endpoints as typed, ``os=os_days,os_event`` or ``dss=dss_days,dss_event,os_event``.

    Raises:
        SettingsError: another form, a name that can't be a folder or stands twice, or an event column named twice.
    """
    found: list[Endpoint] = []
    for text in texts:
        name, equals, columns = (part.strip() for part in text.partition("="))
        parts = [part.strip() for part in columns.split(",")]
        if not equals or len(parts) not in {2, 3} or not all(parts):
            raise SettingsError(
                f"--endpoint {text!r}: NAME=TIME,EVENT is needed, a name and two columns, e.g. os=os_days,os_event, or "
                "three with that of a competing event"
            )
        time, event = parts[:2]
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is None or name.lower() == "evaluation":
            raise SettingsError(f"--endpoint {text!r}: {name!r} can't be its name: letters, digits, - and _, e.g. os")
        for one in found:
            if name.lower() == one.name.lower():  # where a file system takes OS and os for one folder, too
                raise SettingsError(
                    f"--endpoint {text!r}: there are two endpoints {name!r}. Give each a name of its own."
                )
            for column, of_one, what in (
                (event, one.event, "event"),
                (time, one.event, "event"),
                (event, one.time, "time"),
            ):
                if column == of_one:
                    raise SettingsError(
                        f"--endpoint {text!r}: {column!r} is the same column twice, the {what} of {one.name!r} too"
                    )
        found.append(Endpoint(name, time, event, parts[2] if len(parts) == 3 else None))
    return tuple(found)


class CohortSettings(Settings):
    """Which columns of the clinical table mean what."""

    case: str = Field("case_id", description="Column of the case id.")
    time: str = Field("time", description="Column of the follow-up time.")
    event: str = Field(
        "event",
        description="Column of the event: 1 or true where it happened, 0 or false where censored; for other words "
        "see --event-values.",
    )
    event_values: tuple[str, ...] | None = Field(
        None,
        description="Words of the event column: first that for censored, then that for the event, e.g. Alive,Dead; "
        "a third is a competing event's, e.g. 0,1,2.",
    )
    competing: str | None = Field(
        None,
        description="Column of a competing event at --time, after which the event can't happen, such as death of "
        "another cause; coded as that of --event, and of two events at once --event counts.",
    )
    entry: str | None = Field(
        None,
        description="Column of late entry: time from which a case was under observation, on the scale of --time.",
    )
    time_unit: Literal["days", "weeks", "months", "years"] = Field(
        "days", description="Unit of the follow-up time: days, weeks, months or years."
    )
    decimal: Literal[".", ","] = Field(".", description="Decimal mark of the numbers in the table: . or ,")
    site: str | None = Field(None, description="Column of the hospital; `crossval` keeps each hospital in one fold.")
    covariates: tuple[str, ...] = Field(
        (), description="Clinical columns that the risk is compared with, e.g. age,stage; no part of the student."
    )

    @field_validator("event_values", mode="before")
    @classmethod
    def _two_words(cls, words: Any) -> Any:
        if words is not None and (len(words) not in {2, 3} or len(set(words)) < len(words)):
            raise SettingsError(
                f"--event-values {','.join(words)!r}: two different words are needed, e.g. Alive,Dead, or a third for "
                "a competing event"
            )
        return words

    @property
    def knows_competing(self) -> bool:
        """Whether the table says which cases had a competing event."""
        return self.competing is not None or len(self.event_values or ()) == 3

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where it stands at its default: cohorts made before are not stale."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if _LATER.get(name, _NONE) != value}
