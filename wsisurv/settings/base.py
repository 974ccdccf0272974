"""Base of all settings: frozen, unknown keys refused, with fingerprints and what changed between two.

Only what can change a result is a setting. Workers, devices and progress are arguments of the step.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from wsisurv.errors import SettingsError, did_you_mean


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def parse_settings(model: type[S], values: Mapping[str, Any]) -> S:
    """Validate ``values`` as ``model``.

    Raises:
        SettingsError: an unknown key or a value out of range, each named.
    """
    try:
        return model(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']} (seen: {problem['input']!r})"
            + (
                did_you_mean(str(problem["loc"][-1]), model.model_fields)
                if problem["type"] == "extra_forbidden"
                else ""
            )
            for problem in error.errors()
        )
        raise SettingsError(problems) from error


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, floats by repr, NaN refused."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(settings: Any, inputs: Mapping[str, str]) -> str:
    """sha256 of the settings and of the inputs' fingerprints, as 64 hex digits."""
    text = canonical_json({"settings": json.loads(canonical_json(settings)), "inputs": dict(inputs)})
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_sha256(path: Path) -> str:
    """As ``file_sha256``; of a folder that stands for a file (a store of zarr), of all files in it and their names."""
    if not path.is_dir():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = "".join(f"{file.relative_to(path)} {file_sha256(file)}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ, ``name: old → new``; those of a group, such as a teacher's, by ``teacher.epochs``."""
    groups = [name for name in old.keys() & new.keys() if isinstance(old[name], dict) and isinstance(new[name], dict)]
    flat: list[dict[str, Any]] = []
    for settings in (old, new):
        single = {name: value for name, value in settings.items() if name not in groups}
        flat.append(single | {f"{name}.{key}": value for name in groups for key, value in settings[name].items()})
    return changed_settings(*flat)


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``name: old → new`` for each top-level key that differs between two JSON objects."""
    keys = sorted(old.keys() | new.keys())
    return [f"{key}: {_told(old, key)} → {_told(new, key)}" for key in keys if old.get(key) != new.get(key)]


def _told(values: Mapping[str, Any], key: str) -> str:
    """A setting for a message; what stands at a default that came later is left out of files."""
    if key not in values:
        return "its default"
    return "none" if values[key] is None else str(values[key])
