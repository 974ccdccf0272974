"""How well features tell the hospital, against how well they tell risk: what an encoder sees of scanners and stains."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.cases import find_bags, read_cases, whole
from wsisurv.cohort import Case, read_cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import InputError
from wsisurv.survival.metrics import concordance
from wsisurv.survival.ridge import cross_fit_ridge
from wsisurv.workspace.paths import Workspace

_DIRECTIONS = 64  # of the mean tile's spread that are used, at most a third of the cases
_FOLDS, _REPEATS = 5, 2
_FEWEST = 10  # cases of a hospital that is told, two a fold
_RIDGES = (0.01, 0.1, 1.0, 10.0)  # times the number of cases


@dataclass(frozen=True)
class Robustness:
    """What the mean tile of a case tells, out of fold."""

    encoder: str  # folder of its features
    cases: int  # of the cohort that have features
    hospitals: int  # with ten cases or more
    of_hospitals: int  # cases of these
    hospital_accuracy: float | None  # mean over hospitals of the share told right; None with fewer than two
    chance: float | None  # what guessing gets: one by the number of hospitals
    concordance: float  # of risk, hospitals left out whole where they can be; guessing gets .5

    @property
    def sentence(self) -> str:
        """The figures in words."""
        risk = f"risk: concordance {self.concordance:.2f} (guessing .50)"
        if self.hospital_accuracy is None or self.chance is None:
            return f"{self.encoder}: {risk}; {self.hospitals} hospitals of {_FEWEST} cases or more, so none is told"
        return (
            f"{self.encoder}: {risk}; hospital: {self.hospital_accuracy:.0%} told right of {self.hospitals} hospitals "
            f"(guessing {self.chance:.0%}), {self.cases} cases"
        )


def encoder_robustness(
    workspace: Workspace, cohort: str, encoders: Sequence[str] = (), *, progress: Progress = no_progress
) -> list[Robustness]:
    """Measure encoders on a cohort.

    Args:
        workspace: reads the cohort and features.
        cohort: name of the cohort, with a column of hospitals.
        encoders: folders of features; all that are there if empty.
        progress: called as cases are read.

    Raises:
        MissingArtifactError, FormatError, StaleError: as ``read_cohort`` and ``read_slide``.
        InputError: no case has features of an encoder, or no hospital is known.
        MetricError: too few events.
    """
    cases = read_cohort(workspace.cohort(cohort))[0].cases
    if not any(case.site for case in cases):
        raise InputError(f"cohort {cohort}: no hospital is known. Make it with --site.")
    found = []
    for encoder in encoders or workspace.encoders():
        there = set(workspace.embedded_slides(encoder))
        slides = {str(case.case_id): [one for one in case.slide_ids if one in there] for case in cases}
        known = [case for case in cases if slides[str(case.case_id)]]
        if not known:
            raise InputError(f"cohort {cohort}: no case has features of {encoder}.")
        bags = find_bags(workspace, encoder, {str(case.case_id): slides[str(case.case_id)] for case in known})
        means: dict[str, NDArray[np.float64]] = {}
        for number, read in enumerate(whole(read_cases(bags))):
            progress(number, len(known), f"{encoder} · {read.case_id}")
            tiles = [slide.features.values for slide in read.slides if len(slide.features.values)]
            if tiles:
                means[read.case_id] = np.concatenate(tiles).mean(axis=0, dtype=np.float64)
        found.append(measure(encoder, [case for case in known if str(case.case_id) in means], means))
    return found


def measure(encoder: str, cases: Sequence[Case], mean_tiles: Mapping[str, NDArray[np.float64]]) -> Robustness:
    """The figures of cases by their mean tiles, case_id → (n_features,).

    The directions of the tiles' spread are found on all cases, without hospital or outcome; all that is fitted to these
    is fitted out of fold.
    """
    tiles = np.stack([mean_tiles[str(case.case_id)] for case in cases])
    sd = tiles.std(axis=0)
    scaled = (tiles - tiles.mean(axis=0)) / np.where(sd < 1e-9, np.inf, sd)
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    kept = (sizes > 1e-6 * max(float(sizes[0]), 1e-12))[: min(_DIRECTIONS, max(1, len(cases) // 3))]
    variables = left[:, : len(kept)][:, kept] * np.sqrt(len(cases))
    follow_up: dict[str, Any] = {
        name: np.array([getattr(case, name) for case in cases]) for name in ("time", "event", "entry")
    }
    risk = cross_fit_ridge(variables=variables, **follow_up, site=[case.site for case in cases])
    sizes_of = Counter(case.site for case in cases if case.site)
    told = {site for site, n in sizes_of.items() if n >= _FEWEST}
    rows = np.array([case.site in told for case in cases], bool)
    names = np.array([case.site or "" for case in cases])[rows]
    return Robustness(
        encoder=encoder,
        cases=len(cases),
        hospitals=len(told),
        of_hospitals=int(rows.sum()),
        hospital_accuracy=hospital_accuracy(variables[rows], names) if len(told) > 1 else None,
        chance=1 / len(told) if len(told) > 1 else None,
        concordance=concordance(log_hazard=risk, **follow_up),
    )


def hospital_accuracy(variables: NDArray[np.float64], hospital: NDArray[np.str_]) -> float:
    """Mean over hospitals of the share of their cases that a ridge classifier tells right out of fold.

    Each hospital's cases are dealt out to the folds evenly; the ridge is chosen by leaving one case out of the training
    part.

    Args:
        variables: (n, n_variables).
        hospital: of each case, (n,).
    """
    names, number = np.unique(hospital, return_inverse=True)
    right = np.zeros(len(names))
    for repeat in range(_REPEATS):
        random = np.random.default_rng(repeat)
        fold = np.empty(len(number), np.int64)
        for one in range(len(names)):
            mine = random.permutation(np.flatnonzero(number == one))
            fold[mine] = (np.arange(len(mine)) + one) % _FOLDS
        for k in range(_FOLDS):
            seen = fold != k
            guess = _classify(variables[seen], number[seen], variables[~seen], len(names))
            np.add.at(right, number[~seen], guess == number[~seen])
    return float(np.mean(right / (_REPEATS * np.bincount(number))))


def _classify(
    known: NDArray[np.float64], number: NDArray[np.int64], new: NDArray[np.float64], n_classes: int
) -> NDArray[np.int64]:
    """Class of each new row: the largest of the classes' ridge regressions, each class as heavy as another."""
    weight = 1 / np.bincount(number, minlength=n_classes)[number] * len(number) / n_classes
    root = np.sqrt(weight)[:, None]
    mean = np.average(known, axis=0, weights=weight)
    wanted = np.eye(n_classes)[number] - 1 / n_classes
    left, sizes, right = np.linalg.svd((known - mean) * root, full_matrices=False)
    along = left.T @ (wanted * root)
    best, chosen = np.inf, np.zeros((known.shape[1], n_classes))
    for ridge in _RIDGES:
        shrunk = sizes**2 / (sizes**2 + ridge * len(number))
        leverage = (left**2 * shrunk).sum(axis=1, keepdims=True)
        off = (wanted * root - left @ (shrunk[:, None] * along)) / np.maximum(1 - leverage, 1e-6)
        if (error := float((off**2).sum())) < best:
            best, chosen = error, right.T @ ((shrunk / np.maximum(sizes, 1e-12))[:, None] * along)
    return np.asarray(((new - mean) @ chosen).argmax(axis=1), np.int64)
