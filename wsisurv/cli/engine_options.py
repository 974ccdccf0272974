"""Options of where slides, cases or folds are done: here, on a Dask cluster or in jobs of a queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wsisurv.cli.console import note
from wsisurv.errors import SettingsError
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.engine.workers import Pool

StageOption = Annotated[
    Path | None,
    typer.Option(
        "--stage",
        help="Folder on a disk of the machine that reads, for slides on slow storage: each is copied there first.",
        file_okay=False,
    ),
]


@dataclass(frozen=True)
class EngineOptions:
    """What slides, cases or folds are done on."""

    engine: Annotated[
        Literal["local", "dask", "slurm", "pbs", "lsf"],
        typer.Option(
            metavar="NAME",
            help="Work here (local), on the workers of a Dask cluster (dask), or on workers that are jobs of a queue "
            "(slurm, pbs, lsf).",
        ),
    ] = "local"
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Dask scheduler of --engine dask: its file, tls://HOST:PORT, or tcp://127.0.0.1:PORT on this machine."
        ),
    ] = None
    min_jobs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Jobs of --engine slurm, pbs or lsf that are kept though there is nothing to do.",
            show_default="0",
        ),
    ] = None
    max_jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Jobs of --engine slurm, pbs or lsf at once, where there is so much.", show_default="10"
        ),
    ] = None

    @contextmanager
    def pool(self, workspace: Path) -> Iterator["Pool | None"]:
        """Workers elsewhere; None for this machine.

        Raises:
            typer.BadParameter: an option without the other that it needs.
            WsisurvError: as ``dask_pool`` and ``queue_pool``.
        """
        if (self.engine == "dask") != (self.scheduler is not None):
            raise typer.BadParameter("--engine dask and --scheduler go together")
        given = {name: n for name, n in (("least", self.min_jobs), ("most", self.max_jobs)) if n is not None}
        if given and self.engine in ("local", "dask"):
            raise typer.BadParameter("--min-jobs and --max-jobs go with --engine slurm, pbs or lsf")
        if self.engine == "local":
            yield None
        elif self.engine == "dask":
            from wsisurv.engine.dask import dask_pool

            with dask_pool(str(self.scheduler), Workspace(workspace)) as pool:
                yield pool
        else:
            from wsisurv.engine.jobqueue import queue_pool

            with queue_pool(self.engine, Workspace(workspace), tell=note, **given) as queued:
                yield queued


@dataclass(frozen=True)
class NamedSlidesOptions(EngineOptions):
    """Where slides are made ready that a command may be given."""

    stage: StageOption = None

    def require(self, slides: list[Path] | None) -> None:
        """Refuse these options where there is no slide to be made ready.

        Raises:
            SettingsError: names the option.
        """
        given = {"--engine": self.engine != "local", "--stage": self.stage is not None}
        if not slides and (names := [name for name in given if given[name]]):
            raise SettingsError(
                f"{names[0]} is for slides that are named, which are tiled and embedded first: leave it out."
            )
