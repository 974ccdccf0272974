"""Encoders, aggregators and readers that packages of the user's own add, by their entry points.

A package says in its ``pyproject.toml``, e.g.::

    [project.entry-points."wsisurv.aggregators"]
    top-tiles = "my_package.pooling:TopTiles"

and the name is used as one of wsisurv's own. Names are read from what is installed, without importing it; the package
is imported where its name is used first.
"""

from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wsisurv.errors import SettingsError

ENCODERS = "wsisurv.encoders"
AGGREGATORS = "wsisurv.aggregators"
READERS = "wsisurv.readers"


def added_names(group: str, ours: Collection[str]) -> tuple[str, ...]:
    """Names that installed packages add to a group, sorted.

    Args:
        group: ``ENCODERS``, ``AGGREGATORS`` or ``READERS``.
        ours: names of wsisurv itself, which no package may take.

    Raises:
        SettingsError: a name is wsisurv's own, or of two packages.
    """
    found: dict[str, EntryPoint] = {}
    for point in _entry_points(group):
        if point.name in ours:
            raise SettingsError(f"{_origin(point)} takes a name of wsisurv's own. Rename it there, or uninstall it.")
        if point.name in found:
            raise SettingsError(
                f"{_origin(point)} takes a name that {_package(found[point.name])} has. Uninstall one of the two."
            )
        found[point.name] = point
    return tuple(sorted(found))


def load_added(group: str, name: str, kind: type | None = None) -> Any:
    """Import what a package adds under a name.

    Args:
        group: as ``added_names``, which has been asked whether the name is there.
        name: of the entry point.
        kind: class that it must be an instance of.

    Raises:
        SettingsError: it can't be imported, or is something else.
    """
    point = next(point for point in _entry_points(group) if point.name == name)
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001  # a package of anybody's, which may fail in any way
        raise SettingsError(f"{_origin(point)} can't be loaded ({type(error).__name__}: {error}). Mend it.") from error
    if kind is not None and not isinstance(found, kind):
        raise SettingsError(f"{_origin(point)} is a {type(found).__name__}, and a {kind.__name__} is wanted.")
    return found


def origin(group: str, name: str) -> str:
    """Package and entry point of an added name, in words, for messages."""
    return _origin(next(point for point in _entry_points(group) if point.name == name))


def release(group: str, name: str) -> str:
    """Package and version of an added name: ``my-package 1.2``; part of what settles a result."""
    return _package(next(point for point in _entry_points(group) if point.name == name))


@cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Once a process: looking through all that is installed takes some 30 ms."""
    return tuple(entry_points(group=group))


def _origin(point: EntryPoint) -> str:
    return f"{_package(point)}: its entry point {point.name!r} of {point.group} ({point.value})"


def _package(point: EntryPoint) -> str:
    return "a package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
