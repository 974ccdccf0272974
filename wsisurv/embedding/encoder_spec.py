"""A model of the user's own: the file that says what it is. Nothing heavy is imported here."""

import tomllib
from pathlib import Path

from wsisurv.embedding.table import ENCODERS, HISTOMICS, packaged_names
from wsisurv.errors import SettingsError
from wsisurv.settings.base import parse_settings
from wsisurv.settings.embedding import OwnEncoder


def read_encoder_spec(path: Path) -> OwnEncoder:
    """Read a file of ``--encoder-spec``, TOML with the fields of ``OwnEncoder``.

    Raises:
        SettingsError: no such file, no TOML, a field that is missing, unknown or out of range, or a name that one of
            the published encoders has.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: can't be read ({error.strerror}). --encoder-spec wants a TOML file.") from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise SettingsError(f"{path}: no TOML ({error}).") from error
    try:
        own = parse_settings(OwnEncoder, values)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}. docs/encoders.md explains every field.") from error
    if own.name in {HISTOMICS, *ENCODERS, *packaged_names()}:
        raise SettingsError(f"{path}: name {own.name!r} is that of another encoder. Give yours a name of its own.")
    return own
