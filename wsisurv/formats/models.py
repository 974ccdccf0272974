"""``teacher.h5``, ``student.h5``: named arrays and a JSON card. Nothing is pickled, so opening one runs no code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.header import Header, create, opened
from wsisurv.settings import canonical_json

Kind = Literal["teacher", "student"]
_MADE_BY: dict[Kind, str] = {"teacher": "wsisurv train-teacher", "student": "wsisurv distill"}


@dataclass(frozen=True)
class ModelFile:
    """A trained model on disk.

    Attributes:
        arrays: named arrays: weights (``members/0/…``), quantiles, scaling.
        card: what the model must be told to be used: encoder, sizes, tile and embed settings, cut-offs, counts.
    """

    arrays: Mapping[str, NDArray[Any]]
    card: Mapping[str, Any]


def model_format(kind: Kind) -> str:
    """The ``format`` attribute of a model of this kind."""
    return f"wsisurv/{kind}"


def write_model(path: Path, model: ModelFile, header: Header) -> None:
    """Write ``model`` whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with create(path, header) as file:
        file.attrs["card"] = canonical_json(dict(model.card))
        for name, array in sorted(model.arrays.items()):
            file.create_dataset(name, data=array)


def read_model(path: Path, kind: Kind) -> tuple[ModelFile, Header]:
    """Read a model and what made it.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also for a card that is no JSON object.
    """
    with opened(path, model_format(kind), _MADE_BY[kind]) as (file, header):
        arrays: dict[str, NDArray[Any]] = {}

        def collect(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset):
                if item.dtype.kind not in "fiub":
                    raise FormatError(f"{path}: {name} has type {item.dtype}, not numbers")
                arrays[name] = np.asarray(item[()])

        file.visititems(collect)
        try:
            card = json.loads(file.attrs["card"])
        except ValueError as error:
            raise FormatError(f"{path}: card is not JSON ({error})") from error
        if not isinstance(card, dict):
            raise FormatError(f"{path}: card is not a JSON object")
        return ModelFile(arrays, card), header
