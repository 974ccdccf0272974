"""What is like the case or tile that is looked at, by one pass over the cohort's features in the background."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.cases import CaseRead, find_bags, read_cases
from wsisurv.bags.checks import Expected
from wsisurv.errors import FormatError, WsisurvError
from wsisurv.models.familiarity import Familiarity
from wsisurv.prediction.card import unseen_members
from wsisurv.prediction.slide_views import tile_side
from wsisurv.viewer.study import Study

_TILE_BYTES = 128 << 20
"""Features of tiles that are held for comparison, of all cases together."""
_TILES_A_CASE = 64
_BLOCK = 4096


@dataclass(frozen=True)
class KnownTile:
    """A tile that others are compared with."""

    case_id: str
    slide_id: str
    x: int  # left, level-0 pixels
    y: int  # top, level-0 pixels
    side: float  # level-0 pixels


@dataclass
class _Index:
    """What is known of the cases that were read so far."""

    case_ids: list[str] = field(default_factory=list)
    pooled: list[NDArray[np.float32]] = field(default_factory=list)  # (n_members, hidden) each
    tiles: list[KnownTile] = field(default_factory=list)
    values: list[NDArray[np.float16]] = field(default_factory=list)  # (n, n_features) each
    unread: list[str] = field(default_factory=list)  # why a case could not be read


class Neighbours:
    """Finds what is like a case or a tile; the first question starts the pass.

    Args:
        study: whose cases.
    """

    def __init__(self, study: Study) -> None:
        self._study, self._index, self._problem = study, _Index(), ""
        self._total = sum(bool(case.slide_ids) for case in study.cohort.cases)
        self._starting, self._stopped = threading.Lock(), False
        self._thread: threading.Thread | None = None

    @property
    def progress(self) -> tuple[int, int]:
        """Cases that are read, and how many there are."""
        return len(self._index.case_ids) + len(self._index.unread), self._total

    @property
    def unread(self) -> Sequence[str]:
        """Cases that could not be read, each with the reason."""
        return self._index.unread

    def ready(self) -> bool:
        """Whether all is read; starts it where it was not started.

        Raises:
            FormatError: it came to an end before.
        """
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, name="neighbours", daemon=True)
                self._thread.start()
        if self._problem:
            raise FormatError(self._problem)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End the pass, and wait for its end."""
        self._stopped = True
        if self._thread is not None:
            self._thread.join()

    def cases(self, case_id: str, count: int) -> tuple[list[tuple[str, float]], float]:
        """Cases whose state is nearest, nearest first, each with its distance; and the median distance of all.

        The members that did not see the case in training compare; the others they may have seen. Distances are
        Mahalanobis', by the covariance of each member's training cases, and their mean.
        """
        index, explainer = self._index, self._study.explainer
        if case_id not in index.case_ids:
            return [], float("nan")
        own = index.case_ids.index(case_id)
        members = np.flatnonzero(unseen_members(explainer.scale.card, explainer.fold_of.get(case_id)))
        away = state_distances(np.stack(index.pooled), own, members, explainer.scale.familiarity)
        order = [number for number in np.argsort(away, kind="stable").tolist() if number != own]
        typical = float(np.median(away[order])) if order else float("nan")
        return [(index.case_ids[number], float(away[number])) for number in order[:count]], typical

    def tiles(self, case_id: str, features: NDArray[np.floating], count: int) -> list[tuple[KnownTile, float]]:
        """Tiles of other cases whose features are nearest, each with its distance, nearest first.

        Features are scaled as the student scales them; the distance is the root of the mean squared difference, so that
        1 is a standard deviation in each feature.
        """
        index = self._index
        if not index.values:
            return []
        member = self._study.explainer.ensemble.members[0]
        sd = np.maximum(member.sd.numpy(), 1e-6)
        values, own = np.concatenate(index.values), features.astype(np.float32) / sd
        away = np.concatenate(
            [
                ((values[start : start + _BLOCK].astype(np.float32) / sd - own) ** 2).mean(axis=1)
                for start in range(0, len(values), _BLOCK)
            ]
        )
        nearest = np.argsort(away, kind="stable").tolist()
        others = (number for number in nearest if index.tiles[number].case_id != case_id)
        return [(index.tiles[number], float(np.sqrt(away[number]))) for number in islice(others, count)]

    def _read(self) -> None:
        study = self._study
        try:
            explainer = study.explainer
            expected = Expected(explainer.scale.card, explainer.path)
            slides = {str(c.case_id): tuple(map(str, c.slide_ids)) for c in study.cohort.cases if c.slide_ids}
            bags = find_bags(study.workspace, explainer.scale.card.encoder, slides)
            for case in read_cases(bags, expected):
                if self._stopped:
                    return
                if isinstance(case, CaseRead):
                    self._add(case)
                else:
                    self._index.unread.append(f"{case.case_id}: {case.error}")
        except WsisurvError as error:
            self._problem = str(error)

    def _add(self, case: CaseRead) -> None:
        study, index = self._study, self._index
        if not len(case.tiles):
            index.unread.append(f"{case.case_id}: no tile")
            return
        with study.running:
            index.pooled.append(study.explainer.ensemble.states(case.tiles).pooled)
        width = 2 * case.tiles.shape[1]
        count = int(np.clip(_TILE_BYTES // (width * self._total), 1, _TILES_A_CASE))
        for slide in case.slides:
            share = -(-count * len(slide.features.values) // len(case.tiles))
            rows = np.unique(np.linspace(0, len(slide.features.values) - 1, share).astype(np.int64))
            if not len(slide.features.values) or slide.features.coords is None or slide.features.mpp is None:
                continue  # nobody knows where its tiles lie, so that none can be shown
            index.values.append(slide.features.values[rows].astype(np.float16))
            name = str(slide.features.slide_id)
            side = tile_side(slide.features, study.workspace.features(slide.features.encoder, name))
            index.tiles += [
                KnownTile(case.case_id, name, int(x), int(y), side) for x, y in slide.features.coords[rows].tolist()
            ]
        index.case_ids.append(case.case_id)


def state_distances(
    pooled: NDArray[np.float32], own: int, members: NDArray[np.int64], familiarity: Familiarity
) -> NDArray[np.float64]:
    """Distance of each case's state from one case's, float64 (n_cases,), mean over some members.

    Args:
        pooled: (n_cases, n_members, hidden).
        own: number of the case.
        members: numbers of the members that compare.
        familiarity: has the precision of each member's states.
    """
    away = (pooled[:, members] - pooled[own, members]).astype(np.float64)
    squared = np.einsum("nmi,mij,nmj->nm", away, familiarity.precision[members], away)
    return np.asarray(np.sqrt(squared.clip(0)).mean(axis=1), dtype=np.float64)
