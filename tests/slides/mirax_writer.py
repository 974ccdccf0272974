"""A MIRAX slide written by hand, as OpenSlide's description of the format says: JPEG tiles in one file of data."""

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
SIDE = 128


def write_mirax(
    path: Path, pixels: NDArray[np.uint8], *, mpp: float = 0.25, n_levels: int = 3, origin: tuple[int, int] = (0, 0)
) -> Path:
    """NAME.mrxs, an empty file, and the folder NAME: what was scanned, at ``origin`` (tiles) of a wider stage.

    Args:
        path: of the .mrxs.
        pixels: uint8 (height, width, 3), sides of whole tiles of 128 px.
        mpp: µm per pixel.
        n_levels: each of half the one before.
        origin: column and row of the first tile that was scanned, multiples of 2 ** (n_levels - 1).
    """
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    path.write_bytes(b"")
    height, width = (one // SIDE for one in pixels.shape[:2])
    columns, rows = width + origin[0], height + origin[1]
    data, pages = b"", []
    for level in range(n_levels):
        step = 2**level
        shown = np.asarray(Image.fromarray(pixels).reduce(step)) if level else pixels
        entries = []
        for row in range(0, height, step):
            for column in range(0, width, step):
                y, x = row // step * SIDE, column // step * SIDE
                square = np.full((SIDE, SIDE, 3), 255, np.uint8)
                part = shown[y : y + SIDE, x : x + SIDE]
                square[: part.shape[0], : part.shape[1]] = part
                coded = io.BytesIO()
                Image.fromarray(square).save(coded, "JPEG", quality=95, subsampling=0)
                index = (row + origin[1]) * columns + column + origin[0]
                entries.append((index, len(data), len(coded.getvalue()), 0))
                data += coded.getvalue()
        pages.append(entries)
    (folder / "Data0000.dat").write_bytes(data)
    start = 5 + len(SLIDE_ID) + 8
    index, records = struct.pack(f"<{n_levels}i", *([0] * n_levels)), []
    body = b""
    for entries in pages:
        at = start + 4 * n_levels + len(body)
        records.append(at)
        body += struct.pack("<2i", 0, at + 8) + struct.pack("<2i", len(entries), 0)
        body += b"".join(struct.pack("<4i", *entry) for entry in entries)
    index = struct.pack(f"<{n_levels}i", *records) + body
    head = b"01.02" + SLIDE_ID.encode() + struct.pack("<2i", start, start)
    (folder / "Index.dat").write_bytes(head + index)
    sections = "".join(
        f"\n[LEVEL_{level}]\nOVERLAP_X = 0\nOVERLAP_Y = 0\nMICROMETER_PER_PIXEL_X = {mpp * 2**level}\n"
        f"MICROMETER_PER_PIXEL_Y = {mpp * 2**level}\nDIGITIZER_WIDTH = {SIDE}\nDIGITIZER_HEIGHT = {SIDE}\n"
        f"IMAGE_FORMAT = JPEG\nIMAGE_FILL_COLOR_BGR = 16777215\nIMAGE_CONCAT_FACTOR = {int(level > 0)}\n"
        for level in range(n_levels)
    )
    levels = "".join(f"HIER_0_VAL_{level}_SECTION = LEVEL_{level}\n" for level in range(n_levels))
    (folder / "Slidedat.ini").write_text(
        f"[GENERAL]\nSLIDE_VERSION = 01.02\nSLIDE_ID = {SLIDE_ID}\nIMAGENUMBER_X = {columns}\nIMAGENUMBER_Y = {rows}\n"
        "OBJECTIVE_MAGNIFICATION = 20\nCameraImageDivisionsPerSide = 1\n\n[HIERARCHICAL]\nHIER_COUNT = 1\n"
        f"HIER_0_NAME = Slide zoom level\nHIER_0_COUNT = {n_levels}\n{levels}NONHIER_COUNT = 0\nINDEXFILE = Index.dat\n"
        f"\n[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n{sections}"
    )
    return path
