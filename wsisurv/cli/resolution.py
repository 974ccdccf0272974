"""Options by which a user gives what slides don't say of their resolution, written once."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsisurv.cli.from_settings import option
from wsisurv.settings.tiles import TileSettings

if TYPE_CHECKING:
    from wsisurv.slides.resolution import GivenMpp


@dataclass(frozen=True)
class ResolutionOptions:
    """What the user says of the resolution of slides."""

    slide_mpp: Annotated[float | None, option(TileSettings, "slide_mpp")] = None
    mpp_table: Annotated[
        Path | None,
        typer.Option(
            help="CSV with columns slide_id,mpp: resolution of each slide at level 0, µm per pixel.", dir_okay=False
        ),
    ] = None
    mpp_from_objective: Annotated[
        bool,
        typer.Option(
            "--mpp-from-objective",
            help="Take the resolution from the objective (10 µm per pixel / its power) where a file states none; right "
            "to about 10 %.",
        ),
    ] = False

    def given(self) -> "GivenMpp":
        """The same as the steps take it.

        Raises:
            CohortError: as ``read_mpp_table``.
        """
        from wsisurv.slides.resolution import GivenMpp

        return GivenMpp(self.slide_mpp, read_mpp_table(self.mpp_table), self.mpp_from_objective)


def read_mpp_table(path: Path | None) -> dict[str, float]:
    """Resolution by slide, as the table ``slide_id,mpp`` names it; nothing for None.

    Raises:
        CohortError: the table can't be read, a column is missing, a slide comes twice, or an mpp is no positive number;
            all of it in one list, rows are named.
    """
    mpps: dict[str, float] = {}
    if path is None:
        return mpps
    from wsisurv.cohort.values import read_number
    from wsisurv.formats.tables import read_table, refuse
    from wsisurv.slides.resolution import PLAUSIBLE_MPP

    problems = []
    for row in read_table(path, "slide_id", "mpp"):
        slide_id, text = row["slide_id"], row["mpp"]
        mpp = read_number(text, "," if "," in text else ".")  # none has thousands
        if not slide_id:
            problems.append(f"row {row.number}: slide_id is empty")
        elif slide_id in mpps:
            problems.append(f"row {row.number}: slide {slide_id!r} comes twice")
        elif mpp is None and text.lower() != "nan":
            problems.append(f"row {row.number}: mpp is {text!r}, not a number")
        elif mpp is None or not 0 < mpp < float("inf"):
            problems.append(f"row {row.number}: mpp {text} is not a positive number")
        elif not PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
            problems.append(f"row {row.number}: mpp {text} can't be; µm per pixel are asked for, such as 0.25")
        else:
            mpps[slide_id] = mpp
    refuse(path, problems or ([] if mpps else ["no row"]))
    return mpps
