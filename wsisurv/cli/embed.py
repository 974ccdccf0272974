"""``wsisurv embed``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, WorkspaceOption
from wsisurv.cli.plan import DryRunOption, PlanOption, show_plan
from wsisurv.workspace.paths import Workspace


def embed(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="histomics (embedded), a published model (uni, virchow2, h-optimus-0 …), or timm:NAME.",
            show_default="histomics",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights from this file (.safetensors, .bin, .pt) and not from the hub.")
    ] = None,
    encoder_spec: Annotated[
        Path | None,
        typer.Option(help="A model of your own: TOML file that says what it is. Goes with --weights.", dir_okay=False),
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Weights that were never trained: to try things out. Files are marked."),
    ] = False,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, cuda:1, mps; several with commas (cuda:0,cuda:1), a process each."),
    ] = "auto",
    batch_size: Annotated[
        str, typer.Option(help="Tiles in one forward pass; halved where the device has no room.", metavar="auto|N")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that read slides; with histomics, that compute.", show_default="what suits"),
    ] = None,
    decoder: Annotated[
        Literal["auto", "openslide", "jpeg-half"],
        typer.Option(
            help="auto: JPEG tiles decoded directly where that is proved equal to OpenSlide. jpeg-half: faster, other "
            "pixels; a setting of the features.",
        ),
    ] = "auto",
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="In which features are stored; float16 is checked.")
    ] = "float16",
    stain: Annotated[
        Literal["none", "macenko", "reinhard"],
        typer.Option(help="Bring each slide's colours to a reference first; features get a folder of their own."),
    ] = "none",
    stain_reference: Annotated[
        Path | None,
        typer.Option(help="Picture of H&E tissue (PNG, JPEG, TIFF) as reference.", show_default="one built in"),
    ] = None,
    augment_stain: Annotated[
        bool, typer.Option("--augment-stain", help="Also write how far stain shifts move the features.")
    ] = False,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: minutes, for a faster run over many slides.")
    ] = False,
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Embed tiles of another size or resolution than the encoder's.")
    ] = False,
    redo: RedoOption = False,
    dry_run: DryRunOption = False,
    plan_file: PlanOption = None,
) -> None:
    """Step 2: turn every tile into features with an encoder.

    Reads tiles/SLIDE.h5 and the slides. Writes features/ENCODER/SLIDE.h5 (a row a tile) into the workspace.

    Slides are read ahead of the encoder, a batch may hold tiles of several, and files are written behind it.
    Memory does not grow with the number of slides: about 0.4 GB with histomics on four processors; with a network
    0.8 GB, its weights, three batches, and 0.1 GB for each thread that reads.
    """
    from wsisurv.embedding.colours import find_stain_settings
    from wsisurv.embedding.encoder_spec import read_encoder_spec
    from wsisurv.embedding.step import embed as run
    from wsisurv.embedding.step import resolve_settings

    tiles_at_once = _batch_size(batch_size)
    half_scale = decoder == "jpeg-half"
    if encoder and encoder_spec:
        raise typer.BadParameter("it names the encoder itself: leave out --encoder.", param_hint="--encoder-spec")
    settings = resolve_settings(
        encoder or "histomics",
        weights,
        random_weights,
        dtype=dtype,
        half_scale=half_scale,
        own=read_encoder_spec(encoder_spec) if encoder_spec else None,
        stain=find_stain_settings(stain, stain_reference),
        augment_stain=augment_stain,
    )
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
            batch_size=tiles_at_once,
            workers=workers,
            decoder=decoder,
            compiled=compile,
            allow_mismatch=allow_mismatch,
            redo=redo,
            progress=progress,
        )
    report(summary, f"features in {workspace / 'features' / settings.folder}")
    finish(summary)


def _batch_size(words: str) -> int | None:
    if words == "auto":
        return None
    if not words.isdecimal() or not int(words):
        raise typer.BadParameter(f"{words!r} is neither auto nor a number of tiles.", param_hint="--batch-size")
    return int(words)
