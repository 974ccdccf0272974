"""``wsisurv pool``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.workspace.paths import Workspace


def pool(
    encoder: Annotated[
        str, typer.Option(help="Encoder of whole slides: feather, or mean, which needs no weights.", metavar="NAME")
    ],
    tiles: Annotated[str, typer.Option(help="Encoder of the tiles, as `wsisurv embed` or `import` named its folder.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    weights: Annotated[
        Path | None, typer.Option(help="File of the slide encoder's weights (.safetensors, .bin, .pt, .pth).")
    ] = None,
    redo: RedoOption = False,
) -> None:
    """Make one row of each slide's tiles by an encoder of whole slides.

    Reads features/TILES/SLIDE.h5 and writes features/ENCODER-TILES/SLIDE.h5, which crossval, distill and predict of a
    cohort take like any features: `--encoder feather-uni2-h`. feather takes tiles of conch-v1.5, uni2-h or uni.
    TITAN, PRISM, GigaPath, MOOZY, CARE, Madeleine and CHIEF are run by their own packages; what these made comes in
    by `wsisurv import`.
    """
    from wsisurv.embedding.pooling import pool as run

    with progress_bar("pool") as progress:
        summary = run(Workspace(workspace), encoder, tiles, weights_file=weights, redo=redo, progress=progress)
    report(summary, f"features in {workspace / 'features' / f'{encoder}-{tiles}'}")
    finish(summary)
