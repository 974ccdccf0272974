"""Pictures as files, whole or not at all."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from wsisurv.errors import FormatError
from wsisurv.formats.atomic import replacing

if TYPE_CHECKING:
    from PIL import Image


def write_picture(path: Path, picture: "Image.Image", kind: str, quality: int = 75, comment: str = "") -> None:
    """Write a picture; ``quality`` and ``comment`` are of a JPEG. A PNG is packed lightly: 6 % larger, much sooner.

    It is made in memory: Pillow (13.0, ``encode_to_file``) writes a JPEG by the file's number and doesn't look whether
    all of it was taken, so a disk that fills leaves half a picture and no error.

    Raises:
        StorageError: no room or no permission.
    """
    content = io.BytesIO()
    said = {"comment": comment} if comment else {}
    picture.save(content, format=kind, quality=quality, compress_level=1, **said)
    with replacing(path) as partial:
        partial.write_bytes(content.getbuffer())


def read_comment(path: Path) -> str:
    """What a picture says beside its pixels; empty where it says nothing or can't be read."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            said = picture.info.get("comment", b"")
    except (OSError, ValueError, SyntaxError):
        return ""
    return said.decode(errors="replace") if isinstance(said, bytes) else ""


def read_whole_picture(path: Path, made_by: str = "what made it") -> "Image.Image":
    """Read a picture; refuse one that is not there, is cut, or, where its format has checksums (PNG), was changed.

    Raises:
        FormatError: it is; names ``made_by``, the command that makes it anew.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.verify()  # the checksums of a PNG, which reading its pixels does not ask for
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, ValueError, SyntaxError) as error:
        raise FormatError(f"{path}: no whole picture ({error}). Delete it, and run {made_by} again.") from error
