"""Levels whose last row or column can't be read: some converters write shorter edge frames than their DICOM says."""

from collections.abc import Callable, Iterator

import numpy as np

from wsisurv.errors import SlideError
from wsisurv.slides.readers.handle import Handle

_STRETCH_PX = 2048
_SHORT = (
    ": edge frames are shorter than the file says, as some converters write them. Convert the slide anew with edge "
    "frames filled up to whole ones"
)


def unreadable_edges(handle: Handle, reopen: Callable[[], Handle], *, whole: bool) -> tuple[Handle, dict[int, str]]:
    """Find levels whose edges can't be read.

    Args:
        handle: the open slide.
        reopen: opens it anew: after an error it is of no use any more.
        whole: read all of the last row and column, and not their ends alone.

    Returns:
        The handle to go on with, and number of a level → why.

    Raises:
        SlideError: it can't be opened anew.
    """
    found: dict[int, str] = {}
    for number, size in enumerate(handle.level_dimensions):
        for place in _edges(*size, whole=whole):
            try:
                handle.read_into(np.empty(place[2] * place[3], np.uint32), number, *place)
            except SlideError as error:
                handle.close()
                handle = reopen()
                found[number] = str(error).partition("(")[2].partition("). Is")[0]
                break
    return handle, found


def _edges(width: int, height: int, *, whole: bool) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, width and height of what is read."""
    yield from ((width - 1, height - 1, 1, 1), (width - 1, 0, 1, 1), (0, height - 1, 1, 1))
    if whole:
        yield from ((x, height - 1, min(_STRETCH_PX, width - x), 1) for x in range(0, width, _STRETCH_PX))
        yield from ((width - 1, y, 1, min(_STRETCH_PX, height - y)) for y in range(0, height, _STRETCH_PX))


def edge_notes(unreadable: dict[int, str], sizes: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """What should be known of them: level 0 can't be left out."""
    notes = []
    for number, why in unreadable.items():
        what = "is left out" if number else "is used without its edges, tiles there fail"
        cause = _SHORT if "mismatch" in why else ""
        size = "{} × {}".format(*sizes[number])
        notes.append(f"level {number} ({size} pixels) {what}: its last row or column can't be read ({why}){cause}")
    return tuple(notes)
