"""A large slide for the benchmarks: JPEG tiles, a pyramid, an oval of tissue on about half of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

TILE = 256
PATTERN = 8  # tiles a side of the texture that is repeated
MPP = 0.25


def texture(side: int) -> NDArray[np.uint8]:
    """Pink stroma with purple nuclei, and noise as a sensor's."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    weave = 12 * np.sin(x / 9 + 3 * np.sin(y / 41)) + 8 * np.sin(y / 7)
    image = np.array([222, 160, 195], np.float32) + weave[..., None] * np.array([0.5, 1.0, 0.6], np.float32)
    for cx, cy in rng.integers(0, side, (side * side // 900, 2)):
        nucleus = (slice(max(0, cy - 6), cy + 6), slice(max(0, cx - 5), cx + 5))
        image[nucleus] = 0.3 * image[nucleus] + 0.7 * np.array([105, 65, 140], np.float32)
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def real_texture(path: Path, side: int) -> NDArray[np.uint8]:
    """The middle of a slide, mirrored so that it can be repeated."""
    import openslide

    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        corner = ((width - side // 2) // 2, (height - side // 2) // 2)
        image = np.asarray(slide.read_region(corner, 0, (side // 2, side // 2)).convert("RGB"))
    image = np.concatenate([image, image[:, ::-1]], axis=1)
    return np.concatenate([image, image[::-1]])


def encode(image: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg_encode(image, level=80, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"))


def make_slide(path: Path, side: int, texture_of: Path | None, factors: Sequence[int] = (1, 4, 16, 64)) -> None:
    """Write a pyramid whose oval of tissue fills about half of the slide, at 0.25 µm/px.

    Args:
        path: the TIFF to write.
        side: of the slide, level-0 pixels.
        texture_of: a slide whose middle is repeated; None draws a texture.
        factors: level-0 pixels that a pixel of each level spans; they divide 2,048.
    """
    length = TILE * PATTERN
    pattern = texture(length) if texture_of is None else real_texture(texture_of, length)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for factor in factors:
            length = -(-side // factor)
            tiles = -(-length // TILE)
            small = pattern.reshape(len(pattern) // factor, factor, -1, factor, 3).mean(axis=(1, 3)).astype(np.uint8)
            small = np.tile(small, (factor, factor, 1))  # at each level the same number of different tiles
            coded = {
                (row, column): encode(np.ascontiguousarray(small[row * TILE :, column * TILE :][:TILE, :TILE]))
                for row in range(PATTERN)
                for column in range(PATTERN)
            }
            glass = encode(np.full((TILE, TILE, 3), (243, 242, 244), np.uint8))

            def content(
                tiles: int = tiles, coded: dict[tuple[int, int], bytes] = coded, glass: bytes = glass
            ) -> Iterator[bytes]:
                for row in range(tiles):
                    for column in range(tiles):
                        x, y = ((value + 0.5) / tiles - 0.5 for value in (column, row))
                        tissue = (x / 0.42) ** 2 + (y / 0.38) ** 2 < 1
                        yield coded[row % PATTERN, column % PATTERN] if tissue else glass

            file.write(
                content(),
                shape=(length, length, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(factor > 1),
                resolution=(1e4 / (MPP * factor), 1e4 / (MPP * factor)),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
