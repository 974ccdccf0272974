"""What all training shares: device, seeds, the loop over epochs, and the history."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsisurv.bags.packed import Bags
from wsisurv.engine.progress import Progress
from wsisurv.errors import DeviceError, FormatError, SettingsError
from wsisurv.formats.atomic import append_jsonl, read_jsonl
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training.adamw import AdamW
from wsisurv.training.checkpoints import Checkpoints, capture, restore

_LINES_A_FIT = 5


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Seed all random numbers inside the block, leaving the caller's as they were; gives a CPU generator."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


_VALUES_A_THREAD = 1 << 24


@contextmanager
def threads_for(bags: Bags, tiles_per_bag: int = 0, members: int = 1) -> Iterator[None]:
    """Use no more threads inside the block than one pass over the bags can feed.

    A step of a few milliseconds gains nothing from a second thread, and where other processes hold the cores, threads
    that wait for each other make it many times as slow. With one thread for small trainings their results don't depend
    on the number of cores either.

    Args:
        bags: of one pass.
        tiles_per_bag: that are drawn of them; 0 for all. Every 16 million features feed a thread.
        members: that are trained on them side by side, each of which multiplies them.
    """
    before = torch.get_num_threads()
    rows = bags.lengths.clamp(max=tiles_per_bag) if tiles_per_bag else bags.lengths
    torch.set_num_threads(max(1, min(before, int(rows.sum()) * bags.n_features * members // _VALUES_A_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Log:
    """Counts epochs for the progress line and writes about five lines of history a fit.

    A run that goes on where a killed one stopped does some epochs again, whose lines it does not write again.
    """

    path: Path  # history.jsonl
    step: str  # name of the step in each line
    progress: Progress  # called after each epoch
    # what an interrupted run left behind, and what this one leaves; None for neither
    checkpoints: Checkpoints | None = None
    total: int = 0  # epochs in all fits together, as soon as that is known
    _done: int = field(default=0, init=False)
    _written: set[str] | None = field(default=None, init=False)

    def epoch(self, part: str, epoch: int, epochs: int, loss: float) -> None:
        """Note an epoch (counted from 1) of a part of the work."""
        self._done += 1
        self.progress(min(self._done, self.total), self.total, part)
        if epoch == epochs or epoch % max(1, epochs // _LINES_A_FIT) == 0:
            run = {"run": self._run} if self._run else {}
            self.line(part=part, epoch=epoch, loss=loss, **run)

    def resumed(self, part: str, epoch: int) -> None:
        """Note that a part goes on after ``epoch`` epochs that an earlier run did."""
        self._done += epoch
        self.line(part=part, resumed_after_epoch=epoch)

    def line(self, **values: Any) -> None:
        """Write one line of history."""
        record = {"step": self.step, **values}
        if self._written is None:
            self._written = self._of_this_run()
        if (key := _key(record)) not in self._written:
            self._written.add(key)
            append_jsonl(self.path, record)

    @property
    def _run(self) -> str:
        """By which lines of one run are known; a run begun again has the same, one of other settings another."""
        return self.checkpoints.header.fingerprint[:12] if self.checkpoints is not None else ""

    def _of_this_run(self) -> set[str]:
        """Lines at the end of the history that a killed run of the same work has left."""
        try:
            lines = [line for line in read_jsonl(self.path) if isinstance(line, dict) and line.get("step") == self.step]
        except FormatError:  # the page says so
            return set()
        written: set[str] = set()
        for line in lines:
            if "epoch" in line and line.get("run") != self._run:
                written.clear()  # of another run
            else:
                written.add(_key(line))
        return written


def _key(line: Mapping[str, Any]) -> str:
    """What two lines share that tell the same of one run; on a GPU losses may differ in the last digits."""
    return json.dumps([line["part"], line["epoch"]] if "epoch" in line else line, sort_keys=True)


@contextmanager
def _room_explained(part: str, device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"{part}: no room on {device} ({str(error).splitlines()[0]}). Free it of other work, give a lower --memory "
            "or fewer --tiles-per-bag, or take --device cpu."
        ) from error


def minimise(
    model: nn.Module | Iterable[nn.Module],
    loss: Callable[[], Tensor],
    settings: TeacherSettings | DistillSettings,
    *,
    part: str,
    log: Log,
    generator: torch.Generator | None = None,
) -> None:
    """AdamW over the whole cohort at once, a fixed number of epochs, the rate falling to zero along a cosine.

    A fit that an interrupted run left behind goes on after its last written epoch, to the same weights, bit by bit.

    Args:
        model: whose parameters move; left in evaluation mode.
        loss: gives the loss of one epoch, () or one a member (n,); its random numbers are torch's global ones or the
            generator's.
        settings: epochs, which are steps; learning rate at the start; weight decay; and precision of matrix products
            and what lies between them: losses are in double precision in either case.
        part: what is trained, for the history; no two parts of a run have one name.
        log: history, progress and checkpoints.
        generator: that the loss draws from.

    Raises:
        SettingsError: the loss is not finite any more.
        DeviceError: no room on the device.
        StorageError: no room for a checkpoint.
    """
    epochs = settings.epochs
    modules = [model] if isinstance(model, nn.Module) else list(model)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    device = parameters[0].device
    optimiser = AdamW(
        parameters,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=device.type == "cuda",
    )
    for module in modules:
        module.train()
    done = 0
    if log.checkpoints is not None and (state := log.checkpoints.find(part)) is not None:
        restore(state, modules, optimiser, generator, device)
        done = state.epoch
        log.resumed(part, done)
    for epoch in range(done, epochs):
        optimiser.learning_rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        optimiser.zero_grad()
        with _room_explained(part, device):
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                value = loss()
            value.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        seen = float(value.detach().mean())
        if not math.isfinite(seen):
            raise SettingsError(f"{part}: the loss became {seen} in epoch {epoch + 1}. Lower --learning-rate.")
        if log.checkpoints is not None and (epoch + 1 == epochs or log.checkpoints.due()):
            log.checkpoints.keep(part, capture(epoch + 1, modules, optimiser, generator, device))
        log.epoch(part, epoch + 1, epochs, seen)
    for module in modules:
        module.eval()
