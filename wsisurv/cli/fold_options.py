"""Options of the commands that train in folds."""

from pathlib import Path
from typing import Annotated

import typer

FoldsOption = Annotated[int, typer.Option("--folds", min=2, help="Folds of the cohort; sites are kept whole.")]


RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="How often the cohort is divided anew.")]


SplitsOption = Annotated[
    Path | None,
    typer.Option("--splits", help="Your own folds: a splits.jsonl, or a folder in the style of SurvPath or PANTHER."),
]


CovariatesOption = Annotated[
    str | None,
    typer.Option("--covariates", help="What to compare with, e.g. age,stage.", show_default="all of the cohort's"),
]


EncoderOption = Annotated[
    str | None, typer.Option("--encoder", help="Folder of the features.", show_default="the cohort's teacher's")
]


TextEncoderOption = Annotated[
    str | None,
    typer.Option("--text-encoder", help="Vectors of the statements, or tfidf.", show_default="the cohort's teacher's"),
]


EpochsOption = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Passes of teacher and student.", show_default="as the cohort's were trained"),
]


TogetherOption = Annotated[
    bool, typer.Option("--keep-together", help="Put cases that share a slide, a report or tissue on one side.")
]


def listed(text: str | None) -> tuple[str, ...] | None:
    """Words separated by commas; None where the option was not given."""
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())
