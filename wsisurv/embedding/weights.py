"""Weights of encoders: from a file, without running code that is in it, or from the hub."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HTTPError  # type: ignore[attr-defined]  # of whichever client it uses
from safetensors import SafetensorError
from safetensors.torch import load_file

from wsisurv.errors import WeightsError

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model")
# torch's safe unpickler stumbles over bytes that are no pickle in as many ways as there are opcodes.
_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
_COMMIT_DIGITS = 40
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


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
        state: Any = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(
            f"{path}: no file of weights that can be read without running code in it "
            f"({_first_line(error)}). Is it whole? A file of another kind can be saved anew as .safetensors."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no named tensors but {type(state).__name__}. Is it the right file?")
    return {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def load_strictly(model: torch.nn.Module, state: State, source: str) -> None:
    """Put weights into a model; every tensor must be there and none be left over.

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
        raise WeightsError(
            f"{source}: not the weights of this encoder: {'; '.join(problems)}. "
            "Give the file that belongs to --encoder."
        )
    model.load_state_dict(state)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def fetch_file(hub_id: str, filename: str) -> Path:
    """Path of a file of a hub repository, downloaded or from the hub's cache; use within ``explain_hub``."""
    return Path(hf_hub_download(hub_id, filename))


def _is_cached(hub_id: str, filenames: Sequence[str]) -> bool:
    return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in filenames)


def hub_revision(hub_id: str, weights_file: str) -> str | None:
    """Commit of a repository's weights in the hub's cache, 40 hex digits; None where the cache doesn't tell."""
    for name in dict.fromkeys([*_HUB_FILES, weights_file]):
        path = try_to_load_from_cache(hub_id, name)
        if isinstance(path, str) and len(folder := Path(path).parents[name.count("/")].name) == _COMMIT_DIGITS:
            return folder
    return None


@contextmanager
def explain_hub(encoder: str, hub_id: str, weights_file: str, *, gated: bool) -> Iterator[None]:
    """Ask the hub once whether the weights can be had, and turn what goes wrong in the block into a WeightsError.

    The one question first, because the hub's client asks five times with growing pauses before it gives up.

    Args:
        encoder: its name, for the message.
        hub_id: repository.
        weights_file: name of the file that ``--weights`` would take.
        gated: True where the repository is known to want a token.

    Raises:
        WeightsError: no network, offline by ``HF_HUB_OFFLINE``, no access, no such repository, or weights that
            don't fit; with the ways out.
    """
    page = f"https://huggingface.co/{hub_id}"
    by_file = f"fetch {weights_file} from {page} where there is a network, and give it with --weights FILE"
    by_token = f"accept the licence at {page} and set HF_TOKEN (or run `hf auth login`)"
    try:
        if not _is_cached(hub_id, [*_HUB_FILES, weights_file]):
            HfApi().auth_check(hub_id)
        yield
    except GatedRepoError as error:
        raise WeightsError(
            f"{encoder}: the hub does not let this account have the weights of {hub_id}. "
            f"Either {by_token}; or {by_file}."
        ) from error
    except (OSError, HTTPError, RuntimeError) as error:
        ways = f"Either {by_token}; or {by_file}" if gated else f"Try again with a network; or {by_file}"
        raise WeightsError(
            f"{encoder}: no weights of {hub_id} here and none from the hub ({_first_line(error)}). {ways}; "
            "or try the step with --random-weights."
        ) from error
