"""What an interrupted training goes on from; nothing is written by one that ends within seconds."""

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsisurv.errors import ArtifactError
from wsisurv.formats.digests import read_array
from wsisurv.formats.header import Header, create, make_header, opened
from wsisurv.training.adamw import AdamW
from wsisurv.workspace.freshness import compare

FORMAT = "wsisurv/checkpoint"
EVERY_S = 10.0


@dataclass(frozen=True)
class FitState:
    """Everything that the rest of a fit depends on."""

    epoch: int  # epochs that are done
    arrays: Mapping[str, NDArray[Any]]  # weights, the optimiser's moments, and states of the random numbers, by name


@dataclass
class Checkpoints:
    """States of the fits of one run, in a folder of their own that is removed when the run ends well.

    States of finished fits wait in memory for the next writing: lost are ``every_s`` seconds of work at most, and the
    epoch in progress.
    """

    folder: Path  # of this run
    header: Header  # settings and inputs; states of another run, of another device or another torch are not used
    every_s: float = EVERY_S  # seconds between writings; 0 writes after each epoch
    _written_at: float = field(default_factory=lambda: time.monotonic(), init=False)
    _waiting: dict[str, FitState] = field(default_factory=dict, init=False)

    def find(self, part: str) -> FitState | None:
        """The state of a fit, or None where there is none that fits this run."""
        try:
            with opened(self._path(part), FORMAT, "the run") as (file, header):
                if not compare(header, self.header).done:
                    return None
                arrays: dict[str, NDArray[Any]] = {name: np.asarray(read_array(value)) for name, value in file.items()}
                return FitState(int(file.attrs["epoch"]), arrays)
        except ArtifactError:  # missing, or cut short: begin anew
            return None

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written_at >= self.every_s

    def keep(self, part: str, state: FitState) -> None:
        """Take in a fit's state, and write all that wait when it is time.

        Raises:
            StorageError: no room or no permission.
        """
        self._waiting[part] = state
        if not self.due():
            return
        for waiting, one in self._waiting.items():
            with create(self._path(waiting), self.header) as file:
                file.attrs["epoch"] = one.epoch
                for name, array in one.arrays.items():
                    file[name] = array
        self._waiting.clear()
        self._written_at = time.monotonic()

    def remove(self) -> None:
        """Remove the folder: the run ended well."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # not empty: another run's states are beside them
            self.folder.parent.rmdir()

    def _path(self, part: str) -> Path:
        return self.folder / f"{re.sub('[^a-z0-9]+', '-', part.lower())}.h5"


def make_checkpoints(folder: Path, header: Header, device: torch.device, every_s: float) -> Checkpoints:
    """Checkpoints of the run that is to make a file with this header.

    Args:
        folder: of the cohort.
        header: of what the run makes.
        device: that it trains on.
        every_s: seconds between writings.
    """
    made_by = {
        "of": header.format,
        "device": device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    place = folder / ".training" / header.format.replace("/", "-")
    return Checkpoints(place, make_header(FORMAT, {**header.settings, **made_by}, header.inputs), every_s)


def capture(
    epoch: int,
    modules: Sequence[nn.Module],
    optimiser: AdamW,
    generator: torch.Generator | None,
    device: torch.device,
) -> FitState:
    """Copy the state of a fit after ``epoch`` epochs."""
    tensors = {
        f"module {number} {name}": value
        for number, module in enumerate(modules)
        for name, value in module.state_dict().items()
    }
    for number, moments in optimiser.moments.items():
        tensors |= {f"optimiser {number} {name}": value for name, value in moments.items()}
    tensors["random cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random cuda"] = torch.cuda.get_rng_state(device)
    if generator is not None:
        tensors["random generator"] = generator.get_state()
    return FitState(epoch, {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()})


def restore(
    state: FitState,
    modules: Sequence[nn.Module],
    optimiser: AdamW,
    generator: torch.Generator | None,
    device: torch.device,
) -> None:
    """Put a fit back to where it was captured, random numbers included."""

    def under(prefix: str) -> dict[str, torch.Tensor]:
        start = prefix + " "
        return {name[len(start) :]: torch.tensor(a) for name, a in state.arrays.items() if name.startswith(start)}

    for number, module in enumerate(modules):
        module.load_state_dict(under(f"module {number}"))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in under("optimiser").items():
        parameter, moment = name.split(" ", 1)
        moments.setdefault(int(parameter), {})[moment] = value
    optimiser.load(moments)
    random = under("random")
    torch.set_rng_state(random["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], device)
    if generator is not None:
        generator.set_state(random["generator"])
