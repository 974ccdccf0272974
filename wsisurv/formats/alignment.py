"""``alignment.h5``: what tiles tell about reports, and the pairs of slide and report that it was learned from.

The pairs are kept, so that whoever is tested can be left out and the rest be fitted anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsisurv.errors import FormatError
from wsisurv.formats.digests import read_array
from wsisurv.formats.hdf5 import put_text, put_texts, require_array, text, texts
from wsisurv.formats.header import Header, create, opened
from wsisurv.formats.report_pairs import ReportPairs

FORMAT = "wsisurv/alignment"
MADE_BY = "wsisurv align"
_NAMES = ("case_ids", "cohorts", "hospitals")


@dataclass(frozen=True)
class AlignmentFile:
    """An alignment on disk."""

    pairs: ReportPairs  # that it was learned from
    encoder: str  # folder of the features
    text_encoder: str  # of the statements' vectors
    embed_settings: Mapping[str, Any]  # what made the features (JSON object)


def write_alignment(path: Path, alignment: AlignmentFile, fitted: Mapping[str, Any], header: Header) -> None:
    """Write an alignment whole or not at all.

    Args:
        path: the file.
        alignment: what is written.
        fitted: arrays (``directions``, ``agreement``) and numbers of the fit to all pairs, for whoever looks in.
        header: what made it.

    Raises:
        StorageError: no room or no permission.
    """
    with create(path, header) as file:
        put_text(file, "encoder", alignment.encoder)
        put_text(file, "text_encoder", alignment.text_encoder)
        put_text(file, "embed_settings", json.dumps(dict(alignment.embed_settings), sort_keys=True))
        for name in _NAMES:
            put_texts(file, name, getattr(alignment.pairs, name))
        file.create_dataset("slides", data=alignment.pairs.slides.astype(np.float32))
        file.create_dataset("reports", data=alignment.pairs.reports.astype(np.float32))
        for name, value in fitted.items():
            if isinstance(value, np.ndarray):
                file.create_dataset(name, data=value.astype(np.float64))
            else:
                file.attrs[name] = value


def read_alignment(path: Path) -> tuple[AlignmentFile, Header]:
    """Read an alignment and what made it.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also for arrays that don't belong together.
    """
    with opened(path, FORMAT, MADE_BY) as (file, header):
        names = {name: texts(file, name) for name in _NAMES}
        pairs = ReportPairs(**names, slides=read_array(file["slides"]), reports=read_array(file["reports"]))
        n_cases = len(pairs.case_ids)
        require_array(path, "slides", pairs.slides, kinds="f", shape=(n_cases, None))
        require_array(path, "reports", pairs.reports, kinds="f", shape=(n_cases, None))
        if {len(found) for found in names.values()} != {n_cases} or pairs.slides.shape[1] % 2:
            raise FormatError(f"{path}: names of its cases, their cohorts and hospitals differ in number, or columns")
        if not (np.isfinite(pairs.slides).all() and np.isfinite(pairs.reports).all()):
            raise FormatError(f"{path}: numbers that are not finite")
        settings = json.loads(text(file, "embed_settings"))
        if not isinstance(settings, dict):
            raise FormatError(f"{path}: embed_settings are no JSON object")
        return AlignmentFile(pairs, text(file, "encoder"), text(file, "text_encoder"), settings), header
