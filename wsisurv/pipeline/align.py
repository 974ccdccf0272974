"""``align``: learn across cohorts what tiles tell about reports, from pairs of slide and report without outcomes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.cases import describe_slide, find_bags, made_with, read_cases, whole
from wsisurv.bags.checks import MadeWith, require_alike
from wsisurv.cohort import match_case, read_cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import CohortError, EncoderMismatchError, InputError, MissingArtifactError
from wsisurv.formats.alignment import FORMAT, AlignmentFile, read_alignment, write_alignment
from wsisurv.formats.header import make_header
from wsisurv.formats.report_pairs import ReportPairs
from wsisurv.formats.tables import read_table, refuse
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.models.alignment import AlignmentFit, fit_alignment
from wsisurv.settings.base import fingerprint
from wsisurv.workspace.freshness import all_done
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class AlignedCohort:
    """A cohort that an alignment was learned from."""

    name: str  # as the alignment has it
    cases: int  # with slide and report
    hospitals: int  # known, of those
    compared: int  # cases that have another of their hospital to be compared with


@dataclass(frozen=True)
class AlignResult:
    """What ``align`` learned."""

    cohorts: tuple[AlignedCohort, ...]
    fit: AlignmentFit
    warnings: tuple[str, ...]
    kept: bool  # True when the file was there already, made of the same


_Row = tuple[str, str, str, NDArray[np.float32], NDArray[np.float32]]
"""Case, cohort, hospital, mean and deviation of its tiles, and mean of its statements' vectors."""


@dataclass(frozen=True)
class _Pairs:
    """A cohort as it was found: which slides and which hospital each of its cases has."""

    path: Path
    name: str
    workspace: Workspace
    slides: Mapping[str, tuple[str, ...]]
    hospitals: Mapping[str, str]
    vectors: Mapping[str, NDArray[np.float32]]
    fingerprint: str  # of the vectors


def align(
    sources: Sequence[Path],
    output: Path,
    *,
    encoder: str = "histomics",
    text_encoder: str = "hashing",
    sites: Sequence[Path] = (),
    redo: bool = False,
    progress: Progress = no_progress,
) -> AlignResult:
    """Learn which directions of tiles speak for reports, within hospitals, and write them with their pairs.

    Args:
        sources: workspaces, each of one cancer, of which every case with slide and report counts, with or without
            follow-up; or folders of cohorts (``WORKSPACE/cohorts/NAME``), of which only their own cases count.
        output: ``alignment.h5``.
        encoder: folder of the features, the same in all.
        text_encoder: of the statements' vectors, the same in all.
        sites: tables ``case_id,site`` of hospitals that no cohort names.
        redo: replace an alignment that was made of others.
        progress: called before each case.

    Raises:
        InputError: a source is no workspace, or two are the same.
        MissingArtifactError, FormatError: features or vectors are missing or damaged.
        EncoderMismatchError: sources of unlike features or vectors; both are named.
        CohortError: a bad table of hospitals; no hospital known, or only one.
        StaleError: an alignment of others is there, and not ``redo``.
        StorageError: no room or no permission.
    """
    given = _read_sites(sites)
    found = [_find(path, encoder, text_encoder, given) for path in sources]
    if twice := [one.path for number, one in enumerate(found) if one.name in {other.name for other in found[:number]}]:
        raise InputError(f"{twice[0]}: a cohort of this name is given twice. Name each once; rename one of two others.")
    _require_vectors_alike(found, text_encoder)
    made, inputs = _require_features_alike(found, encoder)
    settings = {"encoder": encoder, "text_encoder": text_encoder, "embed": dict(made.settings)}
    inputs["hospitals"] = fingerprint({one.name: dict(one.hospitals) for one in found}, {})
    header = make_header(FORMAT, settings, inputs)
    kept = all_done({output: header}, redo=redo)
    pairs = read_alignment(output)[0].pairs if kept else _read_pairs(found, encoder, progress)
    fit = _fit(pairs, [one.path for one in found])
    if not kept:
        fitted = {"directions": fit.directions, "agreement": fit.agreement, "explained": fit.explained}
        write_alignment(output, AlignmentFile(pairs, encoder, text_encoder, made.settings), fitted, header)
    cohorts = tuple(_account(pairs, one.name) for one in found)
    return AlignResult(cohorts, fit, tuple(_warnings(cohorts, found)), kept)


def _read_sites(tables: Sequence[Path]) -> dict[str, str]:
    sites: dict[str, str] = {}
    for path in tables:
        problems = []
        for row in read_table(path, "case_id", "site"):
            if row["case_id"] and row["site"] and sites.setdefault(row["case_id"], row["site"]) != row["site"]:
                problems.append(f"row {row.number}: case {row['case_id']!r} is of {sites[row['case_id']]!r} already.")
        refuse(path, problems)
    return sites


def _find(path: Path, encoder: str, text_encoder: str, given: Mapping[str, str]) -> _Pairs:
    """A source's cases that have slides and a report."""
    folder = path.resolve()
    of_cohort = (folder / "cohort.csv").exists()
    above = next((one.parent for one in folder.parents if one.name == "cohorts"), None) if of_cohort else folder
    if above is None or not ((above / "features").is_dir() or (above / "reports").is_dir()):
        raise InputError(
            f"{path}: no workspace with features and reports, and no cohort of one (WORKSPACE/cohorts/NAME)"
        )
    workspace = Workspace(above)
    vectors_at = workspace.vectors(text_encoder)
    if not vectors_at.exists():
        there = ", ".join(sorted(file.stem for file in vectors_at.parent.glob("*.h5"))) or "none yet"
        raise MissingArtifactError(
            f"{vectors_at}: no vectors of {text_encoder} in {path} (there are {there}). Make them with `wsisurv "
            f"extract-report --text-encoder {text_encoder}`, or align others with --text-encoder."
        )
    embedded = workspace.embedded_slides(encoder)
    vectors, header = read_text_vectors(vectors_at)
    said = vectors.by_case()
    cohorts = (
        [read_cohort(folder)[0]]
        if of_cohort
        else [read_cohort(workspace.cohort(name))[0] for name in workspace.cohorts()]
    )
    hospitals = {**given, **{str(case.case_id): case.site for one in cohorts for case in one.cases if case.site}}
    slides: dict[str, tuple[str, ...]] = {}
    if of_cohort:
        slides = {str(case.case_id): tuple(map(str, case.slide_ids)) for case in cohorts[0].cases if case.slide_ids}
    else:
        slides = {str(case.case_id): tuple(map(str, case.slide_ids)) for one in cohorts for case in one.cases}
        known = {slide for several in slides.values() for slide in several}
        for slide_id in embedded:
            if slide_id not in known and (case_id := match_case(slide_id, said.keys())) is not None:
                slides[case_id] = (*slides.get(case_id, ()), slide_id)
    slides = {case_id: slides[case_id] for case_id in sorted(slides.keys() & said.keys()) if slides[case_id]}
    if not slides or not embedded:
        there = ", ".join(workspace.encoders()) or "none yet"
        raise MissingArtifactError(
            f"{path}: no case has both a report and features of {encoder} (there are features of {there}). Name others "
            "with --encoder, or leave it out."
        )
    name = f"{above.name}/{folder.relative_to(above / 'cohorts').as_posix()}" if of_cohort else above.name
    return _Pairs(path, name, workspace, slides, hospitals, said, header.fingerprint)


def _require_vectors_alike(found: Sequence[_Pairs], text_encoder: str) -> None:
    widths = {one.path: next(iter(one.vectors.values())).shape[1] for one in found}
    for path, width in widths.items():
        if width != widths[found[0].path]:
            raise EncoderMismatchError(
                f"{found[0].path} and {path}: vectors of {text_encoder} of {widths[found[0].path]} and {width} numbers "
                "are not of one text encoder. Make them anew with `wsisurv extract-report --text-encoder`."
            )


def _require_features_alike(found: Sequence[_Pairs], encoder: str) -> tuple[MadeWith, dict[str, str]]:
    """How the features of all sources were made, and a fingerprint of each one's features and vectors by its name."""
    made: dict[str, MadeWith] = {}
    inputs: dict[str, str] = {}
    for one in found:
        prints = {}
        for slide_id in (slide for slides in one.slides.values() for slide in slides):
            file = describe_slide(one.workspace, encoder, slide_id)
            prints[slide_id] = file.header.fingerprint
            made[str(file.path)] = made_with(file)
        inputs[one.name] = fingerprint(prints, {"vectors": one.fingerprint})
    try:
        require_alike(made, allow_random_weights=True)
    except EncoderMismatchError as error:
        raise EncoderMismatchError(f"{error} Or leave one of the cohorts out of the alignment.") from error
    filled = [one for one in made.values() if one.n_tiles]
    if not filled:
        raise CohortError(f"{found[0].path}: no slide of it or of the others has a tile")
    return filled[0], inputs


def _read_pairs(found: Sequence[_Pairs], encoder: str, progress: Progress) -> ReportPairs:
    rows: list[_Row] = []
    total = sum(len(one.slides) for one in found)
    for one in found:
        for row in _rows(one, encoder):
            progress(len(rows), total, row[0])
            rows.append(row)
    ids, names, hospitals, slides, reports = zip(*rows, strict=True)
    return ReportPairs(ids, names, hospitals, np.stack(slides), np.stack(reports))


def _rows(one: _Pairs, encoder: str) -> Iterator[_Row]:
    bags = find_bags(one.workspace, encoder, one.slides)
    with closing(read_cases(bags)) as reading:
        for case in whole(reading):
            if not case.n_tiles:
                continue
            tiles = case.tiles.astype(np.float64)
            moments = np.concatenate([tiles.mean(0), tiles.std(0)]).astype(np.float32)
            report = one.vectors[case.case_id].mean(0, dtype=np.float64).astype(np.float32)
            yield case.case_id, one.name, one.hospitals.get(case.case_id, ""), moments, report


def _fit(pairs: ReportPairs, paths: Sequence[Path]) -> AlignmentFit:
    try:
        return fit_alignment(pairs)
    except ValueError as error:
        named = ", ".join(map(str, paths))
        raise CohortError(
            f"{named}: pairs of {error}. Style of report and stain of slide both follow the hospital, so nothing can "
            "be learned within one alone, and tried at none. Name hospitals with --sites, or align more cohorts."
        ) from error


def _account(pairs: ReportPairs, name: str) -> AlignedCohort:
    own = pairs.take(np.flatnonzero(np.array(pairs.cohorts) == name))
    hospitals = set(own.hospitals) - {""}
    return AlignedCohort(name, len(own.case_ids), len(hospitals), len(own.comparable().case_ids))


def _warnings(cohorts: Sequence[AlignedCohort], found: Sequence[_Pairs]) -> Iterator[str]:
    for cohort, one in zip(cohorts, found, strict=True):
        if not cohort.hospitals:
            yield f"{one.path}: no hospital is known, so its {cohort.cases} pairs are of no use. Name them: --sites"
        elif cohort.hospitals == 1:
            yield (
                f"{one.path}: all {cohort.cases} pairs are of one hospital, which may do all in its own way: what they "
                "say is judged at the others' hospitals alone"
            )
