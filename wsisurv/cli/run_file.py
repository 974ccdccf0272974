"""A file of ``wsisurv run``: TOML whose tables are the steps, turned into the words of their commands.

A key is the name of an option of the step's command, with - or _: what a command takes is asked of the command itself,
so that no option is spelled twice or forgotten.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from wsisurv.cli.step_options import Option, look, options_of
from wsisurv.errors import WsisurvError, did_you_mean
from wsisurv.settings.cohort import CohortSettings

VERSION = 1
STEPS = (
    "check",
    "cohort",
    "tile",
    "embed",
    "extract-report",
    "train-teacher",
    "distill",
    "crossval",
    "predict",
    "report",
)
TOP: Mapping[str, str] = {
    "version": f"the format of the file: {VERSION}",
    "slides": "slide files or folders",
    "clinical": "table with follow-up",
    "reports": "folder of reports, or a table of them; none without",
    "workspace": "folder for everything that is made",
}
"""Keys above the tables."""
_LARGEST = 1 << 20
_COLUMNS = dict.fromkeys(CohortSettings.model_fields, "stands in [cohort]")
_OF_RUN = {
    **dict.fromkeys(("slides", "clinical", "reports", "workspace"), "stands at the top of the file"),
    "shard": "is for a job array of the step alone: what comes after needs all of its work",
}
_NAME = "is `name` in [cohort]: a run is of one cohort"
_LOOKS = dict.fromkeys(("dry_run", "plan_file"), "is `wsisurv run --dry-run`")
ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "check": {**_OF_RUN, "case": "stands in [cohort]", "slide_map": "stands in [cohort]"},
    "cohort": {
        **_OF_RUN,
        "encoder": "stands in [embed]",
        "audit_only": "is `wsisurv run --until cohort`",
        "reports_only": "is for `wsisurv cohort` alone: a run has slides",
    },
    "tile": {**_OF_RUN, **_LOOKS},
    "embed": {**_OF_RUN, **_LOOKS},
    "extract-report": _OF_RUN,
    "train-teacher": {
        **_OF_RUN,
        **_COLUMNS,
        **dict.fromkeys(("endpoint", "slide_map", "drop_incomplete"), "stands in [cohort]"),
        "audit_only": "is `wsisurv run --until cohort`",
        "cohort": _NAME,
    },
    "distill": {**_OF_RUN, "cohort": _NAME},
    "crossval": {
        **_OF_RUN,
        **{name: why for name, why in _COLUMNS.items() if name != "covariates"},
        "drop_incomplete": "stands in [cohort]",
        **dict.fromkeys(("reports_only", "report_text"), "is for `wsisurv crossval` alone: a run has slides"),
        "cohort": _NAME,
    },
    "predict": {**{name: why for name, why in _OF_RUN.items() if name != "slides"}, "cohort": _NAME},
    "report": {**_OF_RUN, "cohort": _NAME},
}
"""Options of a step that can't stand in its table, and where what they say is said."""


@dataclass(frozen=True)
class RunFile:
    """What a file of ``wsisurv run`` says.

    Attributes:
        path: the file.
        slides: files and folders.
        clinical: the table with follow-up.
        reports: where the reports are; None without.
        workspace: folder for everything.
        cohort: its name.
        words: options of each step as its command takes them.
    """

    path: Path
    slides: tuple[str, ...]
    clinical: str
    reports: str | None
    workspace: str
    cohort: str
    words: Mapping[str, tuple[str, ...]]


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UnusableFileError: it is not there, or no TOML.
    """
    try:
        content = path.read_bytes() if path.stat().st_size <= _LARGEST else None
    except OSError as error:
        raise UnusableFileError(path, [f"can't be read ({error.strerror or error})"]) from error
    if content is None:
        raise UnusableFileError(path, ["too large for a file of settings"])
    try:
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise UnusableFileError(path, ["no text in UTF-8, but a file of another kind"]) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnusableFileError(path, [f"no TOML: {error}"]) from error


class UnusableFileError(typer.BadParameter):
    """What is wrong with a file of ``wsisurv run``, all at once; exit code 2."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        several = f"{len(problems)} things are wrong. " if len(problems) > 1 else ""
        listed = " ".join(f"({n}) {one}" for n, one in enumerate(problems, 1)) if several else problems[0]
        super().__init__(f"{path}: {several}{listed}")


def parse_run(path: Path, said: Mapping[str, Any], workspace: str) -> RunFile:
    """What a file says, checked key by key.

    Args:
        path: the file; relative paths are relative to its folder.
        said: what is in it.
        workspace: that of files which name none.

    Raises:
        UnusableFileError: of another version, or an unknown table or key, a value of another type or out of range; all
            at once.
    """
    if type(version := said.get("version", VERSION)) is not int or version < 1:
        raise UnusableFileError(path, [f"version: {version!r} is none; this wsisurv writes {VERSION}"])
    if version > VERSION:
        raise UnusableFileError(
            path, [f"of a newer wsisurv (version {version}; this one reads {VERSION}): update wsisurv"]
        )
    reading = _FileCheck(path.parent)
    problems = reading.problems
    for key, value in said.items():
        known = {**TOP, **dict.fromkeys(STEPS, "")}
        if _step_of(key) is None and key not in TOP:
            what = f"no table [{key}]" if isinstance(value, dict) else f"no key {key}"
            near = did_you_mean(key, known)
            problems.append(f"{what}{near or '; there are ' + ', '.join(known)}")
    top = {key: reading.paths(key, said[key]) for key in TOP if key in said and key != "version"}
    for key in ("slides", "clinical"):
        if key not in said:
            problems.append(f"{key} is missing: {TOP[key]}")
    tables = {_step_of(key): value for key, value in said.items() if _step_of(key)}
    name = reading.cohort(tables.get("cohort"))
    words = {}
    for step in STEPS:
        table = tables.get(step, {})
        if not isinstance(table, dict):
            problems.append(f"[{step}] is no table: write [{step}], and its settings below it")
            continue
        words[step] = tuple(
            reading.words(step, {key: one for key, one in table.items() if (step, key) != ("cohort", "name")})
        )
    if problems:
        raise UnusableFileError(path, problems)
    one = {key: (top.get(key) or [""])[0] for key in ("clinical", "reports", "workspace")}
    return RunFile(
        path,
        tuple(top["slides"]),
        one["clinical"],
        one["reports"] or None,
        one["workspace"] or workspace,
        name,
        words,
    )


def _step_of(key: str) -> str | None:
    step = key.replace("_", "-")
    return step if step in STEPS else None


class _FileCheck:
    """One file as it is gone through, and what is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []

    def paths(self, key: str, value: Any) -> list[str]:
        """Paths of a key at the top; only slides may be several."""
        several = value if isinstance(value, list) and key == "slides" else [value]
        if not several or not all(isinstance(one, str) and one for one in several):
            self.problems.append(f"{key}: {_told(value)}, where a path is needed")
            return []
        return [self.path(one) for one in several]

    def path(self, text: str) -> str:
        """A path as the commands take it."""
        return str(self.folder / Path(text).expanduser())

    def cohort(self, table: Any) -> str:
        """The name of the cohort."""
        if isinstance(table, list) or (
            isinstance(table, dict)
            and (isinstance(table.get("name"), list) or any(isinstance(one, dict) for one in table.values()))
        ):
            self.problems.append(
                "[cohort]: two cohorts, and a run is of one. Write a file for each, with the same workspace: tiles and "
                "features are shared. Several outcomes of one cohort are `endpoint` in [cohort]"
            )
            return ""
        name = table.get("name", "study") if isinstance(table, dict) else "study"
        if not isinstance(name, str) or not name or "/" in name:
            self.problems.append(f"[cohort] name: {_told(name)}, where the name of a folder is needed")
            return ""
        return name

    def words(self, step: str, table: Mapping[str, Any]) -> list[str]:
        """Options of a step as typed."""
        before = len(self.problems)
        options = options_of(step)
        typed: list[str] = []
        arguments: list[str] = []
        seen: dict[str, str] = {}
        for key, value in table.items():
            option = options.get(key.replace("-", "_"))
            where = f"[{step}] {key}"
            if step == "cohort" and isinstance(value, dict):
                continue  # told of already
            if option is None:
                known = [name for name, one in options.items() if not one.hidden and one.name not in ELSEWHERE[step]]
                near = did_you_mean(key, known)
                self.problems.append(f"{where}: no such setting{near or f'; `wsisurv {step} --help` lists them'}")
            elif why := ELSEWHERE[step].get(option.name):
                self.problems.append(f"{where}: {why}")
            elif option.name in seen:
                self.problems.append(f"{where}: said twice, as {seen[option.name]} too")
            else:
                seen[option.name] = key
                words = self._typed(where, option, value)
                (typed if option.flag else arguments).extend(words)
        if len(self.problems) == before:
            try:
                look([step, *arguments, *typed, *_STAND_INS.get(step, ())])
            except (typer.BadParameter, WsisurvError) as error:
                said = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
                self.problems.append(f"[{step}]: {said}")
        return [*arguments, *typed]

    def _typed(self, where: str, option: Option, value: Any) -> list[str]:
        """One setting as typed."""
        if option.kind is bool:
            if type(value) is bool:
                return [option.flag] if value else []
            self.problems.append(f"{where}: {_told(value)}, where true or false is needed")
            return []
        many = option.several or option.words
        values = value if isinstance(value, list) and many else [value]
        texts = [text for one in values if (text := self._text(option, one)) is not None]
        if len(texts) < len(values):
            several = "; several stand in [brackets]" if many else ""
            self.problems.append(f"{where}: {_told(value)}, where {_needed(option.kind)} is needed{several}")
            return []
        if option.words and isinstance(value, list):
            if odd := [text for text in texts if "," in text]:
                self.problems.append(f"{where}: {odd[0]!r} has a comma, which parts two names")
            texts = [",".join(texts)]
        if not option.flag:
            return texts
        pairs = [[f"{option.flag}={text}"] if text.startswith("-") else [option.flag, text] for text in texts]
        return [word for pair in pairs for word in pair]

    def _text(self, option: Option, value: Any) -> str | None:
        """A value as typed; None where it is of another type than the option's."""
        if isinstance(value, bool):
            return None
        if option.kind is int:
            return str(value) if isinstance(value, int) else None
        if option.kind is float:
            return repr(value) if isinstance(value, int | float) else None
        if option.kind is Path:
            return self.path(value) if isinstance(value, str) and value else None
        if get_origin(option.kind) is Literal and not isinstance(value, str):
            return str(value) if value in get_args(option.kind) else None
        return str(value) if isinstance(value, str | int) else None


_STAND_INS: Mapping[str, tuple[str, ...]] = {
    "check": ("slides",),
    "tile": ("slides",),
    "cohort": ("name", "--clinical", "table"),
    "extract-report": ("reports",),
}
"""What a command needs beside the settings of its table, where these are looked at alone."""


def _needed(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", Path: "a path", str: "text"}
    return words.get(kind) or f"one of {', '.join(map(str, get_args(kind)))}"


def _told(value: Any) -> str:
    return f"it is {'true' if value is True else 'false' if value is False else repr(value)}"
