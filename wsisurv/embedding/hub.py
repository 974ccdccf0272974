"""Weights at the Hugging Face hub: whether they are here already, what stands in the way, and fetching them.

This is the only door to the network. What is loaded lies in the hub's cache by then, at the commit that settings name.

torch is not imported here, so that looking takes no time.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of whichever client it uses
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from wsisurv.embedding.table import HISTOMICS, find_spec, packaged_names
from wsisurv.errors import SettingsError, WeightsError
from wsisurv.settings.embedding import EmbedSettings

_COMMIT = re.compile("[0-9a-f]{40}")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_CONFIG = "config.json"


class Fetch(Protocol):
    """Downloads a file of a repository at a commit into the hub's cache."""

    def __call__(self, repo_id: str, filename: str, *, revision: str) -> object:
        """Raise as the hub's client does."""


@dataclass(frozen=True)
class Needs:
    """What an encoder needs of the hub."""

    encoder: str  # its name
    hub_id: str  # repository
    weights: tuple[str, ...]  # names that the file of weights may have, the first that is there taken
    wanted: str  # the name to look for, in words
    config: bool  # True where ``config.json`` is needed beside it
    gated: bool  # True where the repository is known to want a token

    @property
    def page(self) -> str:
        """Its page at the hub."""
        return f"https://huggingface.co/{self.hub_id}"

    def find(self, commit: str | None) -> "CachedWeights | None":
        """What it needs, in the hub's cache at a commit (None: the one that the cache has); no network is asked."""
        commit = commit or self._cached_commit()
        if commit is None:
            return None
        weights = next((path for name in self.weights if (path := _cached(self.hub_id, name, commit))), None)
        config = _cached(self.hub_id, _CONFIG, commit)
        return None if weights is None or (self.config and config is None) else CachedWeights(commit, weights, config)

    def _cached_commit(self) -> str | None:
        """The commit that the cache last had from the hub, or else the only one that it has."""
        folder = cache_folder() / repo_folder_name(repo_id=self.hub_id, repo_type="model")
        try:
            commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            there = {path.parent.name for name in self.weights for path in (folder / "snapshots").glob(f"*/{name}")}
            commit = there.pop() if len(there) == 1 else ""
        return commit if _COMMIT.fullmatch(commit) else None

    @property
    def here(self) -> bool:
        """True where all is in the hub's cache; no network is asked."""
        return self.find(None) is not None

    @property
    def by_file(self) -> str:
        """The way out that needs no network here, in words."""
        return f"fetch {self.wanted} from {self.page} where there is a network, and give it with --weights FILE"

    @property
    def by_token(self) -> str:
        """The way out for who has an account, in words."""
        return f"accept the licence at {self.page} and set HF_TOKEN (or run `hf auth login`)"


@dataclass(frozen=True)
class CachedWeights:
    """Files in the hub's cache."""

    commit: str  # of the repository, 40 hex digits
    weights: Path  # the file of weights
    config: Path | None  # the repository's ``config.json``, where it is here


@dataclass(frozen=True)
class EncoderCheck:
    """Whether an encoder is ready."""

    encoder: str  # its name
    ready: bool  # True where nothing is missing here
    message: str  # what there is, or what is missing and the ways out


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
        from wsisurv.embedding.timm_names import hub_files_of  # torch and timm take seconds

        hub_id, names = hub_files_of(encoder)
        names = names or _HUB_FILES
        return Needs(encoder, hub_id, names, " or ".join(names), config=False, gated=False)
    weights = (spec.weights_file,) if spec.hub_file else _HUB_FILES
    return Needs(
        encoder, spec.hub_id, weights, spec.weights_file, config=spec.from_hub_config, gated=spec.access == "gated"
    )


def check_encoder(encoder: str) -> EncoderCheck:
    """Say whether an encoder's weights are here, and if not what to do; the hub is asked unless HF_HUB_OFFLINE is set.

    Raises:
        SettingsError, WeightsError: as ``find_needs``.
    """
    needs = find_needs(encoder)
    if needs is None:
        return EncoderCheck(encoder, True, "ready: it needs no weights")
    if (found := needs.find(None)) is not None:
        return EncoderCheck(encoder, True, f"ready: {needs.hub_id} is in the hub's cache, commit {found.commit}")
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


def fetch_encoder(encoder: str, commit: str | None = None, fetch: Fetch = hf_hub_download) -> str:
    """Fetch what an encoder needs into the hub's cache; returns what was done, in words.

    Args:
        encoder: its name.
        commit: of the repository; None for the one in the cache, or else for the newest.
        fetch: downloads a file of a repository.

    Raises:
        SettingsError, WeightsError: as ``find_needs``; also no network, no access, no such file.
    """
    needs = find_needs(encoder)
    if needs is None:
        return "needs no weights"
    if (found := needs.find(commit)) is not None:
        return f"{needs.hub_id} is in the hub's cache already, commit {found.commit}"
    commit = _ask(needs, commit)
    with _explained(needs):
        if needs.config:
            fetch(needs.hub_id, _CONFIG, revision=commit)
        for name in needs.weights:
            try:
                fetch(needs.hub_id, name, revision=commit)
            except LocalEntryNotFoundError:  # an EntryNotFoundError too, and a network that broke
                raise
            except EntryNotFoundError:
                continue
            return f"fetched {name} of {needs.hub_id}, commit {commit}"
    raise WeightsError(f"{encoder}: {needs.hub_id} holds no {' and no '.join(needs.weights)}. See {needs.page}.")


def pin_weights(settings: EmbedSettings, *, offline: bool = False) -> EmbedSettings:
    """Settings whose weights of the hub are pinned by a commit: the one in the cache, or else the hub's newest.

    Args:
        settings: of an encoder.
        offline: ask no network.

    Raises:
        SettingsError: the settings name another repository than their encoder has.
        WeightsError: the hub can't be asked.
    """
    weights = settings.weights or ""
    if not weights.startswith("hub:"):
        return settings
    needs = find_needs(settings.encoder)
    if needs is None or weights.removeprefix("hub:").partition("@")[0] != needs.hub_id:
        raise SettingsError(
            f"{settings.encoder}: weights {weights} are not its own"
            + ("." if needs is None else f", which are hub:{needs.hub_id}.")
        )
    if settings.hub_commit is not None:
        return settings
    if (found := needs.find(None)) is not None:
        commit = found.commit
    elif offline:
        raise _not_here(needs, None)
    else:
        commit = _ask(needs)
    return settings.model_copy(update={"weights": f"hub:{needs.hub_id}@{commit}"})


def find_weights(settings: EmbedSettings) -> CachedWeights:
    """The files that pinned settings name, in the hub's cache; no network is asked.

    Raises:
        SettingsError: as ``pin_weights``.
        WeightsError: they are not here.
    """
    pinned, needs = pin_weights(settings, offline=True), find_needs(settings.encoder)
    if needs is None or pinned.hub_commit is None:
        raise SettingsError(f"{settings.encoder}: {settings.weights} are no weights of the hub.")
    if (found := needs.find(pinned.hub_commit)) is None:
        raise _not_here(needs, pinned.hub_commit)
    return found


def _not_here(needs: Needs, commit: str | None) -> WeightsError:
    at, option = (f" at commit {commit}", f" --revision {commit}") if commit else ("", "")
    return WeightsError(
        f"{needs.encoder}: the weights of {needs.hub_id}{at} are not here. Run `wsisurv encoders --fetch "
        f"{needs.encoder}{option}` where there is a network, which fetches them into the hub's cache."
    )


def cache_folder() -> Path:
    """Where the hub's client keeps what it fetched (HF_HUB_CACHE, or HF_HOME/hub)."""
    return Path(constants.HF_HUB_CACHE)


def _cached(hub_id: str, name: str, commit: str) -> Path | None:
    path = try_to_load_from_cache(hub_id, name, revision=commit)
    return Path(path) if isinstance(path, str) else None


def _ask(needs: Needs, commit: str | None = None) -> str:
    """Ask the hub whether the weights can be had; gives the commit that was asked for, or the newest.

    One question first, because the hub's client asks five times with growing pauses before it gives up.
    """
    with _explained(needs):
        api = HfApi()
        api.auth_check(needs.hub_id)
        commit = api.model_info(needs.hub_id, revision=commit).sha
    if not commit or not _COMMIT.fullmatch(commit):
        raise WeightsError(f"{needs.encoder}: the hub doesn't say which commit of {needs.hub_id} it has.")
    return commit


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
