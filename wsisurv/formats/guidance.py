"""``cohorts/<name>/guidance.h5``: what the teacher hands the student, made out of fold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.digests import read_array
from wsisurv.formats.hdf5 import put_texts, require_array, texts
from wsisurv.formats.header import Header, create, opened

FORMAT = "wsisurv/guidance"
MADE_BY = "wsisurv train-teacher"


@dataclass(frozen=True)
class Guidance:
    """What the teacher says of the training cases."""

    case_ids: tuple[str, ...]  # the training cases
    # float64 (n_cases,), τ: out-of-fold log hazard, of the report or, with a teacher of tiles and statements, of both;
    # NaN where a case has no statements
    risk: NDArray[np.float64]
    gate: float  # 0 to 1, how far τ can be trusted (docs/method.md, step 1)
    gate_slope: float  # b, slope of the univariate Cox model of outcome on τ
    gate_se: float  # its standard error
    # for each case float32 (n_tiles of its bag,), the teacher's share of attention of each tile, out of fold; sums to 1
    relevance: Mapping[str, NDArray[np.float32]]
    fold: NDArray[np.int64]  # int64 (n_cases,), the member fold of each case
    # float64 (n_folds, n_cases), τ made anew without any outcome of one member fold, so that a student tested on that
    # fold has not been told of it; NaN for the fold's own cases and where ``risk`` is NaN
    risk_without: NDArray[np.float64]
    gate_without: NDArray[np.float64]  # float64 (n_folds,), the gate made anew likewise
    # float64 (n_cases,), out-of-fold log hazard of the report alone; ``risk`` with a late teacher
    text_risk: NDArray[np.float64]


def write_guidance(path: Path, guidance: Guidance, header: Header) -> None:
    """Write ``guidance`` whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with create(path, header) as file:
        file.attrs["gate"] = guidance.gate
        file.attrs["gate_slope"] = guidance.gate_slope
        file.attrs["gate_se"] = guidance.gate_se
        put_texts(file, "case_ids", guidance.case_ids)
        file.create_dataset("risk", data=guidance.risk.astype(np.float64))
        file.create_dataset("fold", data=guidance.fold.astype(np.int64))
        file.create_dataset("risk_without", data=guidance.risk_without.astype(np.float64))
        file.create_dataset("gate_without", data=guidance.gate_without.astype(np.float64))
        file.create_dataset("text_risk", data=guidance.text_risk.astype(np.float64))
        group = file.create_group("relevance")
        for case_id, values in guidance.relevance.items():
            group.create_dataset(case_id, data=values.astype(np.float32))


def read_guidance(path: Path) -> tuple[Guidance, Header]:
    """Read the teacher's guidance and what made it.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also for arrays that don't belong together.
    """
    with opened(path, FORMAT, MADE_BY) as (file, header):
        guidance = Guidance(
            case_ids=texts(file, "case_ids"),
            risk=read_array(file["risk"]),
            gate=float(file.attrs["gate"]),
            gate_slope=float(file.attrs["gate_slope"]),
            gate_se=float(file.attrs["gate_se"]),
            relevance={case_id: read_array(dataset) for case_id, dataset in file["relevance"].items()},
            fold=read_array(file["fold"]),
            risk_without=read_array(file["risk_without"]),
            gate_without=read_array(file["gate_without"]),
            text_risk=read_array(file["text_risk" if "text_risk" in file else "risk"]),
        )
        n_cases, n_folds = len(guidance.case_ids), len(guidance.gate_without)
        require_array(path, "fold", guidance.fold, kinds="iu", shape=(n_cases,))
        require_array(path, "gate_without", guidance.gate_without, kinds="f", shape=(n_folds,))
        require_array(path, "risk_without", guidance.risk_without, kinds="f", shape=(n_folds, n_cases))
        for name in ("risk", "text_risk"):
            require_array(path, name, getattr(guidance, name), kinds="f", shape=(n_cases,))
        for case_id, values in guidance.relevance.items():
            require_array(path, f"relevance/{case_id}", values, kinds="f", shape=(None,))
        return guidance, header
