"""Settings and values that had other names in earlier versions: files and commands may still say those."""

from collections.abc import Mapping
from typing import Any

RENAMED_SETTINGS = {"tile_directions": "feature_subspace"}
"""Present name of a setting by its former one."""
RENAMED_VALUES = {"aggregator": {"transmil": "selfattention"}}
"""Present value of a setting by its former one: it is not TransMIL's Nyström network."""


def present_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their present names and values, those within settings too (``teacher``, ``student``)."""
    present = {}
    for name, value in settings.items():
        name = RENAMED_SETTINGS.get(name, name)
        if isinstance(value, Mapping):
            value = present_names(value)
        elif isinstance(value, str):
            value = RENAMED_VALUES.get(name, {}).get(value, value)
        present[name] = value
    return present
