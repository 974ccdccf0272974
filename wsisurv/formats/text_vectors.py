"""``reports/vectors/<text-encoder>.h5``: one vector a statement."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import ArtifactError, FormatError
from wsisurv.formats.digests import read_array
from wsisurv.formats.hdf5 import put_text, put_texts, require_array, text, texts
from wsisurv.formats.header import Header, create, opened
from wsisurv.formats.statements import iterate_statements, read_statements, statements_fingerprint

FORMAT = "wsisurv/text-vectors"
MADE_BY = "wsisurv extract-report"


@dataclass(frozen=True)
class TextVectors:
    """Vectors of all statements."""

    values: NDArray[np.float32]  # float32 (n_statements, n_dimensions)
    case_ids: tuple[str, ...]  # the case of each row
    statement_ids: tuple[str, ...]  # the statement of each row
    encoder: str  # name of the text encoder
    # float32 (n_statements, n_columns): category, polarity, grade and numbers; None where the vectors hold them
    columns: NDArray[np.float32] | None = None

    def by_case(self) -> dict[str, NDArray[np.float32]]:
        """Vectors of each case that has any, with the columns behind them, float32 (n_statements of the case, …)."""
        rows: dict[str, list[int]] = {}
        for row, case_id in enumerate(self.case_ids):
            rows.setdefault(case_id, []).append(row)
        whole = self.values if self.columns is None else np.concatenate([self.values, self.columns], axis=1)
        return {case_id: whole[indices] for case_id, indices in rows.items()}


def write_text_vectors(path: Path, vectors: TextVectors, header: Header) -> None:
    """Write ``vectors`` whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with create(path, header) as file:
        put_text(file, "encoder", vectors.encoder)
        file.create_dataset("vectors", data=vectors.values.astype(np.float32))
        if vectors.columns is not None:
            file.create_dataset("columns", data=vectors.columns.astype(np.float32))
        put_texts(file, "case_ids", vectors.case_ids)
        put_texts(file, "statement_ids", vectors.statement_ids)


def read_text_vectors(path: Path) -> tuple[TextVectors, Header]:
    """Read the vectors of all statements and what made them.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also when rows and ids differ in number.
        ArtifactError: ``statements.jsonl`` in the folder above holds other statements now.
    """
    with opened(path, FORMAT, MADE_BY) as (file, header):
        vectors = TextVectors(
            values=read_array(file["vectors"]),
            case_ids=texts(file, "case_ids"),
            statement_ids=texts(file, "statement_ids"),
            encoder=text(file, "encoder"),
            columns=read_array(file["columns"]) if "columns" in file else None,
        )
        if not len(vectors.values) == len(vectors.case_ids) == len(vectors.statement_ids):
            raise FormatError(f"{path}: vectors and ids differ in number")
        require_array(path, "vectors", vectors.values, kinds="f", shape=(len(vectors.case_ids), None))
        if vectors.columns is not None:
            require_array(path, "columns", vectors.columns, kinds="f", shape=(len(vectors.case_ids), None))
        statements = path.parents[1] / "statements.jsonl"
        if statements.exists():
            now = statements_fingerprint([one for _, one in iterate_statements(read_statements(statements))])
            if header.inputs.get("statements") != now:
                raise ArtifactError(
                    f"{path}: not of the statements that {statements} holds: lines of it were lost or changed, or the "
                    f"last `{MADE_BY}` was stopped, or made vectors of another text encoder. Run the same `{MADE_BY}` "
                    "again."
                )
        return vectors, header
