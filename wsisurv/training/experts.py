"""Students of other cohorts: as fixed experts beside a cohort's own student, or as what its training starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.bags.checks import Expected, MadeWith, find_oddities
from wsisurv.cohort import Case, read_cohort
from wsisurv.errors import CohortError, EncoderMismatchError, MetricError, SettingsError, some
from wsisurv.formats.cards import ExpertWeight, StudentCard
from wsisurv.formats.models import read_model
from wsisurv.models.aggregators.joined import BLOCKS, Joined
from wsisurv.models.ensemble import Ensemble, load_student
from wsisurv.models.joining import join
from wsisurv.models.student import WIDEST, Student
from wsisurv.settings.base import fingerprint
from wsisurv.settings.training import DistillSettings
from wsisurv.survival.follow_up import one_after_another
from wsisurv.survival.ridge import ridge_path
from wsisurv.training.card import CrossFitted
from wsisurv.training.inputs import TrainingCases
from wsisurv.training.loop import threads_for
from wsisurv.training.tuning import AHEAD, worth

_FEW = 3
"""Experts that are listened to at most."""
_RIDGE = 0.01
"""Ridge of their weights; small, since there are few."""


@dataclass(frozen=True)
class Expert:
    """A student of another cohort.

    Attributes:
        path: its file.
        card: what its input must be.
        ensemble: its members.
        fingerprint: of its file.
        cases: its training cases, where their cohort lies beside it; empty where they can't be known.
    """

    path: Path
    card: StudentCard
    ensemble: Ensemble
    fingerprint: str
    cases: tuple[Case, ...]

    def member(self, number: int) -> Student:
        """One of its members; with more asked than it has, it begins anew."""
        return self.ensemble.members[number % len(self.ensemble.members)]

    def seen(self, tested: Sequence[Case]) -> bool:
        """Whether it was trained on one of these patients, or in one of their hospitals."""
        ids, sites = {str(one.case_id) for one in self.cases}, {one.site for one in self.cases} - {None, ""}
        return any(str(one.case_id) in ids or one.site in sites for one in tested)


@dataclass(frozen=True)
class Transfer:
    """What is taken over from students of other cohorts: experts, and the one that training starts from."""

    experts: tuple[Expert, ...] = ()
    start: Expert | None = None

    @property
    def students(self) -> list[Expert]:
        """All of them, the one that training starts from last."""
        return [*self.experts, *([] if self.start is None else [self.start])]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all files; empty where there is none."""
        used = {f"expert {number}": one.fingerprint for number, one in enumerate(self.experts)}
        if self.start is not None:
            used["start"] = self.start.fingerprint
        return fingerprint({}, used) if used else ""

    def without(self, tested: Sequence[Case]) -> "Transfer":
        """Those that saw none of these patients and none of their hospitals."""
        start = None if self.start is None or self.start.seen(tested) else self.start
        return Transfer(tuple(one for one in self.experts if not one.seen(tested)), start)

    def left_out(self, rest: "Transfer") -> list[str]:
        """What is said of those that are not among the rest."""
        kept = {one.path for one in rest.students}
        gone = [str(one.path) for one in self.students if one.path not in kept]
        return [
            f"students of other cohorts left out, since they saw tested patients or their hospitals ({some(gone)})"
        ] * bool(gone)

    def require_fitting(self, cases: TrainingCases, settings: DistillSettings) -> list[str]:
        """Refuse students of other features, or trained on these very cases, and say what is odd or can't be known.

        Args:
            cases: the cohort to be trained on.
            settings: how its students are trained.

        Raises:
            EncoderMismatchError: features of another encoder, other weights or another width.
            CohortError: an expert was trained on cases of this cohort.
            SettingsError: more units together than a student can have; settings of students that can't be joined, or
                can't start from such a one.
        """
        self._require_settings(settings)
        made = MadeWith(
            encoder=str(cases.embed_settings.get("encoder", "")),
            n_tiles=1,
            n_features=cases.bags.n_features,
            settings=cases.embed_settings,
            tile_settings=cases.tile_settings,
        )
        said = []
        ids = set(cases.case_ids)
        for one in {one.fingerprint: one for one in self.students}.values():
            try:
                odd = find_oddities(one.path, made, Expected(one.card, one.path))
            except EncoderMismatchError as error:
                raise EncoderMismatchError(
                    f"{one.path}: this student reads other features than the cohort's ({error}) Name students that "
                    "were trained on the same features, or none."
                ) from error
            said += [f"{one.path}: the cohort's tiles are not like its own: {what}" for what in odd]
            if again := sorted(ids & {str(case.case_id) for case in one.cases}):
                raise CohortError(
                    f"{one.path}: it was trained on {len(again)} case(s) of this cohort ({some(again)}), and would be "
                    "trusted for knowing them. Train it without them, or leave it out."
                )
            if not one.cases:
                said.append(
                    f"{one.path}: its cohort.csv doesn't lie beside it, so whether it saw these patients can't be known"
                )
        return said

    def _require_settings(self, settings: DistillSettings) -> None:
        units = sum(member.embed.out_features for one in self.experts for member in one.ensemble.members)
        if units > WIDEST // 2:
            raise SettingsError(f"--experts: {units} hidden units in all, and {WIDEST // 2} are possible. Name fewer.")
        if self.students:
            if settings.loss == "discrete" or settings.filter != "none" or settings.aggregator not in BLOCKS:
                raise SettingsError(
                    "--experts and --warm-start need --loss cox or ranking, --filter none and --aggregator "
                    f"{' or '.join(BLOCKS)}: log hazards that are sums over tiles."
                )
        if self.start is not None:
            first = self.start.ensemble.members[0]
            if (first.aggregator, first.embed.out_features) != (settings.aggregator, settings.hidden):
                raise SettingsError(
                    f"{self.start.path}: a student of {first.embed.out_features} hidden units and aggregator "
                    f"{first.aggregator}, and --warm-start needs --hidden {settings.hidden} and --aggregator "
                    f"{settings.aggregator}. Give those that it was trained with, or name student_plain.h5 beside it."
                )


def open_transfer(experts: Sequence[Path] = (), start: Path | None = None) -> Transfer:
    """Read students of other cohorts.

    Raises:
        MissingArtifactError, FormatError: as ``read_model``.
        SettingsError: an expert is named twice, or is no sum over tiles: discrete hazards, selfattention, a filter.
    """
    opened = tuple(_open(path) for path in experts)
    if len({one.fingerprint for one in opened}) < len(opened):
        raise SettingsError("--experts: a student is named twice.")
    return Transfer(opened, None if start is None else _open(start))


def _open(path: Path) -> Expert:
    model, header = read_model(path, "student")
    ensemble = load_student(model)
    first = ensemble.members[0]
    if isinstance(first.attention, Joined):
        raise SettingsError(f"{path}: it has experts of its own. Name student_plain.h5 beside it, which has none.")
    if first.hazard.out_features > 1 or first.aggregator not in BLOCKS or any(m.filter for m in ensemble.members):
        raise SettingsError(
            f"{path}: discrete hazards, a filter of tiles, or the aggregator {first.aggregator}, can't be taken over. "
            f"Name a student of --loss cox or ranking, --filter none and --aggregator {' or '.join(BLOCKS)}."
        )
    trained = read_cohort(path.parent)[0] if (path.parent / "cohort.csv").exists() else None
    known = trained is not None and trained.fingerprint == header.inputs.get("cohort")
    return Expert(path, model.card, ensemble, header.fingerprint, trained.cases if trained and known else ())


def with_experts(
    own: CrossFitted, transfer: Transfer, cases: TrainingCases
) -> tuple[list[Student], list[ExpertWeight]]:
    """Students joined by the experts that help them, or as they are where none does.

    An expert is listened to where a Cox regression on the student's log hazard and on its own is clearly better than
    on the student's alone (by 1.92 of partial log likelihood, half the 95 % point of χ² with one degree of freedom),
    and counts for more risk; three at most, weighed by one regression on all. Cases are compared within fold: an expert
    knows none of the hospitals, and within hospital the gate opened where transfer hurts (docs/benchmark.md). For a
    member it is made without the cases that the member has not seen, by log hazards out of fold. The experts' gate is
    open where so joined students predict the cases which they did not see better, by partial likelihood, than the
    students alone.

    Args:
        own: the students, and what they make of each case.
        transfer: with experts, which fit the cases.
        cases: the whole cohort.

    Returns:
        The members, and the mean weight of each expert, one standard deviation of whose log hazard is 1; 0 for all
        where the gate is closed.
    """
    experts = transfer.experts
    with threads_for(cases.bags), torch.inference_mode():
        risks = [[one.log_hazard.mean() for one in expert.ensemble.states_of(cases.bags)] for expert in experts]
    columns = np.stack([own.out_of_fold, *map(np.array, risks)], 1)
    spread = np.maximum(columns.std(0), 1e-9)
    columns = (columns - columns.mean(0)) / spread
    weights = {fold: _weights(columns, own.fold, cases, own.fold != fold) for fold in sorted(set(own.member_folds))}
    joined = np.array([columns[row] @ weights[fold] for row, fold in enumerate(own.fold.tolist())])
    gained = [worth(one, own.fold, cases.time, cases.event, cases.entry).gained for one in (joined, columns[:, 0])]
    # an expert that counts for one member stands in all, which must have one shape
    heard = [n for n in range(len(experts)) if any(of_fold[n + 1] for of_fold in weights.values())]
    is_open = bool(heard) and gained[0] > gained[1]
    members = list(own.ensemble.members)
    if is_open:
        members = [
            join([(member, of_fold[0]), *_parts([(experts[n].ensemble, of_fold[n + 1]) for n in heard])])
            for member, of_fold in zip(members, (weights[fold] / spread for fold in own.member_folds), strict=True)
        ]
    means = np.mean(list(weights.values()), axis=0).tolist()
    return members, [
        ExpertWeight(name=one.card.cohort.name, weight=weight if is_open else 0.0, gained=gained[0] - gained[1])
        for one, weight in zip(experts, means[1:], strict=True)
    ]


def _parts(experts: Sequence[tuple[Ensemble, float]]) -> list[tuple[Student, float]]:
    """Members of the experts, each with its part of the expert's weight."""
    return [(member, weight / len(one.members)) for one, weight in experts for member in one.members]


def _weights(
    columns: NDArray[np.float64], fold: NDArray[np.int64], cases: TrainingCases, seen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weight of each column, at least 0, by some of the cases; the first is the student's own, which is 1 alone."""
    alone = np.zeros(columns.shape[1])
    alone[0] = 1
    rows = np.flatnonzero(seen)
    entry = None if cases.entry is None else cases.entry[rows]
    at, entered = one_after_another(cases.time[rows], fold[rows], entry)

    def fit(chosen: Sequence[int]) -> tuple[NDArray[np.float64], float]:
        """Weights of the chosen columns, and their likelihood above that of none."""
        of = columns[rows][:, list(chosen)]
        found = ridge_path(variables=of, time=at, event=cases.event[rows], entry=entered, ridges=(_RIDGE,))[0]
        return found, worth(of @ found, fold[rows], cases.time[rows], cases.event[rows], entry).gained

    try:
        least = fit([0])[1] + AHEAD
        gained = {n: fit([0, n]) for n in range(1, len(alone))}
        heard = sorted(
            (n for n, (of, more) in gained.items() if of[1] > 0 and more > least), key=lambda n: -gained[n][1]
        )
        for few in range(min(len(heard), _FEW), 0, -1):
            found, _ = fit([0, *heard[:few]])
            if (found[1:] > 0).all():
                weights = np.zeros(len(alone))
                weights[[0, *heard[:few]]] = np.maximum(found, 0)
                return weights
    except MetricError:  # no comparable pair: nothing can be said
        pass
    return alone
