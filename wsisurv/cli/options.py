"""Options that several commands share, written once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from wsisurv.cli.from_settings import option
from wsisurv.engine.shards import parse_shard
from wsisurv.errors import SettingsError
from wsisurv.settings.training import TeacherSettings

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="WSISURV_WORKSPACE",
        help="Folder for all files that the steps write.",
        file_okay=False,
        show_default="./workspace",
    ),
]
DEFAULT_WORKSPACE = Path("workspace")

RedoOption = Annotated[
    bool, typer.Option("--redo", help="Replace files that were made with other settings or from other inputs.")
]
MAKING_A_COHORT = ("clinical", "reports", "workspace", "cohort", "time", "event", "time_unit", "site", "covariates")
"""Options that commands which go from slides to a cohort show first."""


def _checked_shard(text: str | None) -> str | None:
    try:
        parse_shard(text)
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error
    return text


ShardOption = Annotated[
    str | None,
    typer.Option(
        callback=_checked_shard,
        metavar="N/COUNT",
        help="Share of the slides, cases, reports or folds to do here, for job arrays: every COUNT-th, from the N-th; "
        "slurm takes this task's place in its array. What is made of all is written by the share that ends last.",
    ),
]
CohortOption = Annotated[
    str | None,
    typer.Option(
        "--cohort",
        help="Name of the cohort, a folder in cohorts/, or NAME/ENDPOINT for one of several endpoints; can be left out "
        "where there is only one.",
    ),
]
LandmarkOption = Annotated[
    str | None,
    typer.Option(
        "--landmark",
        help="Years at which cases are looked at anew, e.g. 1y,3y: figures among those alive, free of the event and "
        "followed then.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Device: cpu, cuda, cuda:1, mps, or auto (the first accelerator).")
]
AllowRandomOption = Annotated[
    bool,
    typer.Option(
        "--allow-random-weights", help="Accept features of an encoder with random weights, to try things out."
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory",
        min=0.001,
        help="Memory for training, GiB. Features that don't fit are read from disk as needed: slower, same result.",
        show_default="half of the machine's",
    ),
]
SlidesArgument = Annotated[
    list[Path], typer.Argument(help="Slide files, or folders searched for every format that OpenSlide reads.")
]
SlideMapOption = Annotated[
    Path | None,
    typer.Option(
        "--slide-map",
        help="CSV with columns slide_id,case_id; without it, a slide is of the case whose id begins its name.",
        dir_okay=False,
    ),
]
StudentOption = Annotated[
    Path | None,
    typer.Option(
        "--student", help="Student to use, a file of distill.", show_default="the cohort's student.h5", dir_okay=False
    ),
]
MovedSlidesOption = Annotated[
    list[Path] | None, typer.Option(help="Slides, or their folder, if they were moved since they were tiled.")
]
ForceUnfamiliarOption = Annotated[
    bool,
    typer.Option(
        "--force-unfamiliar",
        help="Risk group and survival also for unfamiliar cases, which the student does not know.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", help="File of the encoder's weights, where the student was trained with such a file."),
]
PoolWeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--pool-weights", help="File of the slide encoder's weights, where the student was trained on what it pooled."
    ),
]
SameTissueModelOption = Annotated[
    Path | None,
    typer.Option(
        "--tissue-model", help="Network that finds tissue, where one found that of the student's training slides."
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", help="Seed of random numbers; the same seed on the same device gives the same result.")
]
AlignmentOption = Annotated[
    Path | None,
    typer.Option(
        "--alignment",
        help="Alignment of many cohorts, a file of align: the guided student sees tiles along its directions.",
        show_default="the cohort's own reports say which",
        dir_okay=False,
        exists=True,
    ),
]
ExpertsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--experts",
        help="Student of another cohort on the same features, as a fixed expert beside the distilled one where it "
        "helps; repeat it for more.",
        dir_okay=False,
        exists=True,
    ),
]
WarmStartOption = Annotated[
    Path | None,
    typer.Option(
        "--warm-start",
        help="Student of another cohort on the same features, from whose weights the distilled one is trained.",
        dir_okay=False,
        exists=True,
    ),
]
_UNSET = "the cohort's teacher's"


@dataclass(frozen=True)
class FoldOptions:
    """How the folds of a cohort are drawn, trained and kept."""

    splits: Annotated[
        Path | None,
        typer.Option(help="Folds of your own: a splits.jsonl, or a folder in the style of SurvPath or PANTHER."),
    ] = None
    encoder: Annotated[str | None, option(TeacherSettings, "encoder", unset=_UNSET)] = None
    text_encoder: Annotated[str | None, option(TeacherSettings, "text_encoder", unset=_UNSET)] = None
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of teacher and student.", show_default="as the cohort's were trained"),
    ] = None
    keep_together: Annotated[
        bool,
        typer.Option(
            "--keep-together",
            help="Keep cases that share a slide, a report or tissue in one fold, instead of stopping.",
        ),
    ] = False
    device: DeviceOption = "auto"
    memory: MemoryOption = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Folds trained at the same time, each in a process of one thread with its share of --memory.",
            show_default="one a processor; 1 on a GPU",
        ),
    ] = None
    allow_random_weights: AllowRandomOption = False
    shard: ShardOption = None
    redo: RedoOption = False

    def changes(self) -> dict[str, Any]:
        """What is asked of the teacher beside the settings that the cohort's own was trained with."""
        return {"encoder": self.encoder, "text_encoder": self.text_encoder, "epochs": self.epochs}

    def kept(self) -> dict[str, Any]:
        """Arguments of every cross-validation."""
        return {
            "splits": self.splits,
            "keep_together": self.keep_together,
            "shard": parse_shard(self.shard),
            "redo": self.redo,
        }

    def trained(self) -> dict[str, Any]:
        """Arguments of a cross-validation that trains on slides."""
        return {
            **self.kept(),
            "student": {"epochs": self.epochs},
            "device": self.device,
            "memory_gib": self.memory,
            "workers": self.workers,
            "allow_random_weights": self.allow_random_weights,
        }
