"""Options of a command, made from the fields of settings models: name, type, range, default and help are said there.

A command that takes a parameter whose type is a settings model has an option for each of its fields, and is handed the
settings. ``settings.model_fields_set`` says which of them the user gave. A parameter that is a dataclass of options
does the same for options that several commands share, or that belong together.
"""

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import ValidationError

from wsisurv.settings.base import Settings
from wsisurv.settings.embedding import EmbedSettings, OwnEncoder, StainSettings
from wsisurv.settings.renamed import RENAMED_SETTINGS
from wsisurv.settings.reports import ReportSettings

LEFT_OUT: Mapping[type[Settings], Mapping[str, str]] = {
    EmbedSettings: {
        "weights": "follows from --weights and --random-weights",
        "precision": "the encoder's own, which the table or --encoder-spec says",
        "version": "the present version of histomics' columns",
        "half_scale": "is --decoder jpeg-half",
        "own": "is --encoder-spec",
        "of_tiles": "is what `pool` was given",
        "stain": "is --stain and --stain-reference",
    },
    StainSettings: dict.fromkeys(StainSettings.model_fields, "follows from --stain and --stain-reference"),
    OwnEncoder: dict.fromkeys(OwnEncoder.model_fields, "is said in the file of --encoder-spec"),
    ReportSettings: {
        "model_digest": "asked of the Ollama server",
        "prompt": "wsisurv's own prompt, by its digest",
        "rules_version": "wsisurv's own rules, by their version",
        "proof_version": "wsisurv's own proof, by its version",
        "options": "wsisurv's own: temperature 0 and a fixed seed, so that a report gives the same statements again",
    },
}
"""Settings that are no options of their own, and why; a test holds all others against the command line."""
ONLY_LOOK = "wsisurv.only_look"
"""Key of a context's ``meta``: where it is true, the command gives back what it would be called with, and ends."""
_ALSO = {"overlap_px": ("overlap",)}
"""Shorter spellings that are understood and not shown."""
_ADVANCED = "Advanced"
_LONGEST_CHOICES = 16
"""Characters; with more, the column of types takes the room of the help at 80 columns, where choices are named too."""


def settings_as_options(*, first: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command, so that each parameter that is a settings model, or a dataclass of options, becomes options.

    Two of one command may share a field: its option, with the help of the first, goes to both.

    Args:
        first: parameters that people use first; the others are shown as advanced. Empty: no difference is made.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        groups: dict[str, Any] = {}
        shown: dict[str, inspect.Parameter] = {}
        for name, parameter in inspect.signature(command).parameters.items():
            if _is_group(parameter.annotation):
                groups[name] = parameter.annotation
                for made in _parameters(parameter.annotation):
                    shown.setdefault(made.name, made)
            else:
                shown[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        if first:
            shown = {name: one if name in first else _advanced(one) for name, one in shown.items()}
        of_group = {name: {one.name for one in _parameters(group)} for name, group in groups.items()}
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

        @wraps(command)
        def run(context: typer.Context, **values: Any) -> Any:
            sources = {name: context.get_parameter_source(name) for name in values}
            given = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
            handed = {
                name: _settings(context, group, {key: values[key] for key in of_group[name] & given})
                if issubclass(group, Settings)
                else group(**{key: values[key] for key in of_group[name]})
                for name, group in groups.items()
            }
            of_groups = set().union(*of_group.values())
            wanted = {**{name: value for name, value in values.items() if name not in of_groups}, **handed}
            if context.meta.get(ONLY_LOOK):
                return wanted
            return command(**wanted)

        run.__signature__ = inspect.Signature([context, *shown.values()])  # type: ignore[attr-defined]
        return run

    return decorate


def settings_of(command: Any) -> list[type[Settings]]:
    """Settings models whose fields are options of a command."""
    parameters = inspect.signature(inspect.unwrap(command.callback)).parameters.values()
    kinds = [one.annotation for one in parameters if _is_group(one.annotation)]
    return [kind for kind in kinds if issubclass(kind, Settings)]


def option(model: type[Settings], name: str, *, unset: str | None = None, typer_checks: bool = True) -> Any:
    """The option of one setting, for a command that takes only some of a model.

    Args:
        model: whose setting it is.
        name: of the setting.
        unset: in words, what stands where the option is not given; None for the setting's default.
        typer_checks: False where the model itself checks the value: its range is then said in the help, since in the
            column of types it takes the room of the help at 80 columns.
    """
    field = model.model_fields[name]
    limits = {key: getattr(one, key) for one in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(one, key)}
    words = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}
    said = [key for key in words if key in limits and not (typer_checks and key in {"ge", "le"})]
    ends = [words[key].format(f"{limits[key]:g}") for key in said]
    if said == ["ge", "le"]:
        ends = ["{ge:g} to {le:g}".format_map(limits)]
    choices = "|".join(map(str, get_args(_plain_type(field.annotation))))
    return typer.Option(
        _spelled(name),
        help=" ".join([field.description or "", *([f"{', '.join(ends).capitalize()}."] if ends else [])]),
        min=limits.get("ge") if typer_checks else None,
        max=limits.get("le") if typer_checks else None,
        show_choices=len(choices) <= _LONGEST_CHOICES,
        show_default=True if unset is None else unset,
    )


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and (issubclass(annotation, Settings) or is_dataclass(annotation))


def _parameters(model: Any) -> Iterable[inspect.Parameter]:
    """Parameters of typer for the fields of a model or dataclass, and hidden ones for other names."""
    if is_dataclass(model):
        yield from (_parameter(one.name, one.type, one.default) for one in fields(model))
        return
    for name, field in model.model_fields.items():
        if name in LEFT_OUT.get(model, {}):
            continue
        kind = _plain_type(field.annotation)
        default = field.default if not isinstance(field.default, tuple) else None
        if get_origin(kind) is tuple:
            kind = str  # words with commas between them
        kind = kind if default is not None else kind | None
        yield _parameter(name, Annotated[kind, option(model, name, typer_checks=False)], default)
        for other in _other_names(name):
            yield _parameter(other, Annotated[kind | None, typer.Option(_spelled(other), hidden=True)], None)


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")


def _other_names(name: str) -> tuple[str, ...]:
    """Names of a setting that are understood and not shown."""
    return (*_ALSO.get(name, ()), *(old for old, new in RENAMED_SETTINGS.items() if new == name))


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _plain_type(annotation: Any) -> Any:
    """The type without ``| None``."""
    if get_origin(annotation) is types.UnionType:
        (annotation,) = (one for one in get_args(annotation) if one is not type(None))
    return annotation


def _advanced(parameter: inspect.Parameter) -> inspect.Parameter:
    """The same option in the panel of advanced ones."""
    if get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind, info = get_args(parameter.annotation)
    if not isinstance(info, typer.models.OptionInfo):
        return parameter
    info = copy(info)
    info.rich_help_panel = _ADVANCED
    return parameter.replace(annotation=Annotated[kind, info])


def _settings(context: typer.Context, model: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Settings of what was given on the command line.

    Raises:
        typer.BadParameter: a value that can't be; exit code 2.
    """
    values = dict(given)
    for name, field in model.model_fields.items():
        for other in _other_names(name):
            if other in values:
                values[name] = values.pop(other)
        if name in values and get_origin(_plain_type(field.annotation)) is tuple:
            values[name] = tuple(word.strip() for word in values[name].split(",") if word.strip())
    try:
        return model(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        said = problem["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(f"{said} (seen: {values[name]!r})", ctx=context, param_hint=_spelled(name)) from error
