"""Slides as a user's table names them: by slide_id, by file name, in either Unicode form."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import TypeVar

from wsisurv.errors import CohortError, some

_ENDING = re.compile(
    r"\.(?:bif|btf|czi|dcm|h5|hdf5|isyntax|jpe?g|mrxs|ndpi|npy|npz|png|pt|ptif|qptiff|scn|svs|svslide|tiff?|vms|vmu|vsi|"
    r"zarr)$",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![A-Z\d-])(?:[A-Z]{1,3}[-. ]?\d{2}(?:\d{2})?[-_/. ]\d{2,}|\d{2}(?:\d{2})?[-. ]?[A-Z]{1,2}[-. ]?\d{3,})"
    r"(?![A-Z\d])"
)
"""Numbers that a laboratory gives, by year: S12-3456, H2019.1234, 2012-B-3456."""
_NO_BLOCK = re.compile(
    rf"{_NUMBER.pattern}|(?<![A-Z\d])(?:TCGA-\w{{2}}-\w{{4}}(?:-\d\d[A-Z])?(?:-\d\d)?(?:-[A-Z]{{2}}\w)?"
    r"|P(?:16|27|40|53|57|63|73)|X\d+|\d+X|[LS]\d+)(?![A-Z\d])"
)
"""Parts of slides' names, in capitals, that look like a block's and are none."""
_BLOCK = re.compile(r"(?<![A-Z\d])(?:[A-Z]\d{1,2}|[1-9]\d?[A-Z])(?![A-Z\d])")
"""A specimen's label and the block's, as ``reports.specimens`` gives them."""
T = TypeVar("T")


def composed(text: str) -> str:
    """The same text in Unicode's composed form (NFC): ``é`` is one letter, as most tables have it."""
    return unicodedata.normalize("NFC", text)


def looks(text: str) -> str:
    """A text as it looks at a glance: capitals, wide letters, kinds of separators and zeros around a number aside."""
    wide = unicodedata.normalize("NFKC", text).casefold()
    if re.fullmatch(r"[0-9]+(?:\.0*)?", wide):
        return str(int(wide.partition(".")[0]))
    parts = re.sub(r"[\s._\u2010-\u2015\u2212-]+", "-", wide)
    return parts.strip("-") if wide[:1].isalnum() else parts


def without_ending(name: str) -> str:
    """A slide's name without the ending of a slide's or features file."""
    return _ENDING.sub("", name)


def slides_of_block(block: str, case_id: str, slide_ids: Collection[str]) -> list[str]:
    """Slides of a case whose names have the block's, A3 or 2B, as a part of its own, and no other that may be one.

    Barcodes of TCGA (``TCGA-A6-2671-11A-01-TS1``: 11A is a kind of sample), numbers of a laboratory's year
    (``H12-3456``), stains (p53), magnifications (x20), levels (L2) and slides (S1) are no blocks. A name in doubt is of
    none, and where slides of a case have several numbers of a laboratory, no block is known to be the report's.
    """
    if len({number for one in slide_ids for number in _NUMBER.findall(one.upper())}) > 1:
        return []
    return [one for one in slide_ids if _blocks_of(one, case_id) == {block.upper()}]


def _blocks_of(slide_id: str, case_id: str) -> set[str]:
    """Parts of a slide's name, in capitals, that may be its block."""
    rest = _NO_BLOCK.sub(" ", without_ending(slide_id).upper()).removeprefix(case_id.upper())
    return set(_BLOCK.findall(_NO_BLOCK.sub(" ", rest)))


def by_slide_id(given: Mapping[str, T], slide_ids: Collection[str], table: str) -> tuple[dict[str, T], tuple[str, ...]]:
    """Bring the rows of a table to the slides that are here.

    A row names a slide by its slide_id, with or without the ending of its file, and with or without folders.

    Args:
        given: values by the names that the table has.
        slide_ids: slides that are here.
        table: what it is, for messages.

    Returns:
        Values by slide_id, and names that no slide here has.

    Raises:
        CohortError: there are rows and slides, and no row names any of them; a row names two slides, or two rows give
            one slide different values.
    """
    exact = {composed(slide_id): slide_id for slide_id in slide_ids}
    bare: dict[str, list[str]] = {}
    for name, slide_id in exact.items():
        bare.setdefault(without_ending(name), []).append(slide_id)
    if len(exact) < len(slide_ids):
        twice = sorted(slide_id for slide_id in slide_ids if exact[composed(slide_id)] != slide_id)
        raise CohortError(f"two slides are called {twice[0]!r}, in two Unicode forms. Rename one.")
    found: dict[str, T] = {}
    named: dict[str, str] = {}
    unknown = []
    for key, value in given.items():
        name = composed(re.split(r"[\\/]", key)[-1])
        slides = [exact[name]] if name in exact else bare.get(without_ending(name), [])
        if len(slides) > 1:
            raise CohortError(f"{table}: {key!r} may be {' or '.join(map(repr, slides))}. Write the name out.")
        for slide_id in slides:
            if slide_id in found and found[slide_id] != value:
                raise CohortError(f"{table}: {named[slide_id]!r} and {key!r} are one slide, with different values")
            found[slide_id], named[slide_id] = value, key
        if not slides:
            unknown.append(key)
    if unknown and slide_ids and not found:
        raise CohortError(
            f"{table}: none of its {len(given)} rows names a slide that is here: it has {some(unknown, 2)}; slides "
            f"here are called {some(sorted(slide_ids), 2)}."
        )
    return found, tuple(unknown)


def unknown_note(unknown: Collection[str], table: str) -> list[str]:
    """Say which rows of a table name no slide that is here; nothing where all do."""
    return [f"{len(unknown)} rows of {table} name no slide that is here: {some(sorted(unknown))}"] if unknown else []
