"""``import``: tiles or features that another tool made, whichever a folder holds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from wsisurv.embedding.foreign import Scale, import_features
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import InputError, SlideError
from wsisurv.formats.foreign import holds_features
from wsisurv.formats.foreign_folders import find_files
from wsisurv.formats.foreign_stores import is_store, slide_hash
from wsisurv.slides.facts import read_facts
from wsisurv.slides.find import find_slides
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.check import resolve_mpps
from wsisurv.tiling.foreign import import_tiles
from wsisurv.units import SlideId
from wsisurv.workspace.ledger import Summary
from wsisurv.workspace.paths import Workspace


def import_folder(
    workspace: Workspace,
    folder: Path,
    encoder: str | None = None,
    *,
    slides: Sequence[Path] = (),
    tile_px: int | None = None,
    tile_mpp: float | None = None,
    overlap_px: int | None = None,
    given: GivenMpp | None = None,
    dataset: str | None = None,
    unknown_resolution: bool = False,
    dtype: Literal["float16", "float32"] | None = None,
    redo: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Take every file of a folder that another tool made into features/ENCODER/, or into tiles/ without encoder.

    Args:
        workspace: where to.
        folder: files of STAMP, TRIDENT, CLAM, Mussel, AtlasPatch, hs2p, slide2vec, LazySlide or QuPath, or tensors of
            torch.save, one a slide or patient; or one file, or the root of a job.
        encoder: that made the features, of tiles or of whole slides; None for tiles.
        slides: from which the resolution is read; needed for tiles.
        tile_px: side of a tile, where the files don't say.
        tile_mpp: resolution that a tile is meant to have, µm per pixel; needed for tiles, but those of Mussel,
            hs2p and LazySlide.
        overlap_px: pixels that neighbours share, where the files don't say.
        given: resolutions that slides don't state.
        dataset: which features of an AtlasPatch file, or which table or tiles of a store, where it holds several.
        unknown_resolution: store features whose resolution nobody knows.
        dtype: in which features are stored; None for float32, or float16 where all files have that.
        redo: replace what was made otherwise.
        progress: called after each file.

    Raises:
        NoSlidesError: no file there.
        InputError: features without an encoder's name, or tiles without a resolution.
        WsisurvError: as ``import_features`` and ``import_tiles``.
    """
    files = find_files(folder, features=encoder is not None)
    found, given = find_slides(slides) if slides else {}, given or GivenMpp()
    names = _by_hash(files, found)
    given, notes = given.of_slides({*found, *(file.stem for file in files)})
    if encoder is not None:
        by_slide = {**given.by_slide, **resolve_mpps(found, given)}
        scale = Scale(tile_px, tile_mpp, given.every, unknown_resolution, by_slide)
        summary = import_features(
            workspace,
            folder,
            encoder,
            scale,
            dataset=dataset,
            dtype=dtype,
            slides=found,
            names=names,
            redo=redo,
            progress=progress,
        )
        summary.notes.extend(notes)
        return summary
    if files[0].suffix in {".h5", ".pt"} and holds_features(files[0]):
        raise InputError(f"{files[0]}: these are features. Name the encoder that made them with --encoder.")
    summary = import_tiles(
        workspace,
        folder,
        found,
        tile_px=tile_px,
        tile_mpp=tile_mpp,
        overlap_px=overlap_px,
        given=given,
        dataset=dataset,
        names=names,
        redo=redo,
        progress=progress,
    )
    summary.notes.extend(notes)
    return summary


def _by_hash(files: Sequence[Path], slides: Mapping[SlideId, Path]) -> dict[Path, SlideId]:
    """Slides of stores that are named otherwise, told by OpenSlide's hash of the slide, which LazySlide keeps."""
    strangers = {file: slide_hash(file) for file in files if is_store(file) and file.stem not in slides}
    if not any(strangers.values()):
        return {}
    known: dict[str, list[SlideId]] = defaultdict(list)
    for slide_id, path in slides.items():
        with suppress(SlideError):  # which is told where it is needed
            known[read_facts(path).properties.get("openslide.quickhash-1", "")].append(slide_id)
    return {file: known[said][0] for file, said in strangers.items() if said and len(known[said]) == 1}
