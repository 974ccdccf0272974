"""``wsisurv embed``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.engine_options import EngineOptions, StageOption
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, ShardOption, WorkspaceOption
from wsisurv.cli.plan import DryRunOption, PlanOption, show_plan
from wsisurv.engine.shards import parse_shard
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class EncodingOptions:
    """What makes the features, beside what is in their settings: weights, decoder and stain."""

    weights: Annotated[
        Path | None, typer.Option(help="File of the encoder's weights (.safetensors, .bin, .pt), instead of the hub's.")
    ] = None
    encoder_spec: Annotated[
        Path | None,
        typer.Option(help="TOML file that describes an encoder of your own; needs --weights.", dir_okay=False),
    ] = None
    revision: Annotated[
        str | None,
        typer.Option(
            help="Commit of the weights at the hub, 40 hex digits.", show_default="the one in the cache, or the newest"
        ),
    ] = None
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Use random weights, to try things out; the files are marked.")
    ] = False
    decoder: Annotated[
        Literal["auto", "openslide", "jpeg-half"],
        typer.Option(
            help="Decoder of the slides' pixels: JPEG decoded directly where that is proved equal, else OpenSlide "
            "(auto); OpenSlide alone (openslide); or decoding at half scale, which is faster and gives slightly other "
            "features (jpeg-half).",
            show_choices=False,
        ),
    ] = "auto"
    stain: Annotated[
        Literal["none", "macenko", "reinhard"],
        typer.Option(help="Stain normalisation of each slide to a reference; features get a folder of their own."),
    ] = "none"
    stain_reference: Annotated[
        Path | None,
        typer.Option(
            help="Picture of H&E tissue (PNG, JPEG, TIFF) to use as the reference of --stain.",
            show_default="one built in",
        ),
    ] = None

    def settings(self, asked: EmbedSettings) -> EmbedSettings:
        """Settings of the features.

        Raises:
            WsisurvError: as ``resolve_settings``, ``read_encoder_spec`` and ``find_stain_settings``.
        """
        from wsisurv.embedding.colours import find_stain_settings
        from wsisurv.embedding.encoder_spec import read_encoder_spec
        from wsisurv.embedding.step import resolve_settings

        if self.encoder_spec and "encoder" in asked.model_fields_set:
            raise typer.BadParameter("it names the encoder itself: leave out --encoder.", param_hint="--encoder-spec")
        return resolve_settings(
            asked.encoder,
            self.weights,
            self.random_weights,
            dtype=asked.dtype,
            half_scale=self.decoder == "jpeg-half",
            own=read_encoder_spec(self.encoder_spec) if self.encoder_spec else None,
            stain=find_stain_settings(self.stain, self.stain_reference),
            augment_stain=asked.augment_stain,
            revision=self.revision,
        )


@settings_as_options(
    first=(
        "workspace",
        "encoder",
        "weights",
        "encoder_spec",
        "random_weights",
        "stain",
        "device",
        "batch_size",
        "workers",
        "redo",
    )
)
def embed(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    asked: EmbedSettings,
    encoding: EncodingOptions,
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, mps; or several (cuda:0,cuda:1), with a process each.")
    ] = "auto",
    batch_size: Annotated[
        str,
        typer.Option(
            help="Tiles in one forward pass; halved where the device's memory is too small.", metavar="auto|N"
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads that read slides; with histomics, threads that compute.", show_default="by the machine"
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "auto"],
        typer.Option(
            help="Precision on a processor: fp32; or bf16 where a trial of eight tiles is faster in it (AMX) and its "
            "features have a cosine of .9999 or more with those of fp32 (auto). An accelerator has the encoder's own."
        ),
    ] = "fp32",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: takes minutes, pays for many slides.")
    ] = False,
    allow_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-mismatch", help="Accept tiles of another size or resolution than the encoder was trained on."
        ),
    ] = False,
    shard: ShardOption = None,
    stage: StageOption = None,
    where: EngineOptions,
    redo: RedoOption = False,
    dry_run: DryRunOption = False,
    plan_file: PlanOption = None,
) -> None:
    """Step 2: turn every tile into features with an encoder.

    Reads tiles/SLIDE.h5 and the slides. Writes features/ENCODER/SLIDE.h5 (one row a tile) into the workspace.

    Memory does not grow with the number of slides: about 0.4 GB with histomics on four processors; with a network
    0.8 GB, its weights, three batches, and 0.1 GB for each thread that reads.
    """
    from wsisurv.embedding.step import embed as run

    tiles_at_once = _batch_size(batch_size)
    share = parse_shard(shard)
    settings = encoding.settings(asked)
    if dry_run or plan_file:
        from wsisurv.embedding.plan import plan_embed

        plan = plan_embed(Workspace(workspace), settings, allow_mismatch=allow_mismatch, shard=share)
        show_plan("embed", plan, redo=redo, bound=False, jsonl=plan_file)
        return
    with where.pool(workspace) as pool, progress_bar("embed") as progress:
        summary = run(
            Workspace(workspace),
            settings,
            weights_file=encoding.weights,
            device=device,
            batch_size=tiles_at_once,
            workers=workers,
            pool=pool,
            stage=stage,
            decoder=encoding.decoder,
            cpu_bf16=precision == "auto",
            compiled=compile,
            allow_mismatch=allow_mismatch,
            shard=share,
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
