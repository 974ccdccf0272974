"""Weights at the Hugging Face hub: whether they are here already, what stands in the way, and fetching them.

torch is not imported here, so that looking takes no time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of whichever client it uses
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,
)

from wsisurv.embedding.table import HISTOMICS, find_spec, packaged_names
from wsisurv.errors import WeightsError

_COMMIT_DIGITS = 40
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_CONFIG = "config.json"
Fetch = Callable[[str, str], object]
"""Downloads a file of a repository into the hub's cache: (repository, file name)."""


@dataclass(frozen=True)
class Needs:
    """What an encoder needs of the hub.

    Attributes:
        encoder: its name.
        hub_id: repository.
        weights: names that the file of weights may have, the first that is there taken.
        wanted: the name to look for, in words.
        config: True where ``config.json`` is needed beside it.
        gated: True where the repository is known to want a token.
    """

    encoder: str
    hub_id: str
    weights: tuple[str, ...]
    wanted: str
    config: bool
    gated: bool

    @property
    def page(self) -> str:
        """Its page at the hub."""
        return f"https://huggingface.co/{self.hub_id}"

    @property
    def here(self) -> bool:
        """True where all is in the hub's cache; no network is asked."""
        return _is_cached(self.hub_id, self.weights) and (not self.config or _is_cached(self.hub_id, [_CONFIG]))

    @property
    def by_file(self) -> str:
        """The way out that needs no network here, in words."""
        return f"fetch {self.wanted} from {self.page} where there is a network, and give it with --weights FILE"

    @property
    def by_token(self) -> str:
        """The way out for who has an account, in words."""
        return f"accept the licence at {self.page} and set HF_TOKEN (or run `hf auth login`)"


@dataclass(frozen=True)
class EncoderCheck:
    """Whether an encoder is ready.

    Attributes:
        encoder: its name.
        ready: True where nothing is missing here.
        message: what there is, or what is missing and the ways out.
    """

    encoder: str
    ready: bool
    message: str


def find_needs(encoder: str) -> Needs | None:
    """What an encoder needs of the hub; None for ``histomics`` and a package's encoder, which need nothing.

    Raises:
        SettingsError: no such encoder.
        WeightsError: timm has no weights for this architecture.
    """
    spec = find_spec(encoder)
    if encoder == HISTOMICS or encoder in packaged_names():
        return None
    if spec is None:
        from wsisurv.embedding.timm_names import hub_id_of  # torch and timm take seconds

        return Needs(encoder, hub_id_of(encoder), _HUB_FILES, " or ".join(_HUB_FILES), config=False, gated=False)
    weights = (spec.weights_file,) if spec.hub_file else _HUB_FILES
    return Needs(
        encoder, spec.hub_id, weights, spec.weights_file, config=not spec.hub_file, gated=spec.access == "gated"
    )


def check_encoder(encoder: str) -> EncoderCheck:
    """Say whether an encoder's weights are here, and if not what to do; the hub is asked unless HF_HUB_OFFLINE is set.

    Raises:
        SettingsError, WeightsError: as ``find_needs``.
    """
    needs = find_needs(encoder)
    if needs is None:
        return EncoderCheck(encoder, True, "ready: it needs no weights")
    if needs.here:
        revision = hub_revision(needs.hub_id, needs.weights[0])
        return EncoderCheck(
            encoder, True, f"ready: {needs.hub_id} is in the hub's cache" + f", commit {revision}" * bool(revision)
        )
    try:
        _ask(needs)
    except WeightsError as error:
        return EncoderCheck(encoder, False, str(error).removeprefix(f"{encoder}: "))
    return EncoderCheck(
        encoder,
        False,
        f"the weights of {needs.hub_id} are not here; the hub gives them to you. Run `wsisurv encoders --fetch "
        f"{encoder}`; or {needs.by_file}.",
    )


def fetch_encoder(encoder: str, fetch: Fetch = hf_hub_download) -> str:
    """Fetch what an encoder needs into the hub's cache; returns what was done, in words.

    Args:
        encoder: its name.
        fetch: downloads a file of a repository.

    Raises:
        SettingsError, WeightsError: as ``find_needs``; also no network, no access, no such file.
    """
    needs = find_needs(encoder)
    if needs is None:
        return "needs no weights"
    if needs.here:
        return f"{needs.hub_id} is in the hub's cache already"
    _ask(needs)
    with _explained(needs):
        if needs.config:
            fetch(needs.hub_id, _CONFIG)
        for name in needs.weights:
            try:
                fetch(needs.hub_id, name)
            except EntryNotFoundError:
                continue
            return f"fetched {name} of {needs.hub_id}"
    raise WeightsError(f"{encoder}: {needs.hub_id} holds no {' and no '.join(needs.weights)}. See {needs.page}.")


def cache_folder() -> Path:
    """Where the hub's client keeps what it fetched (HF_HUB_CACHE, or HF_HOME/hub)."""
    return Path(constants.HF_HUB_CACHE)


def fetch_file(hub_id: str, filename: str) -> Path:
    """Path of a file of a hub repository, downloaded or from the hub's cache; use within ``explain_hub``."""
    return Path(hf_hub_download(hub_id, filename))


def _is_cached(hub_id: str, filenames: Sequence[str]) -> bool:
    return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in filenames)


def hub_revision(hub_id: str, weights_file: str) -> str | None:
    """Commit of a repository's weights in the hub's cache, 40 hex digits; None where the cache doesn't say."""
    for name in dict.fromkeys([*_HUB_FILES, weights_file]):
        path = try_to_load_from_cache(hub_id, name)
        if isinstance(path, str) and len(folder := Path(path).parents[name.count("/")].name) == _COMMIT_DIGITS:
            return folder
    return None


@contextmanager
def explain_hub(encoder: str) -> Iterator[None]:
    """Ask the hub once whether the weights can be had, and turn what goes wrong in the block into a WeightsError.

    The one question first, because the hub's client asks five times with growing pauses before it gives up.

    Raises:
        WeightsError: no network, offline by ``HF_HUB_OFFLINE``, no access, no such repository, or weights that
            don't fit; with the ways out.
    """
    needs = find_needs(encoder)
    if needs is None:
        yield
        return
    if not _is_cached(needs.hub_id, needs.weights):
        _ask(needs)
    with _explained(needs):
        yield


def _ask(needs: Needs) -> None:
    with _explained(needs):
        HfApi().auth_check(needs.hub_id)


@contextmanager
def _explained(needs: Needs) -> Iterator[None]:
    try:
        yield
    except GatedRepoError as error:
        raise WeightsError(
            f"{needs.encoder}: the hub does not let this account have the weights of {needs.hub_id}. "
            f"Either {needs.by_token}; or {needs.by_file}."
        ) from error
    except (OSError, HTTPError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        way = needs.by_token if needs.gated else "try again with a network"
        raise WeightsError(
            f"{needs.encoder}: no weights of {needs.hub_id} here and none from the hub ({first}). Either {way}; or "
            f"{needs.by_file}; or try the step with --random-weights."
        ) from error
