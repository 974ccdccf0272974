"""Options of the commands that train in folds."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.from_settings import option
from wsisurv.settings.training import TeacherSettings

SplitsOption = Annotated[
    Path | None,
    typer.Option("--splits", help="Splits of your own: splits.jsonl, or a folder in the style of SurvPath or PANTHER."),
]


_UNSET = "the cohort's teacher's"
EncoderOption = Annotated[str | None, option(TeacherSettings, "encoder", unset=_UNSET)]
TextEncoderOption = Annotated[str | None, option(TeacherSettings, "text_encoder", unset=_UNSET)]
EpochsOption = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Epochs of teacher and student.", show_default="as the cohort's were trained"),
]
TogetherOption = Annotated[
    bool,
    typer.Option("--keep-together", help="Groups that share a slide, a report or tissue stay on one side."),
]
