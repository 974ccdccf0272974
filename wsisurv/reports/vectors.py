"""``reports/vectors/<text-encoder>.h5``: one vector a statement, so that no window cuts anything.

To a model of language "no necrosis" and "necrosis" are nearly one: category, polarity, grade and numbers stand beside
its vectors as columns of their own. Hashed words hold the polarity themselves.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import SettingsError
from wsisurv.formats.header import make_header
from wsisurv.formats.statements import Statement, iterate_statements, read_statements, statements_fingerprint
from wsisurv.formats.text_vectors import FORMAT, TextVectors, write_text_vectors
from wsisurv.models.findings import COLUMNS_VERSION, statement_columns
from wsisurv.models.text import HASHING_DIMENSIONS, hashing_vectors, statement_terms
from wsisurv.workspace.freshness import check
from wsisurv.workspace.paths import Workspace

KNOWN = "hashing, tfidf, minilm, minilm:PATH, ollama:MODEL, st:PATH"
"""Text encoders by name."""
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to float32 (n_texts, n_dimensions); a row of NaN for a text that the encoder refuses."""


def statement_sentence(statement: Statement) -> str:
    """Write a statement for an encoder that reads language, with its category and polarity in words."""
    return f"{statement.category.replace('_', ' ')}, {statement.polarity}: {statement.text}"


def write_vectors(
    workspace: Workspace, text_encoder: str, *, encode: Encode | None = None, digest: str | None = None
) -> Path | None:
    """Write the vectors of all statements; a file made from the same statements by the same encoder is kept.

    Args:
        workspace: holds reports/statements.jsonl.
        text_encoder: ``hashing`` (needs nothing), ``tfidf`` (nothing is written), or the name of ``encode``.
        encode: turns sentences into vectors, for any other encoder; a sentence with a row of NaN is left out.
        digest: version of that encoder's weights; part of the file's fingerprint.

    Returns:
        The file, or None for ``tfidf``, which each training fold fits for itself.

    Raises:
        MissingArtifactError, FormatError: statements are not there or damaged.
        SettingsError: another encoder without ``encode``.
        StorageError: no room or no permission.
    """
    if text_encoder == "tfidf":
        return None
    if text_encoder != "hashing" and encode is None:
        raise SettingsError(f"text encoder {text_encoder!r} is unknown. Known: {KNOWN}.")
    rows = list(iterate_statements(read_statements(workspace.statements)))
    statements = [statement for _, statement in rows]
    settings = {"text_encoder": text_encoder, "digest": digest}
    if text_encoder == "hashing":
        settings["dimensions"] = str(HASHING_DIMENSIONS)
    else:
        settings["columns"] = str(COLUMNS_VERSION)
    header = make_header(FORMAT, settings, {"statements": statements_fingerprint(statements)})
    path = workspace.vectors(text_encoder)
    if check(path, header).done:
        return path
    values = (
        hashing_vectors([statement_terms(statement) for statement in statements])
        if encode is None
        else encode([statement_sentence(statement) for statement in statements])
    )
    given = np.flatnonzero(~np.isnan(values).any(axis=1))
    vectors = TextVectors(
        values=values[given],
        case_ids=tuple(rows[row][0] for row in given),
        statement_ids=tuple(statements[row].statement_id for row in given),
        encoder=text_encoder,
        columns=None if encode is None else statement_columns([statements[row] for row in given]),
    )
    write_text_vectors(path, vectors, header)
    return path
