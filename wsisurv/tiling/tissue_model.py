"""Tissue by a network of the user's own: its file, and beside it a TOML file that says what it takes and gives."""

import math
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from wsisurv.errors import SettingsError, SlideError
from wsisurv.formats.tiles import TISSUE_MODEL_INPUTS
from wsisurv.settings.base import file_sha256, fingerprint
from wsisurv.slides.reader import Slide
from wsisurv.tiling.artefacts import drop_small
from wsisurv.tiling.tissue import Tissue, fill_holes
from wsisurv.tiling.tissue_network import Network, TissueArchitecture, open_network

_MOST_PX = 300_000_000  # of the view that a network is shown
_AT_ONCE = 4  # squares
_WANTED = "NAME.onnx or NAME.safetensors"
_INSTALL = "pip install 'wsisurv[tissue]'"
Three = tuple[float, float, float]


class TissueModelSpec(BaseModel, extra="forbid", frozen=True):
    """What the TOML file beside a tissue model says."""

    mpp: float = Field(ge=0.5, le=64, description="Resolution that the network sees, µm per pixel.")
    side_px: int = Field(ge=32, le=4096, description="Side of the squares that it is given, pixels.")
    mean: Three = Field(description="Mean of the normalisation, red, green, blue, 0 to 1.")
    std: Three = Field(description="Standard deviation of the normalisation.")
    tissue: tuple[int, ...] = Field(
        (), description="Numbers, from 0, of the output's channels that are tissue, where it has several."
    )
    threshold: float = Field(0.5, description="Value above which a pixel is tissue, where the output has one channel.")
    architecture: TissueArchitecture | None = Field(
        None,
        description="Network of torchvision that the file has the weights of; None for ONNX, which says it itself.",
    )
    channels: int = Field(2, ge=1, le=256, description="Channels of that network's output.")


class TissueModel:
    """A network that finds tissue.

    Args:
        path: an ONNX file, or weights of a network of torchvision: one input, float32 (n, 3, side_px, side_px),
            normalised red, green, blue; one output, (n, C, h, h), h the side or a whole part of it; of several channels
            the largest counts.

    Raises:
        SettingsError: no such files, onnxruntime isn't installed, the weights are not the network's, or it takes or
            gives something else.
    """

    def __init__(self, path: Path) -> None:
        self.spec = _read_spec(path)
        self._path, self._std = path, np.asarray(self.spec.std, np.float32).reshape(3, 1, 1)
        self._mean = np.asarray(self.spec.mean, np.float32).reshape(3, 1, 1)
        if (path.suffix == ".onnx") != (self.spec.architecture is None):
            raise SettingsError(
                f"{path}: an ONNX file is a whole network, and weights want its architecture: {_spec_path(path).name} "
                f"names {self.spec.architecture or 'none'}. docs/extending.md shows both."
            )
        try:
            if self.spec.architecture is None:
                self._network = _open_onnx(path)
            else:
                self._network = open_network(path, self.spec.architecture, self.spec.channels)
            found = self._run(np.full((1, self.spec.side_px, self.spec.side_px, 3), 255, np.uint8))
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001  # a network of anybody's, which may fail in any way
            raise SettingsError(f"{path}: no network that takes what its TOML file says ({error}).") from error
        channels, sides = found.shape[1] if found.ndim == 4 else 0, found.shape[2:]
        if not channels or sides[0] != sides[1] or self.spec.side_px % sides[0]:
            raise SettingsError(
                f"{path}: gives {found.shape} for one square, and (1, channels, side, side) is wanted, of the side "
                f"{self.spec.side_px} or a whole part of it."
            )
        if channels > 1 and not all(0 <= one < channels for one in self.spec.tissue or (-1,)):
            raise SettingsError(
                f"{path}: has {channels} channels; say in its TOML file which of 0 to {channels - 1} are tissue."
            )

    def find(self, slide: Slide, shape: tuple[int, int], mpp: float, settings: Any) -> Tissue:
        """Find the tissue of what was scanned.

        Args:
            slide: the open slide.
            shape: (height, width) of the result.
            mpp: its resolution, µm per pixel.
            settings: ``TileSettings``, for the smallest piece and the largest hole.

        Raises:
            SlideError: the slide is too large for the network's resolution, or damaged.
        """
        seen_mpp = max(self.spec.mpp, slide.mpp)
        n_px = slide.bounds.width * slide.bounds.height * (slide.mpp / seen_mpp) ** 2
        if n_px > _MOST_PX:
            raise SlideError(
                f"{slide.path}: {n_px / 1e6:.0f} million pixels at the {self.spec.mpp:g} µm/px of {self._path.name}; a "
                f"tissue model is shown {_MOST_PX / 1e6:.0f} at most."
            )
        mask = self._mask(slide.view(seen_mpp))
        drawn = Image.fromarray(mask).convert("L").resize((shape[1], shape[0]), Image.Resampling.BOX)
        found = drop_small(np.asarray(drawn) > 127, mpp, settings.min_piece_um2)
        found = fill_holes(found, mpp, settings.max_hole_um2)
        return Tissue(found, np.zeros_like(found))

    def _mask(self, view: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Tissue of a view at the network's resolution: bool of its height and width."""
        side, (height, width) = self.spec.side_px, view.shape[:2]
        mask = np.zeros((math.ceil(height / side) * side, math.ceil(width / side) * side), bool)
        places = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
        for first in range(0, len(places), _AT_ONCE):
            those = places[first : first + _AT_ONCE]
            squares = np.full((len(those), side, side, 3), 255, np.uint8)  # glass beside what was scanned
            for square, (y, x) in zip(squares, those, strict=True):
                part = view[y : y + side, x : x + side]
                square[: part.shape[0], : part.shape[1]] = part
            found = self._run(squares)
            if found.shape[1] == 1:
                tissue = found[:, 0] > self.spec.threshold
            else:
                tissue = np.isin(found.argmax(axis=1), self.spec.tissue)
            step = side // tissue.shape[1]
            for one, (y, x) in zip(tissue, those, strict=True):
                mask[y : y + side, x : x + side] = one.repeat(step, 0).repeat(step, 1)
        return mask[:height, :width]

    def _run(self, squares: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        values = squares.transpose(0, 3, 1, 2).astype(np.float32) / 255
        return self._network(np.asarray((values - self._mean) / self._std, np.float32))


def _open_onnx(path: Path) -> Network:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise SettingsError(f"{path}: a tissue model of ONNX needs onnxruntime: {_INSTALL}.") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]

    def run(values: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        if taken.shape[0] == 1:  # as torch exports it, where not told otherwise
            return np.concatenate([session.run(None, {taken.name: one[None]})[0] for one in values])
        found: NDArray[np.floating[Any]] = session.run(None, {taken.name: values})[0]
        return found

    return run


@lru_cache(maxsize=1)
def open_tissue_model(path: Path) -> TissueModel:
    """The model, read once a process."""
    return TissueModel(path)


def tissue_model_inputs(path: Path) -> dict[str, str]:
    """Fingerprints of both files.

    Raises:
        SettingsError: one is not there.
    """
    files = (path, _spec_path(path))
    for file in files:
        if not file.is_file():
            raise SettingsError(f"{file}: no such file. --tissue-model wants {_WANTED}, and NAME.toml beside it.")
    found = {name: file_sha256(file) for name, file in zip(TISSUE_MODEL_INPUTS, files, strict=True)}
    weights = path.with_name(f"{path.name}.data")  # where torch's exporter puts them; the file itself only names them
    if path.suffix == ".onnx" and weights.is_file():
        found[TISSUE_MODEL_INPUTS[0]] = fingerprint(found[TISSUE_MODEL_INPUTS[0]], {"data": file_sha256(weights)})
    return found


def _spec_path(path: Path) -> Path:
    return path.with_suffix(".toml")


def _read_spec(path: Path) -> TissueModelSpec:
    spec = _spec_path(path)
    tissue_model_inputs(path)  # or SettingsError
    try:
        return TissueModelSpec.model_validate(tomllib.loads(spec.read_text(encoding="utf-8")))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise SettingsError(f"{spec}: {said}. docs/extending.md explains every field.") from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise SettingsError(f"{spec}: no TOML ({error}).") from error
