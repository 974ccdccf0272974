"""What all training shares: device, seeds, the loop over epochs, and the history."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsisurv.errors import SettingsError
from wsisurv.formats.atomic import append_jsonl
from wsisurv.workspace import Progress

_LINES_A_FIT = 5


def choose_device(name: str) -> torch.device:
    """``auto`` takes a CUDA GPU where there is one, else the CPU.

    Raises:
        SettingsError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise SettingsError(f"--device {name}: not usable here ({error}). --device cpu always is.") from error
    return device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Seed all random numbers inside the block, leaving the caller's as they were; gives a CPU generator."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@dataclass
class Log:
    """Counts epochs for the progress line and writes about five lines of history a fit.

    Attributes:
        path: history.jsonl.
        step: name of the step in each line.
        total: epochs in all fits together.
        progress: told after each epoch.
    """

    path: Path
    step: str
    total: int
    progress: Progress
    _done: int = field(default=0, init=False)

    def epoch(self, part: str, epoch: int, epochs: int, loss: float) -> None:
        """Note an epoch (counted from 1) of a part of the work."""
        self._done += 1
        self.progress(min(self._done, self.total), self.total, part)
        if epoch == epochs or epoch % max(1, epochs // _LINES_A_FIT) == 0:
            self.line(part=part, epoch=epoch, loss=loss)

    def line(self, **values: Any) -> None:
        """Write one line of history."""
        append_jsonl(self.path, {"step": self.step, **values})


def minimise(
    model: nn.Module | Iterable[nn.Module],
    loss: Callable[[], Tensor],
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    part: str,
    log: Log,
) -> None:
    """AdamW over the whole cohort at once, a fixed number of epochs, the rate falling to zero along a cosine.

    Args:
        model: whose parameters move; left in evaluation mode.
        loss: gives the loss of one epoch, ().
        epochs: steps; 0 does nothing.
        learning_rate: at the start.
        weight_decay: AdamW's.
        part: what is trained, for the history.
        log: history and progress.

    Raises:
        SettingsError: the loss is not finite any more.
    """
    modules = [model] if isinstance(model, nn.Module) else list(model)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    for module in modules:
        module.train()
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seen = float(value.detach())
        if not math.isfinite(seen):
            raise SettingsError(f"{part}: the loss became {seen} in epoch {epoch + 1}. Lower --learning-rate.")
        log.epoch(part, epoch + 1, epochs, seen)
    for module in modules:
        module.eval()
