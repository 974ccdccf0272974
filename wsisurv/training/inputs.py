"""What both training steps read: follow-up, bags and statements of a cohort, checked to belong together."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.cases import describe_slide, made_with, training_bags
from wsisurv.bags.checks import PER_SLIDE, require_alike
from wsisurv.bags.packed import Bags
from wsisurv.cohort import Case, Cohort, entry_of
from wsisurv.errors import CohortError, MissingArtifactError, some
from wsisurv.formats.statements import read_statements
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.models.text import Tfidf, fit_tfidf, statement_terms, tfidf_vectors
from wsisurv.settings.base import fingerprint
from wsisurv.workspace.paths import Workspace

NO_STATEMENTS = "none"
METHOD_VERSION = {"wsisurv's version of the training": "3"}
"""Raised when the same settings train something else, so that what was trained before is not taken for it. 2: what
reports tell, and what tiles tell of them, is measured within hospital. 3: hospitals are dealt out at random to inner
folds; log hazards are scaled by their slope out of fold."""
FEW_EVENTS = 10


@dataclass(frozen=True)
class TrainingCases:
    """Cases that can be trained on; all tuples and arrays have one entry a case, sorted by case.

    Attributes:
        case_ids: the cases.
        time: float64 (n_cases,), in the cohort's time unit.
        event: bool (n_cases,).
        site: hospital of each, or None.
        bags: float16 tiles of each case, its slides one after the other; held in memory once, or read when needed.
        statements: float32 (n_statements, n_dimensions) of each case, or None without a report.
        tfidf: what made the statements' vectors, where that was fitted on these cases.
        n_slides: slides in all.
        names: name of each feature, empty where the encoder has none.
        embed_settings: what made the features (JSON object).
        encoder_weights: where the encoder's weights came from, with the revision; empty where the files don't say.
        tile_settings: what made the tiles (JSON object).
        inputs: fingerprints of cohort, features and statements, for the headers of what is made from them.
        warnings: what a person should know.
        clinical: the cases as the cohort has them, with their covariates.
        merged: the bags with near-duplicate tiles merged, to train on; None trains on ``bags``.
        entry: float64 (n_cases,), time from which each was followed; None where all were followed from 0.
    """

    case_ids: tuple[str, ...]
    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    site: tuple[str | None, ...]
    bags: Bags
    statements: tuple[NDArray[np.float32] | None, ...]
    tfidf: Tfidf | None
    n_slides: int
    names: tuple[str, ...]
    embed_settings: Mapping[str, Any]
    encoder_weights: str
    tile_settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    warnings: tuple[str, ...]
    clinical: tuple[Case, ...] = ()
    merged: Bags | None = None
    entry: NDArray[np.float64] | None = None

    @property
    def has_report(self) -> NDArray[np.bool_]:
        """Whether each case has statements."""
        return np.array([statements is not None for statements in self.statements])


def read_training_cases(
    workspace: Workspace,
    cohort: Cohort,
    *,
    encoder: str,
    text_encoder: str | None,
    allow_random_weights: bool,
    memory_gib: float | None = None,
) -> TrainingCases:
    """Read what a cohort is trained on.

    Args:
        workspace: where the files are.
        cohort: the cases.
        encoder: folder of the features.
        text_encoder: name of the statements' vectors, or ``tfidf``, fitted here on these cases alone; a workspace
            without any vectors trains without reports. None reads none.
        allow_random_weights: take features of an encoder that was never trained.
        memory_gib: what features and gradients may take in memory; None for half of the machine's.

    Raises:
        MissingArtifactError: features of a slide, or vectors of this text encoder while others are there.
        EncoderMismatchError: slides embedded, or tiled, in different ways.
        SettingsError: features of random weights.
        CohortError: fewer than two events among cases with tiles.
    """
    slides = {str(one): describe_slide(workspace, encoder, one) for case in cohort.cases for one in case.slide_ids}
    alike = {slide_id: made_with(slide) for slide_id, slide in slides.items()}
    require_alike(alike, allow_random_weights=allow_random_weights)
    cases: list[Case] = []
    empty: list[Case] = []
    for case in cohort.cases:
        n_tiles = sum(slides[slide_id].n_tiles for slide_id in case.slide_ids)
        (cases if n_tiles else empty).append(case)
    warnings = [f"left out, since no tile was found: {some([case.case_id for case in empty])}"] if empty else []
    events = sum(case.event for case in cases)
    if events < 2:
        raise CohortError(
            f"cohort {cohort.name}: {events} event(s) among {len(cases)} cases with tiles; survival can't be learned "
            "from fewer than two. Longer follow-up or more cases are needed."
        )
    if events < FEW_EVENTS:
        warnings.append(f"only {events} events among {len(cases)} cases: expect little, and trust it less")
    read = _Statements({}, NO_STATEMENTS)
    if text_encoder is not None:
        read = _read_statements(workspace, text_encoder, {str(case.case_id) for case in cases})
    prints = {slide_id: slide.header.fingerprint for slide_id, slide in slides.items()}
    first = next(slide for slide in slides.values() if slide.n_tiles)
    return TrainingCases(
        case_ids=tuple(str(case.case_id) for case in cases),
        time=np.array([case.time for case in cases], dtype=np.float64),
        event=np.array([case.event for case in cases], dtype=np.bool_),
        site=tuple(case.site for case in cases),
        bags=training_bags([[slides[slide_id] for slide_id in case.slide_ids] for case in cases], memory_gib),
        statements=tuple(read.by_case.get(str(case.case_id)) for case in cases),
        tfidf=read.tfidf,
        n_slides=len(slides),
        names=first.names,
        embed_settings=first.header.settings,
        encoder_weights=first.weights,
        tile_settings={name: v for name, v in first.tile_settings.items() if name not in PER_SLIDE},
        inputs={
            "cohort": cohort.fingerprint,
            "features": fingerprint({}, prints),
            "statements": read.fingerprint,
            **METHOD_VERSION,
        },
        warnings=tuple(warnings),
        clinical=tuple(cases),
        entry=entry_of(cases),
    )


@dataclass(frozen=True)
class _Statements:
    """Vectors of each case that has statements, what they were made from, and tf-idf where it was fitted."""

    by_case: Mapping[str, NDArray[np.float32]]
    fingerprint: str
    tfidf: Tfidf | None = None


def _read_statements(workspace: Workspace, text_encoder: str, case_ids: Collection[str]) -> _Statements:
    if text_encoder == "tfidf":
        return _fit_tfidf(workspace, case_ids)
    path = workspace.vectors(text_encoder)
    if not path.exists():
        if others := sorted(file.stem for file in path.parent.glob("*.h5") if not file.name.startswith(".")):
            raise MissingArtifactError(
                f"{path}: not there, but vectors of {', '.join(others)} are. Name one with --text-encoder."
            )
        return _Statements({}, NO_STATEMENTS)
    vectors, header = read_text_vectors(path)
    return _Statements(vectors.by_case(), header.fingerprint)


def _fit_tfidf(workspace: Workspace, case_ids: Collection[str]) -> _Statements:
    """Tf-idf learned from the statements of these cases and of no others."""
    records = read_statements(workspace.statements) if workspace.statements.exists() else {}
    texts = {
        case_id: [statement_terms(statement) for statement in records[case_id].statements]
        for case_id in sorted(case_ids)
        if case_id in records and records[case_id].statements
    }
    tfidf = fit_tfidf([text for several in texts.values() for text in several])
    if not tfidf.vocabulary:
        return _Statements({}, NO_STATEMENTS)
    vectors = {case_id: tfidf_vectors(tfidf, several) for case_id, several in texts.items()}
    return _Statements(vectors, fingerprint({}, {case_id: records[case_id].fingerprint for case_id in texts}), tfidf)
