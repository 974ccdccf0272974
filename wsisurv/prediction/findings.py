"""Heads of findings, opened to say of a case how likely each finding is, and which tiles speak for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from wsisurv.errors import EncoderMismatchError, FormatError, SettingsError, did_you_mean
from wsisurv.formats.atomic import read_json
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.finding_cards import FindingsCard
from wsisurv.formats.finding_rows import CaseFindings
from wsisurv.formats.models import read_model
from wsisurv.models.familiarity import Familiarity, load_familiarity
from wsisurv.models.finding_heads import FindingHead, load_heads
from wsisurv.workspace.freshness import Origin, require_made_of

_AGAIN = "Run `wsisurv findings --redo`."


@dataclass(frozen=True)
class OpenHeads:
    """The heads of a findings.h5, ready to predict."""

    path: Path
    card: FindingsCard
    fingerprint: str
    heads: Mapping[str, FindingHead]
    usual: NDArray[np.float64]  # (d,), mean tile of the training cases
    directions: NDArray[np.float64]  # (d, k), along which familiarity is measured
    familiarity: Familiarity

    def of_case(
        self, case_id: str, tiles: NDArray[np.floating], *, fold: int | None = None, force_unfamiliar: bool = False
    ) -> CaseFindings:
        """How likely each finding is; of an unfamiliar case nothing is said, unless forced.

        Args:
            case_id: of the case.
            tiles: (n_tiles, d), one at least.
            fold: of a training case, whose member alone speaks; None for the mean of all members' log odds.
            force_unfamiliar: give probabilities of unfamiliar cases too.
        """
        spoken = np.arange(self.card.members) if fold is None else np.array([fold])
        state = (np.asarray(tiles, dtype=np.float64).mean(axis=0) - self.usual) @ self.directions
        away = self.familiarity.distances(np.broadcast_to(state, (self.card.members, len(state))))
        distance, limit = float(away[spoken].mean()), self.familiarity.threshold
        odd = f"unlike the training cases (distance {distance:.1f}; 95 % of them are within {limit:.1f})"
        known = distance <= limit
        chance = {
            name: float(expit(head.log_odds(tiles)[spoken].mean()))
            for name, head in (self.heads.items() if known or force_unfamiliar else ())
        }
        return CaseFindings(case_id, len(tiles), self.familiarity.share(distance), chance, "" if known else odd)

    def head(self, name: str) -> FindingHead:
        """The head of one finding.

        Raises:
            SettingsError: there is none; says why, and which there are.
        """
        if name in self.heads:
            return self.heads[name]
        why = next((row.why_not for row in self.card.result.findings if row.name == name), "no such finding is known")
        raise SettingsError(
            f"finding {name}: {self.path} has no head of it ({why}). It has: {', '.join(self.heads) or 'none'}"
            + (did_you_mean(name, self.heads) or ".")
        )


def open_heads(path: Path) -> OpenHeads:
    """Open heads of findings.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: it is no findings.h5, or something in it is missing, damaged, or does not fit the rest.
    """
    model, header = read_model(path, "findings")
    card = model.card
    try:
        heads = load_heads(model.arrays, card.heads, n_members=card.members, width=card.n_features)
        usual, to = (np.asarray(model.arrays[name], dtype=np.float64) for name in ("usual", "directions"))
        if usual.shape != (card.n_features,) or to.ndim != 2 or len(to) != card.n_features:
            raise FormatError(f"usual and directions of shapes {usual.shape} and {to.shape} don't fit its features")
        familiarity = load_familiarity(model.arrays, card.members, to.shape[1])
    except (FormatError, KeyError) as error:
        raise FormatError(f"{path}: {error}. {_AGAIN}") from error
    return OpenHeads(path, card, header.fingerprint, heads, usual, to, familiarity)


def require_same_features(heads: OpenHeads, card: StudentCard, student: Path) -> None:
    """Refuse heads of other features than a student's.

    Raises:
        EncoderMismatchError: they are.
    """
    own = heads.card
    weights = [
        ", ".join(str(one.get("weights")) for one in (of.embed_settings, of.embed_settings.get("of_tiles")) if one)
        for of in (own, card)
    ]
    if (own.encoder, own.n_features) != (card.encoder, card.n_features) or weights[0] != weights[1]:
        raise EncoderMismatchError(
            f"{heads.path}: fitted on {own.n_features} features of {own.encoder!r} (weights {weights[0]}), but "
            f"{student} on {card.n_features} of {card.encoder!r} (weights {weights[1]}). Run `wsisurv findings "
            f"--encoder {card.encoder} --redo`, or delete the file."
        )


def heads_folds(heads: OpenHeads) -> dict[str, int]:
    """The fold of each case that heads were fitted on: case_id → fold, from evaluation/findings.json beside them.

    Raises:
        MissingArtifactError: it is not there.
        FormatError: it is damaged.
        StaleError: it is of other heads.
    """
    path = heads.path.parent / "evaluation" / "findings.json"
    try:
        record = read_json(path)
        made, folds = str(record["model"]), {str(case): int(fold) for case, fold in record["folds"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: damaged ({error}). {_AGAIN}") from error
    require_made_of(path, made, Origin(heads.fingerprint), str(heads.path), _AGAIN)
    if not all(0 <= fold < heads.card.members for fold in folds.values()):
        raise FormatError(f"{path}: a fold that {heads.path} has no member for. {_AGAIN}")
    return folds
