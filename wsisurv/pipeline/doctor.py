"""``doctor``: whether this machine has what the steps need."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from wsisurv.engine.workers import cores
from wsisurv.errors import WsisurvError, did_you_mean
from wsisurv.version import __version__
from wsisurv.workspace.claims import try_claims

State = Literal["good", "warning", "fault"]
_LIBRARIES = (
    "torch",
    "timm",
    "numpy",
    "scipy",
    "h5py",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
    "simplejpeg",
    "pydicom",
    "pydantic",
    "typer",
    "lifelines",
    "pandas",
    "matplotlib",
    "ollama",
    "huggingface_hub",
)
_LEAST_FREE, _SMALL_MEMORY = 10e9, 8e9


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at."""

    what: str
    state: State
    said: str  # what was seen
    way_out: str = ""  # what to do; empty where all is well


def doctor(
    workspace: Path, *, encoder: str = "histomics", host: str | None = None, model: str | None = None
) -> list[Checked]:
    """Look at this machine: environment, weights, Ollama, storage, GPU, processors and memory.

    Leaves nothing behind: a file to try the locks is made in the workspace, or in the folder where it would be, and
    deleted.

    Args:
        workspace: where the steps are to write.
        encoder: whose weights are looked for.
        host: the Ollama server.
        model: a model that the server should have; None where reports are not to be read by one.
    """
    return [*_environment(), _weights(encoder), _ollama(host, model), *_storage(workspace), *_machine()]


def _environment() -> Iterator[Checked]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Checked("wsisurv", "good", f"{__version__}, Python {python}, {sys.executable}")
    seen, lacking = [], []
    for name in _LIBRARIES:
        try:
            seen.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lacking.append(name)
    if lacking:
        yield Checked("libraries", "fault", f"not installed: {', '.join(lacking)}", "run `pip install wsisurv` anew")
    yield Checked("versions", "good", ", ".join(seen))


def _weights(encoder: str) -> Checked:
    from wsisurv.embedding.hub import check_encoder  # the hub's client takes a while

    try:
        found = check_encoder(encoder)
    except WsisurvError as error:
        return Checked("encoder", "fault", str(error), "name one that `wsisurv encoders` lists")
    said, _, way_out = found.message.partition(". ")
    return Checked("encoder", "good" if found.ready else "fault", f"{encoder}: {said}", way_out)


def _ollama(host: str | None, model: str | None) -> Checked:
    """The server: without it reports can be read by rules alone, so that its absence is a fault where one is named."""
    from wsisurv.reports.ollama import Server
    from wsisurv.reports.server_models import with_tag

    missed: State = "fault" if model else "warning"
    try:
        with Server(host, timeout_s=5) as server:
            number, models = server.inventory()
            url = server.url
    except WsisurvError as error:
        said, _, way_out = str(error).partition(". ")
        more = "" if model else " Needed only by `extract-report` with a language model"
        return Checked("Ollama", missed, said, f"{way_out}{more}".strip())
    there = ", ".join(models) or "none"
    if model is not None and with_tag(model) not in models:
        near = did_you_mean(with_tag(model), models)
        return Checked("Ollama", "fault", f"{url}: no model {model!r}; it has {there}{near}", f"`ollama pull {model}`")
    if not models:
        return Checked("Ollama", "warning", f"{url}: version {number}, no model", "`ollama pull qwen3:8b`, for example")
    return Checked("Ollama", "good", f"{url}: version {number}, models {there}")


def _storage(workspace: Path) -> Iterator[Checked]:
    there = _nearest(workspace)
    new = "" if there == workspace.absolute() else f"; {workspace.absolute()} is not there yet"
    if not there.is_dir():
        yield Checked("workspace", "fault", f"{there}: a file, no folder", "name another --workspace")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Checked("workspace", "fault", f"{there}: can't be written{new}", "name another --workspace")
    else:
        yield _space("workspace", there, new)
        yield check_claims(workspace)
    temporary = Path(tempfile.gettempdir())
    yield _space("temporary files", temporary, "")


def _nearest(workspace: Path) -> Path:
    """The workspace, or the folder in which it would be made."""
    place = workspace.absolute()
    return next(one for one in (place, *place.parents) if one.exists())


def _space(what: str, folder: Path, more: str) -> Checked:
    free = shutil.disk_usage(folder).free
    said = f"{folder}: {free / 1e9:.1f} GB free{more}"
    if free >= _LEAST_FREE:
        return Checked(what, "good", said)
    return Checked(what, "warning", said, "`wsisurv run … --dry-run` says what your slides need")


def check_claims(workspace: Path) -> Checked:
    """Try locks and O_EXCL where a workspace is, or would be made, and say which is used; leaves nothing there."""
    folder = _nearest(workspace)
    try:
        with tempfile.TemporaryDirectory(prefix=".wsisurv-", dir=folder) as trial:
            seen = try_claims(Path(trial))
    except (OSError, WsisurvError) as error:
        return Checked("locks", "fault", f"{folder}: {error}", "name another --workspace")
    if not seen.holds or not (seen.locks or seen.exclusive):
        said = "what one process holds is given to a second too: two runs would do the same and spoil it"
        return Checked("locks", "fault", f"{folder}: {said}", "run one process at a time, or name another --workspace")
    if seen.locks:
        more = "" if seen.exclusive else "; O_EXCL does not work there, and is not needed"
        said = f"locks work (flock) and are used, so several processes can share the work{more}"
        return Checked("locks", "good", f"{folder}: {said}")
    return Checked(
        "locks",
        "warning",
        f"{folder}: this file system has no locks that hold on all machines",
        "files made with O_EXCL, which works there, and touched stand for them, so several processes share the work "
        "all the same; after one is killed on another machine wait a minute",
    )


def _machine() -> Iterator[Checked]:
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            known = torch.cuda.get_device_properties(number)
            yield Checked("GPU", "good", f"cuda:{number} {known.name}, {known.total_memory / 1e9:.0f} GB")
    elif torch.backends.mps.is_available():
        yield Checked("GPU", "good", "mps, Apple's")
    elif Path("/dev/nvidia0").exists():
        built = torch.version.cuda or "none"
        yield Checked(
            "GPU",
            "warning",
            f"there is one that torch can't use (torch {torch.__version__}, built for CUDA {built})",
            "install the torch of your driver's CUDA: https://pytorch.org",
        )
    else:
        yield Checked("GPU", "good", "none: histomics needs none; a large encoder takes a minute a slide and more")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    small = 0 < memory < _SMALL_MEMORY
    yield Checked(
        "machine",
        "warning" if small else "good",
        f"{cores()} processors, {memory / 1e9:.0f} GB of memory",
        "use fewer --workers in `tile`, and --memory in training" if small else "",
    )
