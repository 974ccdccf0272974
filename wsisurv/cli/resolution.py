"""Options by which a user gives what slides don't say of their resolution, written once."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.from_settings import option
from wsisurv.cohort import read_table
from wsisurv.errors import InputError
from wsisurv.settings.tiles import TileSettings

SlideMppOption = Annotated[float | None, option(TileSettings, "slide_mpp")]
MppTableOption = Annotated[
    Path | None,
    typer.Option("--mpp-table", help="Table slide_id,mpp: resolution at level 0 slide by slide.", dir_okay=False),
]
MppFromObjectiveOption = Annotated[
    bool,
    typer.Option(
        "--mpp-from-objective",
        help="Resolution from the objective, 10 / its power, where a file states none: right to about 10 %.",
    ),
]


def read_mpp_table(path: Path | None) -> dict[str, float]:
    """Resolution by slide_id from a table ``slide_id,mpp``; nothing for None.

    Raises:
        CohortError: the table can't be read.
        InputError: a column is missing, a slide comes twice, or an mpp is no positive number; rows are named.
    """
    mpps: dict[str, float] = {}
    for number, row in enumerate(read_table(path) if path else [], start=2):
        if not {"slide_id", "mpp"} <= row.keys():
            raise InputError(f"{path}: columns slide_id and mpp are needed; it has {', '.join(row)}")
        slide_id = row["slide_id"]
        if slide_id in mpps:
            raise InputError(f"{path}, row {number}: slide {slide_id!r} comes twice")
        try:
            mpps[slide_id] = float(row["mpp"])
        except ValueError as error:
            raise InputError(f"{path}, row {number}: mpp is {row['mpp']!r}, not a number") from error
        if not 0 < mpps[slide_id] < float("inf"):
            raise InputError(f"{path}, row {number}: mpp {row['mpp']} is not a positive number")
    return mpps
