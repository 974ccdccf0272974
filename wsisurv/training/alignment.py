"""Directions of tiles that an alignment of many cohorts says speak for reports, without whoever is not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case
from wsisurv.errors import CohortError, EncoderMismatchError
from wsisurv.formats.alignment import AlignmentFile, read_alignment
from wsisurv.models.alignment import AlignmentFit, fit_alignment
from wsisurv.settings.base import fingerprint
from wsisurv.training.inputs import TrainingCases

_SAME = ("encoder", "weights", "version")
"""Settings of ``embed`` that make other numbers of the same pixels."""


@dataclass(frozen=True)
class Alignment:
    """An alignment, and who has been left out of it.

    Attributes:
        path: its file.
        file: what is in it, without whoever was left out.
        fingerprint: of the file and of whoever was left out.
        left_out: pairs that were left out.
    """

    path: Path
    file: AlignmentFile
    fingerprint: str
    left_out: int = 0

    def without(self, tested: Sequence[Case], trained: Sequence[Case]) -> "Alignment":
        """The same without the tested cases and their hospitals, but for hospitals that are trained on, too."""
        ids = sorted(str(case.case_id) for case in tested)
        hospitals = sorted({case.site or "" for case in tested} - {case.site or "" for case in trained} - {""})
        pairs = self.file.pairs.without(ids, hospitals)
        gone = len(self.file.pairs.case_ids) - len(pairs.case_ids)
        print_ = fingerprint({"cases": ids, "hospitals": hospitals}, {"alignment": self.fingerprint}) if gone else ""
        return Alignment(self.path, replace(self.file, pairs=pairs), print_ or self.fingerprint, self.left_out + gone)

    def require_hospitals(self) -> None:
        """Refuse an alignment of which too little is left.

        Raises:
            CohortError: fewer than two hospitals have two cases; names the file and the way out.
        """
        n_hospitals = len(set(self.file.pairs.comparable().hospitals))
        if n_hospitals < 2:
            out = f"without {self.left_out} cases that are tested, or are of their hospitals, " if self.left_out else ""
            raise CohortError(
                f"{self.path}: {out}it holds pairs of {n_hospitals} hospital(s) with two cases or more; two are "
                "needed. Make it of more cohorts or hospitals with `wsisurv align`, or go without --alignment."
            )


def open_alignment(path: Path) -> Alignment:
    """Read an alignment.

    Raises:
        MissingArtifactError, FormatError: as ``read_alignment``.
    """
    file, header = read_alignment(path)
    return Alignment(path, file, header.fingerprint)


def require_fitting(alignment: Alignment, cases: TrainingCases, encoder: str, text_encoder: str) -> None:
    """Refuse an alignment of other features or text vectors than those that are trained on.

    Raises:
        EncoderMismatchError: names the file and what differs.
    """
    file = alignment.file
    seen = {name: file.embed_settings.get(name) for name in _SAME} | {
        "weights of the tiles": (file.embed_settings.get("of_tiles") or {}).get("weights"),
        "folder of features": file.encoder,
        "features a tile": file.pairs.slides.shape[1] // 2,
        "text encoder": file.text_encoder,
    }
    wanted = {name: cases.embed_settings.get(name) for name in _SAME} | {
        "weights of the tiles": (cases.embed_settings.get("of_tiles") or {}).get("weights"),
        "folder of features": encoder,
        "features a tile": cases.bags.source.shape[1],
        "text encoder": text_encoder,
    }
    if changes := [f"{name} {seen[name]}, not {wanted[name]}" for name in seen if seen[name] != wanted[name]]:
        raise EncoderMismatchError(
            f"{alignment.path}: an alignment of {'; '.join(changes)}. Make one of the same features and vectors with "
            "`wsisurv align --encoder … --text-encoder …`."
        )


def aligned_directions(alignment: Alignment, cases: TrainingCases, train: NDArray[np.int64]) -> AlignmentFit:
    """Fit the alignment without the cases of the cohort that a member is not trained on.

    Args:
        alignment: that fits the cases, see ``require_fitting``.
        cases: the whole cohort.
        train: numbers of the member's training cases.

    Raises:
        CohortError: as ``Alignment.require_hospitals``.
    """
    chosen = set(train.tolist())
    held, trained = (
        [case for row, case in enumerate(cases.clinical) if (row in chosen) == own] for own in (False, True)
    )
    unseen = alignment.without(held, trained)
    unseen.require_hospitals()
    return fit_alignment(unseen.file.pairs)
