"""The one way from a case to its tiles: features of its slides, whole and read ahead, or as bags that may stay on disk.

Training asks for ``training_bags``, which hold no more than memory allows; prediction, scoring, the leak check and
heatmaps ask for ``read_slide`` and ``read_cases``. What may not be read together is refused in ``bags.checks``.
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.bags.checks import Expected, MadeWith, find_oddities, require_own_tiles
from wsisurv.bags.feature_rows import FeatureFile, describe_features
from wsisurv.bags.memory import memory_of, rows_of
from wsisurv.bags.packed import Bags, offsets_of
from wsisurv.errors import EncoderMismatchError, FormatError, MissingArtifactError, StaleError, did_you_mean
from wsisurv.formats.features import Features, read_features
from wsisurv.formats.header import Header
from wsisurv.workspace.paths import Workspace

_AHEAD = 2
"""Cases that are read while one is computed."""


@dataclass(frozen=True)
class SlideRead:
    """Features of a slide, what made them, and what is odd about that."""

    features: Features
    header: Header
    warnings: tuple[str, ...] = ()

    @property
    def made_with(self) -> MadeWith:
        """How the features were made."""
        features = self.features
        n_tiles, n_features = features.values.shape
        return MadeWith(
            features.encoder, n_tiles, n_features, self.header.settings, features.tile_settings, features.mpp
        )


@dataclass(frozen=True)
class CaseRead:
    """A case, and its slides as they were read."""

    case_id: str
    slides: tuple[SlideRead, ...]

    @property
    def slide_ids(self) -> tuple[str, ...]:
        """Names of the slides."""
        return tuple(str(slide.features.slide_id) for slide in self.slides)

    @property
    def n_tiles(self) -> int:
        """Tiles of all slides."""
        return sum(len(slide.features.values) for slide in self.slides)

    @property
    def tiles(self) -> NDArray[np.floating[Any]]:
        """Features of all tiles, one slide after the other: (n_tiles, n_features)."""
        filled = [slide.features.values for slide in self.slides if len(slide.features.values)]
        if not filled:
            return np.zeros((0, 0), np.float16)
        return filled[0] if len(filled) == 1 else np.concatenate(filled)


@dataclass(frozen=True)
class CaseUnread:
    """A case that can't be read, the file that is to blame, and why."""

    case_id: str
    path: Path
    error: MissingArtifactError | FormatError | StaleError | EncoderMismatchError | OSError


def find_bags(
    workspace: Workspace, encoder: str, slides_of: Mapping[str, Sequence[str]]
) -> dict[str, tuple[Path, ...]]:
    """Features files of each case, by its slides: case_id → paths."""
    return {
        case_id: tuple(workspace.features(encoder, slide_id) for slide_id in slides)
        for case_id, slides in slides_of.items()
    }


def read_slide(path: Path, expected: Expected | None = None) -> SlideRead:
    """Read the features of one slide.

    Args:
        path: the features file.
        expected: what a student can read; None where none is asked.

    Raises:
        MissingArtifactError, FormatError: the file is missing or damaged.
        StaleError: made of other tiles than the slide's.
        EncoderMismatchError: not what the student was trained on.
    """
    features, header = read_features(path)
    require_own_tiles(path, header)
    slide = SlideRead(features, header)
    return slide if expected is None else SlideRead(features, header, find_oddities(path, slide.made_with, expected))


def _read_case(case_id: str, paths: Sequence[Path], expected: Expected | None) -> CaseRead | CaseUnread:
    """Read all slides of a case, or say which can't be; no case is read from half of its slides."""
    slides: list[SlideRead] = []
    for path in paths:
        try:
            slides.append(read_slide(path, expected))
        except (MissingArtifactError, FormatError, StaleError, EncoderMismatchError, OSError) as error:
            return CaseUnread(case_id, path, error)
    return CaseRead(case_id, tuple(slides))


def read_cases(
    bags: Mapping[str, Sequence[Path]], expected: Expected | None = None
) -> Generator[CaseRead | CaseUnread, None, None]:
    """Cases in their order; while one is used, a thread reads those that follow.

    Args:
        bags: ``find_bags``.
        expected: as ``read_slide``.
    """
    coming: deque[Future[CaseRead | CaseUnread]] = deque()
    with ThreadPoolExecutor(1, "read") as reader:
        try:
            for case_id, paths in bags.items():
                coming.append(reader.submit(_read_case, case_id, paths, expected))
                _fetch(paths)
                if len(coming) > _AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            reader.shutdown(cancel_futures=True)


def whole(cases: Generator[CaseRead | CaseUnread, None, None]) -> Iterator[CaseRead]:
    """The same cases where each must be there.

    Raises:
        MissingArtifactError, FormatError, StaleError, EncoderMismatchError, OSError: of the first that can't be read.
    """
    with closing(cases):  # the thread that reads ahead ends here, and not when memory is tidied
        for case in cases:
            if isinstance(case, CaseUnread):
                raise case.error
            yield case


def _fetch(paths: Sequence[Path]) -> None:
    """Ask the system to have files in memory soon, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue  # it is said when the case's turn comes
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def describe_slide(workspace: Workspace, encoder: str, slide_id: str) -> FeatureFile:
    """Describe the features of a slide that a cohort has, without reading them.

    Raises:
        MissingArtifactError: not there; names the encoders that have features.
        FormatError: damaged.
        StaleError: made of other tiles than the slide's.
    """
    file = describe_features(require_features(workspace, encoder, slide_id))
    require_own_tiles(file.path, file.header)
    return file


def require_features(workspace: Workspace, encoder: str, slide_id: str) -> Path:
    """Where the features of a slide lie that a cohort has.

    Raises:
        MissingArtifactError: not there; names the encoders that have features.
    """
    path = workspace.features(encoder, slide_id)
    if not path.exists():
        there = workspace.encoders()
        known = (", ".join(there) or "none yet") + did_you_mean(encoder, there)
        raise MissingArtifactError(
            f"{path}: not there, but slide {slide_id} is in the cohort. Run `wsisurv embed` "
            f"(encoders with features here: {known}), or make the cohort anew without the slide."
        )
    return path


def made_with(file: FeatureFile) -> MadeWith:
    """How the features of a described file were made."""
    return MadeWith(file.encoder, file.n_tiles, file.n_features, file.header.settings, file.tile_settings)


def training_bags(cases: Sequence[Sequence[FeatureFile]], memory_gib: float | None) -> Bags:
    """All tiles of each case, one case after the other: held in memory once, or left on disk where they don't fit.

    Args:
        cases: files of each case's slides, one tile at least a case; files without tiles are left out.
        memory_gib: what features and gradients may take in memory; None for half of the machine's.
    """
    memory = memory_of(memory_gib)
    filled = [[file for file in files if file.n_tiles] for files in cases]
    source = rows_of([file for files in filled for file in files], memory)
    lengths = torch.tensor([sum(file.n_tiles for file in files) for files in filled])
    return Bags(source, torch.arange(source.shape[0]), offsets_of(lengths), keep_bytes=memory.keep_bytes)
