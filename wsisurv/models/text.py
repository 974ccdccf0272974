"""Statements as vectors without a language model: hashed words and pairs, and tf-idf.

Hashing needs no fitting, so one file serves every fold. Tf-idf learns its words and weights from statements and
must therefore be fitted on the training part of each fold alone; it is here as two functions and never a file.
"""

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.statements import Statement

HASHING_DIMENSIONS = 512
_MOST_TERMS = 2048  # of tf-idf
_TERM = re.compile(r"[^\W_]+(?:[_=.][^\W_]+)*")


def statement_terms(statement: Statement) -> str:
    """Write a statement as terms for a bag of words.

    Category and polarity take part: ``no necrosis`` shares no word with ``necrosis``, but their category.
    """
    words = " ".join(_TERM.findall(statement.text.casefold()))
    if statement.polarity != "present":
        words = " ".join(f"{statement.polarity}={word}" for word in words.split())
    return f"{statement.category} {statement.category}={statement.polarity} {words}"


def terms(text: str) -> list[str]:
    """Words of a text and pairs of neighbours, case folded."""
    words = _TERM.findall(text.casefold())
    return words + [f"{left} {right}" for left, right in zip(words, words[1:], strict=False)]


def hashing_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Hash words and pairs of each text to signed counts.

    Nothing is learned or stored, and the same text gives the same vector in every process and on every machine.

    Args:
        texts: any texts, such as ``statement_terms`` writes.

    Returns:
        float32 (n_texts, HASHING_DIMENSIONS), each row of length 1; a text without words is a row of zeros.

    Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009 (signed hashing).
    """
    values = np.zeros((len(texts), HASHING_DIMENSIONS), np.float32)
    for row, text in enumerate(texts):
        for term, count in Counter(terms(text)).items():
            hashed = zlib.crc32(term.encode())
            sign = 1.0 if hashed >> 31 else -1.0
            values[row, (hashed & 0x7FFFFFFF) % HASHING_DIMENSIONS] += sign * count
    return _unit(values)


@dataclass(frozen=True)
class Tfidf:
    """Words learned from texts."""

    vocabulary: tuple[str, ...]  # the terms, sorted; the column of each is its place
    idf: NDArray[np.float32]  # float32 (n_terms,), the weight of each


def fit_tfidf(texts: Sequence[str]) -> Tfidf:
    """Learn terms and weights from the texts of a training fold: the most frequent terms (ties by alphabet).

    Args:
        texts: statements of the training cases only.

    Returns:
        What ``tfidf_vectors`` needs, of terms that occur in two texts at least; none where there is no such term.

    Source: idf = ln((1 + n) / (1 + df)) + 1, Manning et al., Introduction to Information Retrieval, 6.2, smoothed.
    """
    frequency = Counter(term for text in texts for term in set(terms(text)))
    frequent = sorted((term for term, count in frequency.items() if count > 1), key=lambda t: (-frequency[t], t))
    vocabulary = tuple(sorted(frequent[:_MOST_TERMS]))
    counts = np.array([frequency[term] for term in vocabulary], np.float64)
    return Tfidf(vocabulary, (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32))


def tfidf_vectors(tfidf: Tfidf, texts: Sequence[str]) -> NDArray[np.float32]:
    """Weigh the known terms of each text.

    Returns:
        float32 (n_texts, n_terms), each row of length 1; a text without a known term is a row of zeros.
    """
    column = {term: index for index, term in enumerate(tfidf.vocabulary)}
    values = np.zeros((len(texts), len(column)), np.float32)
    for row, text in enumerate(texts):
        for term, count in Counter(terms(text)).items():
            if term in column:
                values[row, column[term]] = (1 + np.log(count)) * tfidf.idf[column[term]]
    return _unit(values)


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(values, length, out=values, where=length > 0)
    return unit
