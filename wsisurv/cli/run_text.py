"""The text of a run.toml."""

import json
from collections.abc import Mapping
from typing import Any


def run_text(said: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """Keys and tables as TOML; the standard library reads it and writes none.

    Args:
        said: keys, and tables of keys; values are text, numbers, true or false, and lists of them.
        comments: a comment above a key (``time`` or ``cohort.time``) or a table (``cohort``), of any number of lines.
    """
    told = comments or {}
    lines: list[str] = []

    def comment(name: str) -> None:
        lines.extend(f"# {line}".rstrip() for line in told.get(name, "").splitlines())

    for key, value in said.items():
        if not isinstance(value, Mapping):
            comment(key)
            lines.append(f"{key} = {toml_value(value)}")
    for key, value in said.items():
        if isinstance(value, Mapping):
            lines.append("")
            comment(key)
            lines.append(f"[{key}]")
            for name, one in value.items():
                comment(f"{key}.{name}")
                lines.append(f"{name} = {toml_value(one)}")
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """One value as TOML writes it: text as in JSON, of which a basic string is a superset but for DEL."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
