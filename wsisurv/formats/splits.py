"""``cohorts/<name>/splits.jsonl``: one line a fold, who is trained on and who is tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsisurv.errors import MissingArtifactError
from wsisurv.formats.atomic import read_jsonl, write_jsonl


class Fold(BaseModel):
    """One fold of one repeat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repeat: int = Field(ge=0)
    """Which division of the cohort this fold is part of."""
    fold: int = Field(ge=0)
    """Its number in that division."""
    train: tuple[str, ...] = Field(min_length=1)
    """Cases trained on, sorted."""
    test: tuple[str, ...] = Field(min_length=1)
    """Cases that are scored, sorted; nothing fitted has seen them."""

    @property
    def name(self) -> str:
        """Folder name, ``<repeat>-<fold>``, counted from 1 as people do."""
        return f"{self.repeat + 1}-{self.fold + 1}"


def write_splits(path: Path, folds: Sequence[Fold]) -> None:
    """Write the folds whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    write_jsonl(path, [fold.model_dump(mode="json") for fold in folds])


def read_splits(path: Path) -> tuple[Fold, ...]:
    """Read folds in the order of the file.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: a line that is no fold, by its number.
    """
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. `wsisurv crossval` makes it, or name another with --splits.")
    return tuple(read_jsonl(path, _parse))


def _parse(value: Any) -> Fold:
    try:
        return Fold.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc']) or 'line'}: {first['msg']}") from error
