"""Encoders that a package of the user's own adds, by an entry point of ``wsisurv.encoders``.

The entry point names a ``PackagedEncoder``. Nothing heavy is imported here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.table import find_spec, packaged_names
from wsisurv.errors import SettingsError, WsisurvError
from wsisurv.extensions import ENCODERS as GROUP
from wsisurv.extensions import load_added, origin, release
from wsisurv.formats.features import Making
from wsisurv.settings.embedding import EmbedSettings

if TYPE_CHECKING:
    from wsisurv.embedding.encoder import Encoder, Pending

_ANY_TILE = (224, 0.5)
_TOLERANCE = 0.02
"""Share of the features' spread: half precision does not add up alike in batches of two sizes."""


@dataclass(frozen=True)
class PackagedEncoder:
    """What an entry point of ``wsisurv.encoders`` names."""

    # device (``auto``, ``cpu``, ``cuda:0`` …) → the encoder: one of wsisurv's ``FunctionEncoder``, or anything that
    # does as the ``Encoder`` protocol says. Called once a process.
    build: "Callable[[str], Encoder]"
    tile_px: int | None = None  # side of the tiles that it was trained on, pixels; None for any
    tile_mpp: float | None = None  # their resolution, µm per pixel; None for any


class FunctionEncoder:
    """An encoder made of one function, computed a batch at a time.

    Args:
        name: the name of its entry point.
        encode: tiles uint8 (n_tiles, side, side, 3), RGB, and their µm per pixel → features (n_tiles, n_features), each
            row of its tile alone.
        n_features: columns.
        batch_size: tiles at once.
        names: a name for each column, or none.
        units: a unit for each column, or none.
        definitions: what each column measures, or none.
        device: that computes, in words; goes into the files.
    """

    in_flight = 1

    def __init__(
        self,
        name: str,
        encode: Callable[[NDArray[np.uint8], float], NDArray[Any]],
        n_features: int,
        *,
        batch_size: int = 64,
        names: tuple[str, ...] = (),
        units: tuple[str, ...] = (),
        definitions: tuple[str, ...] = (),
        device: str = "cpu",
    ) -> None:
        self.name, self.n_features = name, n_features
        self.names, self.units, self.definitions = names, units, definitions
        self.making = Making(precision="fp32", device=device)
        self._encode, self._batch_size = encode, batch_size

    def buffer(self, n_tiles: int, side: int) -> NDArray[np.uint8]:
        """Room for the pixels of a batch."""
        return np.empty((n_tiles, side, side, 3), np.uint8)

    def find_batch_size(self, side: int) -> int:
        """As was said when it was made."""
        del side
        return self._batch_size

    def submit(self, tiles: NDArray[np.uint8], tile_mpp: float) -> "Pending":
        """Compute a batch."""
        values = np.asarray(self._encode(tiles, tile_mpp), np.float32)
        return lambda: values

    def close(self) -> None:
        """Nothing to let go of."""


def find_packaged(name: str) -> PackagedEncoder | None:
    """The encoder that a package adds under this name, None where none does.

    Raises:
        SettingsError: the package can't be imported, or its entry point names something else.
    """
    if name not in packaged_names():
        return None
    found: PackagedEncoder = load_added(GROUP, name, PackagedEncoder)
    return found


def tile_size(encoder: str) -> tuple[int, float] | None:
    """Side in pixels and µm per pixel of the tiles that an encoder was trained on; None where any will do.

    Raises:
        SettingsError: no such encoder.
    """
    known = find_spec(encoder) or find_packaged(encoder)
    return None if known is None or known.tile_px is None or known.tile_mpp is None else (known.tile_px, known.tile_mpp)


def packaged_weights(name: str) -> str:
    """What ``EmbedSettings.weights`` says of a packaged encoder: its package and version."""
    return f"package:{release(GROUP, name)}"


def build_packaged(found: PackagedEncoder, settings: EmbedSettings, device: str) -> "Encoder":
    """Build a packaged encoder, and try it on a few tiles of noise.

    Raises:
        SettingsError: another version of the package is installed than the settings name; it fails; its features have
            another shape than it says, or depend on the tiles beside them (dropout or batch norm left on, often).
    """
    name, said = settings.encoder, origin(GROUP, settings.encoder)
    if settings.weights != packaged_weights(name):
        raise SettingsError(f"{said}: the settings name {settings.weights}. Install that version, or make all anew.")
    side, mpp = found.tile_px or _ANY_TILE[0], found.tile_mpp or _ANY_TILE[1]
    tiles = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    try:
        encoder = found.build(device)
        together, alone = (encoder.submit(part, mpp)() for part in (tiles, tiles[1:2].copy()))
        shape, wanted = together.shape, (len(tiles), encoder.n_features)
    except WsisurvError:
        raise
    except Exception as error:  # noqa: BLE001  # a package of anybody's, which may fail in any way
        raise SettingsError(f"{said} fails on a few tiles ({type(error).__name__}: {error}).") from error
    if encoder.name != name:
        raise SettingsError(f"{said} calls itself {encoder.name!r}; it must have the name of its entry point.")
    if shape != wanted or together.dtype != np.float32:
        raise SettingsError(f"{said} gives {together.dtype} {shape} for three tiles, and float32 {wanted} is wanted.")
    if not np.allclose(together[1], alone[0], rtol=0, atol=_TOLERANCE * float(together.std())):
        raise SettingsError(f"{said} gives a tile other features beside other tiles. Is its network in eval mode?")
    return encoder
