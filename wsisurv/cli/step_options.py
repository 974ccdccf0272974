"""What the command of a step takes, asked of the command itself."""

import inspect
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from typer.core import TyperCommand

from wsisurv.cli.from_settings import ONLY_LOOK, settings_of


@dataclass(frozen=True)
class Option:
    """What a command takes under one name."""

    name: str  # of the parameter
    flag: str  # as typed; empty for an argument
    kind: Any  # bool, int, float, str, Path, or a Literal
    several: bool  # may be given more than once
    words: bool  # text that holds several words with commas between them
    hidden: bool  # a former or shorter name


def options_of(step: str) -> dict[str, Option]:
    """Options and arguments of a step's command by the keys that name them, - as _."""
    found = {}
    command = command_of(step)
    lists = {
        name
        for model in settings_of(command)
        for name, field in model.model_fields.items()
        if tuple in {get_origin(one) for one in (field.annotation, *get_args(field.annotation))}
    }
    kinds = {name: one.annotation for name, one in inspect.signature(command.callback or command).parameters.items()}
    for given in command.params:
        name = str(given.name)
        if get_origin(kinds.get(name)) is not Annotated:
            continue  # --help
        kind = get_args(kinds[name])[0]
        if get_origin(kind) in (types.UnionType, Union):
            (kind,) = (one for one in get_args(kind) if one is not type(None))
        several = get_origin(kind) is list
        kind = get_args(kind)[0] if several else kind
        flags = [one for one in given.opts if one.startswith("--")]
        hidden = bool(getattr(given, "hidden", False))
        option = Option(name, flags[0] if flags else "", kind, several, name in lists, hidden)
        for key in (name, *(flag.removeprefix("--") for flag in flags)):
            found[key.replace("-", "_").lstrip("_")] = option
    return found


def command_of(step: str) -> TyperCommand:
    """The command of a step."""
    from wsisurv.cli.app import Commands

    command: TyperCommand = Commands()[step]
    return command


def look(words: Sequence[str]) -> dict[str, Any]:
    """What a command would be called with, without calling it.

    Raises:
        typer.BadParameter: the words can't be.
    """
    command = command_of(words[0])
    with command.make_context(words[0], list(words[1:])) as context:
        context.meta[ONLY_LOOK] = True
        wanted: dict[str, Any] = TyperCommand.invoke(command, context)
        return wanted
