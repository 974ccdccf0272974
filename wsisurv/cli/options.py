"""Options that several commands share, written once."""

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="WSISURV_WORKSPACE",
        help="Folder of all files that steps write.",
        file_okay=False,
        show_default="./workspace",
    ),
]
DEFAULT_WORKSPACE = Path("workspace")

RedoOption = Annotated[
    bool, typer.Option("--redo", help="Redo what was made with other settings or from other inputs.")
]
CohortOption = Annotated[
    str | None, typer.Option("--cohort", help="Name of the cohort; may be left out where there is only one.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Device: cpu, cuda, cuda:1, mps, or auto, the first accelerator.")
]
AllowRandomOption = Annotated[
    bool,
    typer.Option(
        "--allow-random-weights", help="Random weights are accepted: features of an encoder that was never trained."
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory",
        min=0.001,
        help="Memory for features and gradients, GiB; the result is the same. Features that don't fit are read from "
        "disk.",
        show_default="half of the machine's",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of random numbers: same seed and device, same result.")]
