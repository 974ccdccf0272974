"""Features in files of ``torch.save``: a tensor alone or tensors by name, with the notes of slide2vec beside it.

Such a file is a pickle. It is read by torch's loader of weights alone, which builds tensors and plain containers and
calls nothing else; what needs more is refused.

- CLAM ``pt_files/SLIDE.pt``, and what many scripts write: a tensor (n, d), or a dict with ``features`` (or ``feats``)
  and perhaps ``coords``. A tensor (d,) is the embedding of a whole slide.
- slide2vec 7 ``tile_embeddings/SLIDE.pt`` (n, d) with ``SLIDE.meta.json``, and ``tiles/SLIDE.coordinates.npz`` (``x``,
  ``y``, level-0 pixels) with ``SLIDE.coordinates.meta.json``; ``slide_embeddings/SLIDE.pt`` and
  ``patient_embeddings/PATIENT.pt`` (d,).
"""

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats.foreign_kinds import ForeignFeatures, Level
from wsisurv.formats.foreign_places import COORDINATES, positive, read_notes, read_places

_FEATURES = ("features", "feats")
_LEVELS: dict[str, Level] = {"tile_embeddings": "tile", "slide_embeddings": "slide", "patient_embeddings": "patient"}


def read_tensors(path: Path) -> ForeignFeatures:
    """Read features from a file of ``torch.save``.

    Raises:
        MissingArtifactError: no such file.
        FormatError: no file of tensors, one that holds more than tensors, or none that can be features.
    """
    loaded = _load(path)
    coords = None
    if isinstance(loaded, dict):
        name = next((name for name in _FEATURES if name in loaded), None)
        if name is None:
            raise FormatError(f"{path}: holds {_listed(loaded)}; known is a tensor, or a dict with features (or feats)")
        loaded, coords = loaded[name], loaded.get("coords")
    values = _array(path, "features", loaded)
    if values.dtype.kind != "f":
        raise FormatError(f"{path}: features of type {values.dtype}, no floating-point numbers")
    found = ForeignFeatures(
        "torch",
        values,
        None if coords is None else _array(path, "coords", coords),
        None,
        level="slide" if values.ndim == 1 else "tile",
    )
    return _with_notes(path, found, read_notes(path.with_suffix(".meta.json"))) if notes_beside(path) else found


def notes_beside(path: Path) -> list[Path]:
    """Files of slide2vec's that say more of a tensor's file, or of hs2p's of tiles; none where there are none."""
    notes, places = path.with_suffix(".meta.json"), _places(path)
    if path.suffix not in {".pt", ".npz"} or not notes.is_file():
        return []
    if path.suffix == ".npz":
        return [notes]
    return [file for file in (notes, places, places.with_suffix(".meta.json")) if file.is_file()]


def _places(path: Path) -> Path:
    return path.parent.parent / "tiles" / f"{path.stem}{COORDINATES}.npz"


def _load(path: Path) -> Any:
    import torch

    if not path.is_file():
        raise MissingArtifactError(f"{path}: no such file")
    try:
        if packed := zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                    raise FormatError(f"{path}: packed in a way in which torch.save packs nothing")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what older versions of it wrote
            return torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except FormatError:
        raise
    except Exception as error:  # whatever a strange pickle makes of the loader
        said = str(error).splitlines()[0][:200] if str(error) else ""
        raise FormatError(
            f"{path}: torch can't read it as tensors alone ({type(error).__name__}: {said}). It is cut short, or holds "
            "objects that would have to be run, which is never done. Save the tensor by itself: "
            "torch.save(torch.as_tensor(features), file)."
        ) from error


def _array(path: Path, name: str, value: object) -> NDArray[Any]:
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
        raise FormatError(f"{path}: {name} is no plain tensor but {type(value).__name__}")
    if value.numel() * value.element_size() > path.stat().st_size:
        raise FormatError(f"{path}: {name} of shape {tuple(value.shape)} is larger than the file")
    value = value.detach()
    if value.dtype == torch.bfloat16:
        value = value.float()
    if value.is_complex() or value.dtype == torch.bool:
        raise FormatError(f"{path}: {name} of type {value.dtype}, no real numbers")
    return np.asarray(value.numpy())


def _with_notes(path: Path, found: ForeignFeatures, notes: dict[str, Any]) -> ForeignFeatures:
    """Add what slide2vec says of its tensors."""
    level = _LEVELS.get(str(notes.get("artifact_type")))
    if level is None:
        raise FormatError(
            f"{path}: {notes.get('artifact_type')!r} by {path.stem}.meta.json; known are {', '.join(_LEVELS)}"
        )
    encoder = notes.get("encoder_name")
    found = replace(
        found, layout="slide2vec", level=level, encoder=encoder if isinstance(encoder, str) and encoder else None
    )
    places = _places(path)
    if level != "tile" or not places.is_file():
        return found
    said = read_notes(places.with_suffix(".meta.json"))
    slide, tile_px = said.get("slide"), positive(notes, "requested_tile_size_px")
    return replace(
        found,
        coords=read_places(places, len(found.values)),
        tile_px=None if tile_px is None else round(tile_px),
        tile_mpp=positive(notes, "requested_spacing_um"),
        tile_level0_px=positive(notes, "tile_size_lv0"),
        mpp=positive(slide, "base_spacing_um") if isinstance(slide, dict) else None,
        settings={name: part[name] for part, name in ((notes, "compatibility"), (said, "tiling")) if name in part},
    )


def _listed(names: dict[Any, Any]) -> str:
    return ", ".join(sorted(str(name)[:40] for name in names)[:8]) or "nothing"
