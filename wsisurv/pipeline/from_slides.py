"""Slides straight from the scanner: tiled and embedded as a student's training slides were, before it predicts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsisurv.embedding.step import embed
from wsisurv.engine.progress import Progress, no_progress, stage
from wsisurv.errors import EncoderMismatchError
from wsisurv.pipeline.tile import tile
from wsisurv.prediction.card import read_scale
from wsisurv.prediction.step import look_at_slides
from wsisurv.settings.base import fingerprint, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.resolution import GivenMpp
from wsisurv.workspace.ledger import Summary, exclusive
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class FromSlides:
    """Slides made ready for a student."""

    workspace: Workspace  # where their tiles and features are, and are kept: ``predict/`` of the workspace, by settings
    slide_ids: tuple[str, ...]  # of all slides, those too that failed
    looks: Mapping[str, tuple[str, ...]]  # slide_id → what the colours of a slide say against H&E
    summaries: tuple[Summary, ...]  # of tiling and of embedding


def prepare_slides(
    workspace: Workspace,
    slides: Sequence[Path],
    student: Path,
    *,
    given: GivenMpp | None = None,
    allow_upsampling: bool = False,
    weights_file: Path | None = None,
    device: str = "auto",
    slide_ids: Collection[str] | None = None,
    share: str = "",
    redo: bool = False,
    progress: Progress = no_progress,
) -> FromSlides:
    """Tile and embed slides with the settings that a student was trained on; what is there already is kept.

    Args:
        workspace: where ``predict/`` is made.
        slides: files, or folders that are searched.
        student: the student's file.
        given: resolutions that slides don't state.
        allow_upsampling: enlarge slides scanned coarser than the student's tiles.
        weights_file: the encoder's weights, where the student was trained on features of a file.
        device: where the encoder computes.
        slide_ids: which of the slides; None for all that are found.
        share: name of this share of them, where several processes have one each.
        redo: make anew what was made otherwise.
        progress: called in each step.

    Raises:
        EncoderMismatchError: the student was trained on features that another tool made.
        NoSlidesError, SettingsError, StaleError, WeightsError: as ``tile`` and ``embed``.
    """
    card = read_scale(student).card
    if card.embed_settings.get("weights") == "imported":
        raise EncoderMismatchError(
            "the student was trained on features that another tool made, so wsisurv can't make them from slides. Make "
            "them with that tool, take them in with `wsisurv import`, and predict with --student and without slides."
        )
    if tool := card.tile_settings.get("tool"):
        raise EncoderMismatchError(
            f"the student was trained on tiles that {tool} cut, and wsisurv would cut others. Cut the new slides with "
            "that tool, take the tiles in with `wsisurv import`, embed them, and predict with --student and without "
            "slides."
        )
    if row := card.tile_settings.get("row"):
        raise EncoderMismatchError(
            f"the student was trained on one row a {row}, which `wsisurv pool` or another tool made. Make such rows of "
            "the new slides in a workspace of their own (`wsisurv tile`, `embed` and `pool`, or `import`), and predict "
            "there with --student and without slides."
        )
    tiling = parse_settings(TileSettings, dict(card.tile_settings))
    embedding = parse_settings(EmbedSettings, dict(card.embed_settings))
    name = fingerprint(embedding, {"tiles": fingerprint(tiling, {})})[:12]
    home = Workspace(workspace.root / "predict" / name)
    with exclusive(home, f"predict{share}"):  # of two at once the second waits, and finds it done
        tiled = tile(
            home,
            slides,
            tiling,
            given=given,
            allow_upsampling=allow_upsampling,
            slide_ids=slide_ids,
            redo=redo,
            progress=stage(progress, "tile"),
        )
        there, summaries = [*tiled.done, *tiled.kept], [tiled]
        if there:
            embedded = embed(
                home,
                embedding,
                weights_file=weights_file,
                slide_ids=there,
                device=device,
                offline=True,  # a student is anybody's file: what it names is not fetched
                redo=redo,
                progress=stage(progress, "embed"),
            )
            summaries.append(embedded)
    slide_ids = (*there, *(failure.id for failure in tiled.failed), *tiled.elsewhere)
    looks = look_at_slides(home, slide_ids, progress=stage(progress, "look at the stain of"))
    return FromSlides(home, slide_ids, looks, tuple(summaries))
