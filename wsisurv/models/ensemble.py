"""The ensemble of students that is used: the one way from a case's tiles to its risk and to what each tile did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.bags.packed import Bags
from wsisurv.errors import FormatError
from wsisurv.formats.models import ModelFile
from wsisurv.models.fast_ensemble import CaseStates, FastMembers, TileScores
from wsisurv.models.filter import TileFilter
from wsisurv.models.student import WIDEST, Student


@dataclass(frozen=True)
class Ensemble:
    """Students whose mean is the risk."""

    members: tuple[Student, ...]  # trained students, in evaluation mode, of one width
    # each member's mean log hazard over its own training cases, taken off before members are compared
    centres: tuple[float, ...]

    @property
    def n_features(self) -> int:
        """Columns that the features must have."""
        return self.members[0].embed.in_features

    @cached_property
    def fast(self) -> FastMembers:
        """The members made ready to be asked, once.

        Raises:
            FormatError: the members are of several widths, or of shapes that don't fit each other.
        """
        return FastMembers(self.members, self.centres)

    def states(self, features: NDArray[np.floating]) -> CaseStates:
        """Log hazard and state of one case by each member.

        Args:
            features: (n_tiles, n_features), at least one tile.

        Raises:
            EncoderMismatchError: another number of columns than in training.
        """
        return self.fast.states(features)

    def states_of(self, bags: Bags) -> list[CaseStates]:
        """The same of many cases; one case in memory at a time where the bags lie on disk."""
        there = bags.on(self.members[0].mean.device)
        return [self.fast.states_of(there.select(torch.tensor([case])).load()) for case in range(bags.n_bags)]

    def members_log_hazard(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log hazard of one case by each member, float64 (n_members,); as ``log_hazard``."""
        return self.states(features).log_hazard

    def log_hazard(self, features: NDArray[np.floating]) -> float:
        """Log hazard of one case relative to the training cases' mean; as ``states``."""
        return float(self.members_log_hazard(features).mean())

    def tile_scores(self, features: NDArray[np.floating]) -> TileScores:
        """Attention and contribution of each tile of one case, mean over members; as ``states``."""
        return self.fast.tile_scores(features)

    def only(self, wanted: NDArray[np.bool_]) -> "Ensemble":
        """The ensemble of some of the members: bool (n_members,)."""
        chosen = np.flatnonzero(wanted).tolist()
        return Ensemble(
            tuple(self.members[number] for number in chosen), tuple(self.centres[number] for number in chosen)
        )

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """Named arrays of a model file: ``members/<number>/<parameter>``, ``centres`` and ``aggregator`` (ASCII)."""
        named = {
            f"{prefix}members/{number}/{name}": value.detach().cpu().numpy()
            for number, member in enumerate(self.members)
            for name, value in member.state_dict().items()
        }
        aggregator = np.frombuffer(self.members[0].aggregator.encode(), np.uint8)
        return named | {f"{prefix}centres": np.array(self.centres), f"{prefix}aggregator": aggregator}


def ensemble_of(members: Sequence[tuple[Student, float]]) -> Ensemble:
    """Ensemble of (trained student, its centre) pairs."""
    return Ensemble(tuple(student.eval() for student, _ in members), tuple(centre for _, centre in members))


def centred_ensemble(
    students: Sequence[Student], trains: Sequence[NDArray[np.int64]], bags: Bags
) -> tuple[Ensemble, list[CaseStates]]:
    """Ensemble of trained students, on the CPU, and what its members make of each case.

    Args:
        students: on the device that they are to score on.
        trains: numbers of each one's training cases, over which its log hazard is to have mean 0.
        bags: of all cases.
    """
    states = ensemble_of([(student, 0.0) for student in students]).states_of(bags)
    risks = np.stack([one.log_hazard for one in states])
    centres = np.array([risks[train, member].mean() for member, train in enumerate(trains)])
    ensemble = ensemble_of(
        [(student.cpu(), centre) for student, centre in zip(students, centres.tolist(), strict=True)]
    )
    return ensemble, [replace(one, log_hazard=one.log_hazard - centres) for one in states]


def load_student(model: ModelFile[Any], *, device: str = "cpu") -> Ensemble:
    """Rebuild the ensemble from a model file.

    Raises:
        FormatError: an array is missing, too many, or of another shape than its neighbours ask for.
    """
    return load_ensemble(model.arrays, device=device)


def load_ensemble(arrays: Mapping[str, NDArray[Any]], prefix: str = "", *, device: str = "cpu") -> Ensemble:
    """Rebuild an ensemble from the arrays that ``Ensemble.arrays`` gave; raises as ``load_student``."""
    try:
        centres = arrays[f"{prefix}centres"].tolist()
        aggregator = arrays[f"{prefix}aggregator"].tobytes().decode() if f"{prefix}aggregator" in arrays else "abmil"
        members = []
        for number in range(len(centres)):
            start = f"{prefix}members/{number}/"
            state = {name[len(start) :]: torch.tensor(a) for name, a in arrays.items() if name.startswith(start)}
            hidden, n_features = state["embed.weight"].shape
            n_bins, width = state["hazard.weight"].shape
            if hidden > WIDEST or width != hidden:  # before anything is allocated: the file may be anybody's
                raise ValueError(f"hidden layers of {hidden} and {width}")
            student = Student(n_features, hidden, 0.0, state["mean"], state["sd"], aggregator, n_bins)
            if "filter.hard" in state:
                hard, share = bool(state["filter.hard"]), float(state["filter.keep_share"])
                student.filter = TileFilter(n_features, hard=hard, keep_share=share)
            student.load_state_dict(state)
            members.append((student.to(device), float(centres[number])))
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise FormatError(f"the model's arrays don't make a student ({error}). Train it again.") from error
    if not members:
        raise FormatError("the model has no members. Train it again.")
    return ensemble_of(members)
