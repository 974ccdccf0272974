"""Tissue networks of torchvision: an architecture by its name, and its weights from a file that runs no code."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import SettingsError, WeightsError

TissueArchitecture = Literal[
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "fcn_resnet50",
    "fcn_resnet101",
    "lraspp_mobilenet_v3_large",
]
Network = Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]
_LEFT_OUT = "aux_classifier."
"""Of a second output, which is of use in training alone."""


def open_network(path: Path, architecture: TissueArchitecture, channels: int) -> Network:
    """Build a network and load its weights: float32 (n, 3, side, side) → (n, channels, side, side).

    Args:
        path: ``.safetensors``, or ``.bin``, ``.pt``, ``.pth``, ``.ckpt`` that torch reads without running code. Names
            may have something before them (``model.``), and a second output is left out.
        architecture: by torchvision's name.
        channels: of the output.

    Raises:
        SettingsError: no such file, or not these weights; says how many of the parameters it covers, and which it
            lacks.
    """
    import torch  # which takes seconds, as torchvision does
    from torchvision.models import segmentation

    from wsisurv.formats.weights import load_strictly, read_weights

    build = getattr(segmentation, architecture)
    options = {} if architecture.startswith("lraspp") else {"aux_loss": False}
    network = build(weights=None, weights_backbone=None, num_classes=channels, **options).eval()
    try:
        load_strictly(network, _own_names(read_weights(path)), str(path), f"{architecture} of {channels} channels")
    except WeightsError as error:
        raise SettingsError(str(error)) from error

    def run(values: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            found: NDArray[np.floating[Any]] = network(torch.from_numpy(values))["out"].numpy()
        return found

    return run


def _own_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors by torchvision's names, without what stands before all of them, and without the second output."""
    before = next((found.group(1) for name in state if (found := re.match(r"(.*?)backbone\.", name))), "")
    names = {name.removeprefix(before): value for name, value in state.items()}
    return {name: value for name, value in names.items() if not name.startswith(_LEFT_OUT)}
