"""The leak check: what must not be on both sides of a fold, found before any training."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.cases import read_slide, require_features
from wsisurv.bags.checks import MadeWith, require_alike
from wsisurv.cohort import Case, Cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import CohortError
from wsisurv.formats.splits import Fold
from wsisurv.formats.statements import read_statements
from wsisurv.workspace.paths import Workspace

NEAR = 0.02
"""Slides whose tiles' mean and standard deviation differ by less than this many standard deviations between slides
(root mean square over the features) are taken for the same tissue; those of two patients differ by about 1.4."""
_BLOCK = 1024
_SHOWN = 5


@dataclass(frozen=True)
class SlideDigest:
    """What the leak check and the mean-pool baseline need of a slide's features."""

    case_id: str  # the patient
    slide_id: str  # the slide
    n_tiles: int  # tiles of it
    sha256: str  # of its feature values
    mean: NDArray[np.float64]  # float64 (n_features,), over its tiles
    sd: NDArray[np.float64]  # float64 (n_features,)
    made: str  # fingerprint of its features file
    random_weights: bool  # whether the encoder was never trained


@dataclass(frozen=True)
class Link:
    """Two cases that share something, and what; they must be on one side of every fold."""

    one: str
    other: str
    what: str


def digest_slides(
    workspace: Workspace, cohort: Cohort, encoder: str, progress: Progress = no_progress
) -> tuple[SlideDigest, ...]:
    """Read each slide of the cohort once, one in memory at a time; slides without a tile are left out.

    Raises:
        MissingArtifactError, FormatError: features of a slide are missing or damaged.
        EncoderMismatchError: two slides were embedded, or tiled, in different ways.
    """
    pairs = [(str(case.case_id), str(slide_id)) for case in cohort.cases for slide_id in case.slide_ids]
    digests = []
    first: dict[str, MadeWith] = {}
    for number, (case_id, slide_id) in enumerate(pairs):
        progress(0, 1, f"leak check of {len(pairs)} slides: {number + 1}")
        slide = read_slide(require_features(workspace, encoder, slide_id))
        made_with = slide.made_with
        if made_with.n_tiles:
            first = first or {slide_id: made_with}
            require_alike({**first, slide_id: made_with}, allow_random_weights=True)
            values = slide.features.values.astype(np.float64)
            digests.append(
                SlideDigest(
                    case_id=case_id,
                    slide_id=slide_id,
                    n_tiles=len(values),
                    sha256=hashlib.sha256(np.ascontiguousarray(slide.features.values).tobytes()).hexdigest(),
                    mean=values.mean(0),
                    sd=values.std(0),
                    made=slide.header.fingerprint,
                    random_weights=made_with.random_weights,
                )
            )
    return tuple(digests)


def find_links(workspace: Workspace, cases: Sequence[Case], slides: Sequence[SlideDigest]) -> tuple[Link, ...]:
    """Cases that share a slide, a report's very text, or tissue.

    Raises:
        FormatError: statements.jsonl is damaged.
    """
    found = [*_same_slide(cases), *_same_report(workspace, cases), *_same_tissue(slides)]
    first: dict[tuple[str, str], Link] = {}
    for link in found:
        first.setdefault((link.one, link.other), link)
    return tuple(first[pair] for pair in sorted(first))


def require_no_leak(folds: Sequence[Fold], links: Sequence[Link]) -> None:
    """Stop where a case, or two cases that share something, are on both sides of a fold.

    Raises:
        CohortError: names the cases, what they share and a fold.
    """
    leaks: dict[str, str] = {}
    for fold in folds:
        train, test = set(fold.train), set(fold.test)
        for case_id in sorted(train & test):
            leaks.setdefault(f"case {case_id} itself", fold.name)
        for link in links:
            if (link.one in train and link.other in test) or (link.other in train and link.one in test):
                leaks.setdefault(f"cases {link.one} and {link.other}: {link.what}", fold.name)
    if leaks:
        listed = "; ".join(f"{what} (fold {name})" for what, name in list(leaks.items())[:_SHOWN])
        more = f"; and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
        raise CohortError(
            f"{len(leaks)} leak(s) between training and test: {listed}{more}. Are they one patient? Then mend the "
            "clinical table, or say --keep-together to have such cases on one side of every fold (with --splits: mend "
            "the splits)."
        )


def _same_slide(cases: Sequence[Case]) -> Iterator[Link]:
    owners: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        for slide_id in case.slide_ids:
            owners[str(slide_id)].append(str(case.case_id))
    for shared, ids in owners.items():
        yield from _pairs(ids, f"slide {shared} belongs to both")


def _same_report(workspace: Workspace, cases: Sequence[Case]) -> Iterator[Link]:
    """Reports of one text; only those that said something, since a blank form leaks nothing."""
    if not workspace.statements.exists():
        return
    records = read_statements(workspace.statements)
    by_text: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        record = records.get(str(case.case_id))
        if record is not None and record.statements:
            by_text[record.report_sha256].append(str(case.case_id))
    for sha256, ids in by_text.items():
        yield from _pairs(ids, f"identical report (sha256 {sha256[:12]})")


def _same_tissue(slides: Sequence[SlideDigest]) -> Iterator[Link]:
    by_values: dict[str, list[SlideDigest]] = defaultdict(list)
    for slide in slides:
        by_values[slide.sha256].append(slide)
    for same in by_values.values():
        for one, other in _couples(same):
            yield _link(one, other, f"slides {one.slide_id} and {other.slide_id} have identical features")
    if len(slides) < 3 or len({len(slide.mean) for slide in slides}) > 1:
        return
    looks = np.stack([np.concatenate([slide.mean, slide.sd]) for slide in slides])
    sd = looks.std(0)
    looks = (looks - looks.mean(0))[:, sd > 1e-9] / sd[sd > 1e-9]
    if not looks.shape[1]:
        return
    square = np.square(looks).sum(1)
    limit = NEAR**2 * looks.shape[1]
    for start in range(0, len(slides), _BLOCK):
        some = slice(start, start + _BLOCK)
        apart = square[some, None] + square - 2 * looks[some] @ looks.T
        for row, column in np.argwhere(apart < limit + 1e-6):
            one, other = slides[start + row], slides[column]
            if start + row < column and one.case_id != other.case_id and one.sha256 != other.sha256:
                yield _link(one, other, f"slides {one.slide_id} and {other.slide_id} have nearly identical features")


def _couples(slides: Sequence[SlideDigest]) -> Iterator[tuple[SlideDigest, SlideDigest]]:
    """The first of another case with each; a chain is enough to keep all together."""
    for one, other in zip(slides, slides[1:], strict=False):
        if one.case_id != other.case_id:
            yield one, other


def _pairs(ids: Iterable[str], what: str) -> Iterator[Link]:
    ordered = sorted(set(ids))
    for one, other in ((a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]):
        yield Link(one, other, what)


def _link(one: SlideDigest, other: SlideDigest, what: str) -> Link:
    first, second = sorted([one.case_id, other.case_id])
    return Link(first, second, what)


def mean_tiles(slides: Sequence[SlideDigest]) -> Mapping[str, NDArray[np.float64]]:
    """Mean tile of each case over all of its slides, float64 (n_features,)."""
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = defaultdict(int)
    for slide in slides:
        sums[slide.case_id] = sums.get(slide.case_id, np.zeros_like(slide.mean)) + slide.mean * slide.n_tiles
        counts[slide.case_id] += slide.n_tiles
    return {case_id: total / counts[case_id] for case_id, total in sums.items()}
