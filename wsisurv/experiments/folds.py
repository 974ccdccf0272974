"""Folds of a cohort: our own, repeated over seeds, or a user's, matched to the cohort's cases."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsisurv.cohort import Cohort, match_case, read_table
from wsisurv.errors import CohortError
from wsisurv.formats.slide_names import composed
from wsisurv.formats.splits import Fold, read_splits
from wsisurv.survival.splits import kept_whole, make_folds

_SHOWN = 5
_REPORTED = ("test", "val")
"""Which part of a foreign split is scored: the first that has a case."""


@dataclass(frozen=True)
class Folds:
    """Folds whose cases are all of the cohort."""

    folds: tuple[Fold, ...]  # repeat by repeat
    notes: tuple[str, ...] = ()  # what a person should know of how they came about


def draw_folds(
    cohort: Cohort, *, n_folds: int, repeats: int, seed: int, together: Iterable[tuple[str, str]] = ()
) -> Folds:
    """Draw folds by case, balanced in events, sites kept whole where there is a site column; anew for each repeat.

    Args:
        cohort: with at least as many events as folds.
        n_folds: folds of a repeat.
        repeats: how many divisions of the cohort.
        seed: of the first; each further repeat has a seed of its own.
        together: pairs of cases that must be on one side.

    Raises:
        CohortError: fewer events than folds, or too few groups of cases that must stay together.
    """
    event = np.array([case.event for case in cohort.cases])
    require_events(cohort, n_folds)
    pairs = list(together)
    ids = [str(case.case_id) for case in cohort.cases]
    sites = [case.site or f"\n{case.case_id}" for case in cohort.cases]  # a case of an unknown one is its own
    unknown = sum(not case.site for case in cohort.cases)
    by_case = _joined(ids, ids, pairs)
    by_site = _joined(ids, sites, pairs) if unknown < len(ids) else by_case
    folds: list[Fold] = []
    split_sites = False
    for repeat in range(repeats):
        for groups in (by_site, by_case):
            if len(set(groups)) < n_folds:
                continue
            fold_of = make_folds(event=event, n_folds=n_folds, seed=seed * 1000 + repeat, site=groups)
            if kept_whole(groups, fold_of):
                break
        else:
            raise CohortError(
                f"cohort {cohort.name}: {len(set(by_case))} groups of cases that belong together can't be dealt out to "
                f"{n_folds} folds. Ask for fewer --folds."
            )
        split_sites = split_sites or (unknown < len(ids) and not kept_whole(sites, fold_of))
        for k in range(n_folds):
            train, test = (tuple(sorted(np.array(ids)[rows].tolist())) for rows in (fold_of != k, fold_of == k))
            folds.append(Fold(repeat=repeat, fold=k, train=train, test=test))
    notes = []
    if cohort.settings.site and unknown:
        notes.append(
            f"{unknown} cases have no site: each was dealt out by itself, and others of its site may be elsewhere"
        )
    if split_sites:
        notes.append(
            f"{len(set(sites)) - unknown} sites can't be kept whole in {n_folds} folds (too few, or one holds most): "
            "cases were dealt out one by one, so a site's stain may help the slides"
        )
    divisions = {frozenset(fold.test for fold in folds if fold.repeat == repeat) for repeat in range(repeats)}
    if len(divisions) < repeats:
        notes.append(
            f"{repeats} repeats are {len(divisions)} different divisions: that many sites can be dealt out in few ways"
        )
    return Folds(tuple(folds), tuple(notes))


def folds_of(folds: Folds, cohort: Cohort) -> Folds:
    """Folds with the cases of a cohort alone.

    Raises:
        CohortError: a fold has none of them to train on or to test.
    """
    ids, found = {case.case_id for case in cohort.cases}, []
    for fold in folds.folds:
        train, test = (tuple(one for one in side if one in ids) for side in (fold.train, fold.test))
        if not train or not test:
            raise CohortError(f"cohort {cohort.name}: fold {fold.name} has none of its cases. Ask for fewer --folds.")
        found.append(fold.model_copy(update={"train": train, "test": test}))
    return replace(folds, folds=tuple(found))


def require_events(cohort: Cohort, n_folds: int) -> None:
    """Stop where there are fewer events than folds.

    Raises:
        CohortError: there are.
    """
    events = sum(case.event for case in cohort.cases)
    if events < n_folds:
        raise CohortError(
            f"cohort {cohort.name}: {events} events for {n_folds} folds; each fold needs one at least. Ask for fewer "
            "--folds."
        )


def _joined(ids: Sequence[str], labels: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Labels of the cases, with those of each pair made one."""
    label = dict(zip(ids, labels, strict=True))
    for one, other in pairs:
        kept, joined = label[one], label[other]
        label = {case_id: kept if name == joined else name for case_id, name in label.items()}
    return [label[case_id] for case_id in ids]


def read_folds(path: Path, cohort: Cohort, others: Collection[str] = ()) -> Folds:
    """Read a user's folds: our JSONL, or a folder in the style of SurvPath or PANTHER.

    SurvPath, CLAM: ``splits_0.csv`` …, each with columns ``train``, ``val`` and perhaps ``test``. PANTHER: folders
    whose names end in a number, each with ``train.csv``, ``val.csv`` and perhaps ``test.csv``, with a column
    ``case_id`` or ``slide_id``. Ids are cases or slides. Where both are there ``test`` is scored, and ``val`` is left
    out of training.

    Args:
        path: the file or folder.
        cohort: cases that are not in it are left out, and counted in the notes.
        others: further cases of its clinical table: what the folds say of them is said of no case of the cohort.

    Raises:
        CohortError: no split there, or none of the cohort's cases in one side of a fold.
        FormatError: a line of the JSONL that is no fold.
        MissingArtifactError: no such file.
    """
    notes: list[str] = []
    raw = _foreign(path, notes) if path.is_dir() else list(read_splits(path))
    if not raw:
        raise CohortError(f"{path}: no fold in it")
    if twice := [fold.name for fold in raw if sum(other.name == fold.name for other in raw) > 1]:
        raise CohortError(f"{path}: fold {twice[0]} (repeat-fold, from 1) is there twice")
    case_of: dict[str, str | None] = {composed(case_id): None for case_id in others if case_id}
    case_of |= {composed(case.case_id): str(case.case_id) for case in cohort.cases}
    case_of |= {composed(slide): str(case.case_id) for case in cohort.cases for slide in case.slide_ids}
    unknown: set[str] = set()
    folds = []
    for fold in raw:
        train, test = (_matched(ids, case_of, unknown) for ids in (fold.train, fold.test))
        if not train or not test:
            raise CohortError(
                f"{path}: fold {fold.name} has {len(train)} cases of cohort {cohort.name} to train on and {len(test)} "
                f"to test; ids like {fold.train[0]!r} are in it, and the cohort has {cohort.cases[0].case_id!r}."
            )
        folds.append(Fold(repeat=fold.repeat, fold=fold.fold, train=train, test=test))
    if unknown:
        shown = ", ".join(sorted(unknown)[:_SHOWN])
        notes.append(f"{len(unknown)} ids of {path} are not in the cohort and were left out ({shown} …)")
    tested = {case_id for fold in folds for case_id in fold.test}
    if missing := len(cohort.cases) - len(tested):
        notes.append(f"{missing} cases of the cohort are in no test fold of {path}, so they are not scored")
    return Folds(tuple(folds), tuple(notes))


def _matched(ids: Iterable[str], case_of: Mapping[str, str | None], unknown: set[str]) -> tuple[str, ...]:
    """Cases of ids that are cases or slides, with or without an ending."""
    found = set()
    for id in ids:
        name = match_case(re.split(r"[\\/]", id)[-1], case_of)
        case_id = None if name is None else case_of[name]
        if case_id is None:
            unknown.add(id)
        else:
            found.add(case_id)
    return tuple(sorted(found))


def _foreign(path: Path, notes: list[str]) -> list[Fold]:
    """Folds of a SurvPath or PANTHER folder; repeat 0."""
    parts: dict[int, dict[str, list[str]]] = defaultdict(dict)
    for file in sorted(path.glob("splits_*.csv")):
        if (number := re.fullmatch(r"splits_(\d+)", file.stem)) is not None:
            rows = read_table(file)
            for side in ("train", *_REPORTED):
                parts[int(number[1])][side] = [row[side] for row in rows if row.get(side)]
    for file in sorted(path.glob("*/*.csv")):
        if (number := re.search(r"(\d+)$", file.parent.name)) is not None:
            name = re.fullmatch(r"(train|val|test)(_.*)?", file.stem)  # test_cptac.csv is part of the test
            if name is None:
                continue
            rows = read_table(file)
            column = next((one for one in ("case_id", "slide_id") if rows and one in rows[0]), None)
            if column is None:
                raise CohortError(f"{file}: no column case_id or slide_id")
            parts[int(number[1])].setdefault(name[1], []).extend(row[column] for row in rows)
    folds = []
    for number_, sides in sorted(parts.items()):
        reported = next((side for side in _REPORTED if sides.get(side)), None)
        if reported is None or not sides.get("train"):
            raise CohortError(
                f"{path}: split {number_} has no cases to {'test' if sides.get('train') else 'train on'}; columns or "
                "files train and val (or test) are needed"
            )
        folds.append(Fold(repeat=0, fold=number_, train=tuple(sides["train"]), test=tuple(sides[reported])))
        if reported == "test" and sides.get("val"):
            notes.append(f"split {number_}: its {len(sides['val'])} validation rows are not used: the budget is fixed")
    if not folds:
        raise CohortError(
            f"{path}: no splits_0.csv … with columns train and val, and no folders ending in a number with train.csv "
            "and test.csv"
        )
    return folds
