"""One slide at a time, for workers on other machines: they get a small record, and keep their encoder."""

import threading
from dataclasses import dataclass, replace

from wsisurv.embedding.encoder import Encoder
from wsisurv.embedding.one_device import Task, build, do
from wsisurv.embedding.step import check_tiles, read_source
from wsisurv.engine.dask import stop_if_unwanted
from wsisurv.engine.jobs import Job
from wsisurv.settings.base import fingerprint
from wsisurv.slides.stage import staged

_kept: dict[str, Encoder] = {}
_turn = threading.Lock()
"""A worker's threads take turns: an encoder fills the device alone. Others copy their slides meanwhile."""


class _SlideOutcome:
    """A run of a slide that another process holds the claim of."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.error: Exception | None = None

    def claim(self, job: Job) -> bool:
        del job
        return True

    def finish(self, job: Job, note: str | None = None) -> None:
        del job
        self.notes += [note] if note else []

    def fail(self, job: Job, error: Exception) -> None:
        del job
        self.error = error


@dataclass(frozen=True)
class EmbedSlide:
    """Embeds a slide in this process; a record that can be sent to another."""

    task: Task  # without jobs and mismatches
    device: str  # where a network computes
    allow_mismatch: bool

    def __call__(self, job: Job) -> str | None:
        """Embed it; gives what a person should know.

        Raises:
            WsisurvError: the slide's own failure, or as ``one_device.do``.
        """
        sources = {job.id: read_source(self.task.workspace.tiles(job.id))}
        mismatches = check_tiles(self.task.settings, sources, self.allow_mismatch)
        task, outcome = replace(self.task, jobs=(job,), mismatches=mismatches, stage=None), _SlideOutcome()
        stage = self.task.stage if job.source.exists() else None  # what is to be said of that is said below
        with staged(job.source, stage) as place, _turn:
            here = replace(job, source=place)
            notes = do(task, outcome, [here], self.device, lambda _: stop_if_unwanted(), encoder=self._encoder())
            if outcome.error is not None:
                raise outcome.error
        if task.settings.augment_stain:
            notes = notes[:-1]  # its median is of many slides
        return "; ".join([*outcome.notes, *notes]) or None

    def _encoder(self) -> Encoder:
        task = self.task
        wanted = {"device": self.device, "weights": str(task.weights_file), "how": [task.compiled, task.cpu_bf16]}
        key = fingerprint({**wanted, **self.task.settings.model_dump(mode="json")}, {})
        if key not in _kept:
            for encoder in _kept.values():
                encoder.close()
            _kept.clear()
            _kept[key] = build(self.task, self.device)
        return _kept[key]
