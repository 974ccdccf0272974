"""Any file of ours described for a person, and every description as a page."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsisurv.formats.shown import Array, Shown, describe
from wsisurv.pages.card_parts import CardPart, FileCard, said

_LISTED = 60


def file_card(path: Path) -> FileCard:
    """Describe a file: a student as a model card, any other by its settings, shapes and what else it says.

    Raises:
        MissingArtifactError, FormatError: there is no such file, it is none of ours, or damaged.
    """
    shown = describe(path)
    if shown.what != "wsisurv/student":
        return _plain_card(shown)
    from wsisurv.pages.model_card import model_card  # its schemas take longer to load than any other file to read

    return model_card(path)


def _plain_card(shown: Shown) -> FileCard:
    facts = {"file": said(str(shown.path)), "what it is": said(shown.what), "bytes": f"{shown.n_bytes:,}"}
    if shown.rows is not None:
        facts["rows"] = f"{shown.rows:,}"
    if shown.header is not None:
        facts["made by"] = f"wsisurv {said(shown.header.wsisurv_version)} (format {shown.header.format_version})"
        facts["fingerprint"] = shown.header.fingerprint
    parts = [CardPart("File", facts=facts)]
    if shown.header is not None:
        parts.append(CardPart("Settings that made it", facts=_facts(shown.header.settings)))
        parts.append(CardPart("Made from", facts=_facts(shown.header.inputs)))
    parts.append(CardPart("What it says", facts=_facts(shown.attributes)))
    if shown.arrays:
        arrays = shown.arrays[:_LISTED]
        left = len(shown.arrays) - len(arrays)
        words = (f"And {left:,} more; --json lists all.",) if left else ()
        parts.append(
            CardPart("Arrays", words, {}, ("array", "type", "shape", "from", "to", "not finite"), _rows(arrays))
        )
        attributes = {f"{array.name}: {name}": value for array in arrays for name, value in array.attributes.items()}
        parts.append(CardPart("Attributes of arrays", facts=_facts(attributes)))
    record: dict[str, Any] = {
        "format": shown.what,
        "file": str(shown.path),
        "bytes": shown.n_bytes,
        "rows": shown.rows,
        "attributes": shown.attributes,
        "arrays": [asdict(array) for array in shown.arrays],
    }
    if shown.header is not None:
        record |= {
            "format_version": shown.header.format_version,
            "wsisurv_version": shown.header.wsisurv_version,
            "fingerprint": shown.header.fingerprint,
            "settings": shown.header.settings,
            "inputs": shown.header.inputs,
        }
    return FileCard(said(shown.what), tuple(part for part in parts if part.facts or part.rows), _odd(shown), record)


def _facts(values: Mapping[str, Any]) -> dict[str, str]:
    return {said(name): said(value) for name, value in values.items()}


def _rows(arrays: tuple[Array, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            said(array.name),
            array.dtype,
            " × ".join(map(str, array.shape)) or "one number",
            said(array.low),
            said(array.high),
            said(array.not_finite),
        )
        for array in arrays
    )


def _odd(shown: Shown) -> tuple[str, ...]:
    if shown.what == "wsisurv/guidance":  # cases without a report have no number there
        return ()
    unknown = {"tissue"} if "tool" in shown.attributes else set()  # of tiles that another tool cut
    odd = [array.name for array in shown.arrays if array.not_finite and array.name not in unknown]
    return (f"not all numbers are finite in {said(', '.join(odd))}",) if odd else ()


def write_card(path: Path, card: FileCard) -> None:
    """Write a description as a page that stands alone.

    Raises:
        StorageError: no room or no permission.
    """
    from wsisurv.pages.rendering import write_page

    write_page(path, "file_card.html", card=card)
