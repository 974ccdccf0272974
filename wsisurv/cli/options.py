"""Options that several commands share, written once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="WSISURV_WORKSPACE",
        help="Folder of all artifacts.",
        file_okay=False,
        show_default="./workspace",
    ),
]
DEFAULT_WORKSPACE = Path("workspace")

RedoOption = Annotated[
    bool, typer.Option("--redo", help="Make anew what was made with other settings or from other inputs.")
]
CohortOption = Annotated[
    str | None, typer.Option("--cohort", help="Name of the cohort; may be left out where there is only one.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps. auto takes the first accelerator.")
]
AllowRandomOption = Annotated[
    bool, typer.Option("--allow-random-weights", help="Accept features of an encoder that was never trained.")
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory",
        min=0.001,
        help="GiB for features and gradients; the result is the same. Features that don't fit are read from disk.",
        show_default="half of the machine's",
    ),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16"], typer.Option("--precision", help="Of matrix products; losses and sums stay exact.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Same seed, same device: the same result.")]
