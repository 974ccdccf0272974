"""Slides straight from the scanner: tiled, embedded and pooled as a student's training slides were."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsisurv.embedding.pooling import pool as pool_slides
from wsisurv.embedding.step import embed
from wsisurv.engine.progress import Progress, no_progress, of_step
from wsisurv.engine.workers import Pool
from wsisurv.errors import EncoderMismatchError, SettingsError, WeightsError
from wsisurv.formats.cards import StudentCard
from wsisurv.pipeline.tile import tile
from wsisurv.prediction.card import read_scale
from wsisurv.prediction.step import look_at_slides
from wsisurv.settings.base import file_sha256, fingerprint, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.tissue_model import tissue_model_inputs
from wsisurv.workspace.ledger import Summary, exclusive
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class FromSlides:
    """Slides made ready for a student."""

    workspace: Workspace  # where their tiles and features are, and are kept: ``predict/`` of the workspace, by settings
    slide_ids: tuple[str, ...]  # of all slides, those too that failed
    looks: Mapping[str, tuple[str, ...]]  # slide_id → what the colours of a slide say against H&E
    summaries: tuple[Summary, ...]  # of tiling, of embedding, and of pooling where the student wants it


@dataclass(frozen=True)
class _Making:
    """How a student's training slides were made."""

    tiles: TileSettings
    embedding: EmbedSettings  # of the tiles
    pooled: EmbedSettings | None = None  # of one row a slide, where the student takes such rows
    tissue_model: str = ""  # fingerprints of the network that found the tissue, where one did

    @property
    def slide_encoder(self) -> str:
        """Name of what pooled the tiles; empty where nothing did."""
        return self.pooled.encoder.removesuffix(f"-{self.embedding.folder}") if self.pooled else ""

    @property
    def name(self) -> str:
        """Name of the workspace in ``predict/``."""
        inputs = {"tiles": fingerprint(self.tiles, {})} | ({"tissue": self.tissue_model} if self.tissue_model else {})
        return fingerprint(self.pooled or self.embedding, inputs)[:12]


def prepare_slides(
    workspace: Workspace,
    slides: Sequence[Path],
    student: Path,
    *,
    given: GivenMpp | None = None,
    allow_upsampling: bool = False,
    weights_file: Path | None = None,
    pool_weights: Path | None = None,
    tissue_model: Path | None = None,
    device: str = "auto",
    pool: Pool | None = None,
    stage: Path | None = None,
    slide_ids: Collection[str] | None = None,
    share: str = "",
    redo: bool = False,
    progress: Progress = no_progress,
) -> FromSlides:
    """Tile, embed and pool slides with the settings that a student was trained on; what is there already is kept.

    Args:
        workspace: where ``predict/`` is made.
        slides: files, or folders that are searched.
        student: the student's file.
        given: resolutions that slides don't state.
        allow_upsampling: enlarge slides scanned coarser than the student's tiles.
        weights_file: the encoder's weights, where the student was trained on features of a file.
        pool_weights: the slide encoder's weights, where the student was trained on rows that ``pool`` made with some.
        tissue_model: the network that finds tissue, where one found that of the training slides.
        device: where the encoder computes.
        pool: machines to tile and embed on, instead of this one; what the student wants pooled is pooled here.
        stage: folder on a disk of the machine, to which each slide is copied before it is read.
        slide_ids: which of the slides; None for all that are found.
        share: name of this share of them, where several processes have one each.
        redo: make anew what was made otherwise.
        progress: called in each step.

    Raises:
        EncoderMismatchError: the student was trained on features that another tool made.
        SettingsError: also, the network that finds tissue is wanted, or is another.
        WeightsError: also, weights of the slide encoder are wanted, or are others.
        NoSlidesError, SettingsError, StaleError, WeightsError: as ``tile``, ``embed`` and ``pool``.
    """
    making = _require_ours(read_scale(student).card)
    _check_pool_weights(making, pool_weights)
    _check_tissue_model(making, tissue_model)
    home = Workspace(workspace.root / "predict" / making.name)
    with exclusive(home, f"predict{share}"):  # of two at once the second waits, and finds it done
        tiled = tile(
            home,
            slides,
            making.tiles,
            given=given,
            tissue_model=tissue_model,
            allow_upsampling=allow_upsampling,
            slide_ids=slide_ids,
            pool=pool,
            stage=stage,
            redo=redo,
            progress=of_step(progress, "tile"),
        )
        there, summaries = [*tiled.done, *tiled.kept], [tiled]
        if there:
            embedded = embed(
                home,
                making.embedding,
                weights_file=weights_file,
                slide_ids=there,
                device=device,
                offline=True,  # a student is anybody's file: what it names is not fetched
                pool=pool,
                stage=stage,
                redo=redo,
                progress=of_step(progress, "embed"),
            )
            summaries.append(embedded)
            if making.pooled is not None and (whole := [*embedded.done, *embedded.kept]):
                summaries.append(
                    pool_slides(
                        home,
                        making.slide_encoder,
                        making.embedding.folder,
                        weights_file=pool_weights,
                        slide_ids=whole,
                        redo=redo,
                        progress=of_step(progress, "pool"),
                    )
                )
    slide_ids = (*there, *(failure.id for failure in tiled.failed), *tiled.elsewhere)
    stain = of_step(progress, "look at the stain of")
    looks = look_at_slides(home, slide_ids, pool=pool, stage=stage, progress=stain)
    return FromSlides(home, slide_ids, looks, tuple(summaries))


def _require_ours(card: StudentCard) -> _Making:
    """How a student's training slides were made, where wsisurv can make others so.

    Raises:
        EncoderMismatchError: another tool had a part in it.
    """
    settings, sizes = dict(card.embed_settings), dict(card.tile_settings)
    if "imported" in (settings.get("weights"), (settings.get("of_tiles") or {}).get("weights")):
        raise EncoderMismatchError(
            "the student was trained on features that another tool made, so wsisurv can't make them from slides. Make "
            "them with that tool, take them in with `wsisurv import`, and predict with --student and without slides."
        )
    if tool := sizes.get("tool"):
        raise EncoderMismatchError(
            f"the student was trained on tiles that {tool} cut, and wsisurv would cut others. Cut the new slides with "
            "that tool, take the tiles in with `wsisurv import`, embed them, and predict with --student and without "
            "slides."
        )
    row, tissue_model = sizes.pop("row", None), str(sizes.pop("tissue_model", ""))
    pooled = parse_settings(EmbedSettings, settings)
    tiles = parse_settings(TileSettings, sizes)
    if row is None:
        return _Making(tiles, pooled, tissue_model=tissue_model)
    if pooled.of_tiles is None:
        raise EncoderMismatchError(
            f"the student was trained on one row a {row}, and its file doesn't say of which tiles' features: they were "
            "pooled by wsisurv 0.2 or before, or elsewhere. Run `wsisurv pool --redo` and train anew; or tile, embed "
            "and pool the new slides in a workspace of their own, and predict there with --student and without slides."
        )
    return _Making(tiles, pooled.of_tiles, pooled, tissue_model)


def _check_pool_weights(making: _Making, given: Path | None) -> None:
    """Hold the slide encoder's file of weights against the one of the training, before any slide is read.

    Raises:
        SettingsError: one is given where none is needed.
        WeightsError: it is missing, or another one.
    """
    wanted = making.pooled.weights if making.pooled is not None else None
    if wanted is None:
        if given is not None:
            raise SettingsError("--pool-weights: this student needs none. Leave it out.")
        return
    if given is None or not given.is_file():
        raise WeightsError(
            f"{given or making.slide_encoder}: the student was trained on rows that {making.slide_encoder} made with a "
            f"file of weights ({wanted}). Give it with --pool-weights FILE."
        )
    if (seen := f"sha256:{file_sha256(given)}") != wanted:
        raise WeightsError(f"{given}: is {seen}, and {wanted} is wanted. Give the same file as in training.")


def _check_tissue_model(making: _Making, given: Path | None) -> None:
    """Hold the network that finds tissue against the one of the training, before any slide is read.

    Raises:
        SettingsError: it is missing, another one, or given where none is needed.
    """
    if not making.tissue_model and given is not None:
        raise SettingsError("--tissue-model: the student's training slides were tiled without. Leave it out.")
    if making.tissue_model and given is None:
        raise SettingsError(
            f"the tissue of the student's training slides was found by a network (fingerprints of its two files: "
            f"{making.tissue_model}). Give it with --tissue-model FILE."
        )
    if given is not None and (seen := " ".join(tissue_model_inputs(given).values())) != making.tissue_model:
        raise SettingsError(
            f"{given}: it and its TOML file are {seen}, and {making.tissue_model} are wanted. Give the files of the "
            "training."
        )
