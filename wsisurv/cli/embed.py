"""``wsisurv embed``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, DeviceOption, RedoOption, WorkspaceOption
from wsisurv.cli.plan import DryRunOption, PlanOption, show_plan
from wsisurv.workspace import Workspace


def embed(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    encoder: Annotated[
        str,
        typer.Option(help="histomics (embedded), a published model (uni, virchow2, h-optimus-0 …), or timm:NAME."),
    ] = "histomics",
    weights: Annotated[
        Path | None, typer.Option(help="Weights from this file (.safetensors, .bin, .pt) and not from the hub.")
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Weights that were never trained: to try things out. Files are marked."),
    ] = False,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles in one forward pass.")] = 64,
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Embed tiles of another size or resolution than the encoder's.")
    ] = False,
    redo: RedoOption = False,
    dry_run: DryRunOption = False,
    plan_file: PlanOption = None,
) -> None:
    """Step 2: turn every tile into features with an encoder.

    Reads tiles/SLIDE.h5 and the slides. Writes features/ENCODER/SLIDE.h5 (float16, a row a tile) into the workspace.
    """
    from wsisurv.embedding.step import embed as run
    from wsisurv.embedding.step import resolve_settings

    settings = resolve_settings(encoder, weights, random_weights)
    if dry_run or plan_file:
        from wsisurv.embedding.plan import plan_embed

        plan = plan_embed(Workspace(workspace), settings, allow_mismatch=allow_mismatch)
        show_plan("embed", plan, redo=redo, bound=False, jsonl=plan_file)
        return
    with progress_bar("embed") as progress:
        summary = run(
            Workspace(workspace),
            settings,
            weights_file=weights,
            device=device,
            batch_size=batch_size,
            allow_mismatch=allow_mismatch,
            redo=redo,
            progress=progress,
        )
    report(summary, f"features in {workspace / 'features' / settings.folder}")
    finish(summary)
