"""Weights of networks from a file, without running code that is in it."""

import pickle
import warnings
from math import floor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from wsisurv.errors import WeightsError

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model")
_BEFORE_REASON = "WeightsUnpickler error:"
# torch's safe unpickler stumbles over bytes that are no pickle in as many ways as there are opcodes.
_OTHER_BYTES = (LookupError, TypeError, AttributeError, EOFError)
_UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, ValueError, *_OTHER_BYTES)


def read_weights(path: Path) -> State:
    """Read named tensors from ``.safetensors``, or from ``.bin``, ``.pt``, ``.pth`` with ``weights_only``.

    What training scripts wrap around them (``state_dict``, ``model``, the prefix ``module.``) is taken off.

    Raises:
        WeightsError: no such file, not such a file, or one that holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. --weights wants a .safetensors, .bin, .pt or .pth file.")
    try:
        is_safe = path.suffix == ".safetensors"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a pickle's version, which it then reads or does not
            state: Any = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(
            f"{path}: no file of weights that can be read without running code in it "
            f"({_reason(error)}). Is it whole? A file of another kind can be saved anew as .safetensors."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no named tensors but {type(state).__name__}. Is it the right file?")
    return {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def load_strictly(model: torch.nn.Module, state: State, source: str, of: str = "encoder") -> None:
    """Put weights into a model; every tensor must be there and none be left over.

    Args:
        model: changed in place.
        state: its tensors by their names.
        source: where they are from, for messages.
        of: what the model is, for messages.

    Raises:
        WeightsError: names what is missing, left over or of another shape.
    """
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    shapes = sorted(
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    )
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        sizes = {name: value.numel() for name, value in model.named_parameters()}
        total = sum(sizes.values())
        fitting = sum(size for name, size in sizes.items() if name in state and state[name].shape == own[name].shape)
        raise WeightsError(
            f"{source}: not the weights of this {of}: it covers {floor(1000 * fitting / total) / 10} % of the "
            f"parameters; {'; '.join(problems)}. Give the file that belongs to it."
        )
    model.load_state_dict(state)


def _reason(error: Exception) -> str:
    """What is wrong; of torch's words only that, and not its advice to read the file without being safe."""
    if isinstance(error, _OTHER_BYTES):
        return "its bytes are those of something else"
    words = str(error)
    lines = words.rpartition(_BEFORE_REASON)[2].strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
