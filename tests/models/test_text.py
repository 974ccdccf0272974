import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.formats.statements import Polarity, Statement
from wsisurv.models.text import HASHING_DIMENSIONS, fit_tfidf, hashing_vectors, statement_terms, tfidf_vectors

TEXTS = ["focal necrosis is present", "necrosis is absent", "no perineural invasion", "perineural invasion is present"]


def statement(polarity: Polarity, text: str) -> Statement:
    return Statement(
        statement_id="c/1",
        category="necrosis",
        polarity=polarity,
        text=text,
        evidence=text,
        start=0,
        end=len(text),
        match="exact",
    )


@given(st.lists(st.text(max_size=60), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_row_has_length_one_or_no_word(texts: list[str]) -> None:
    values = hashing_vectors(texts)
    assert values.dtype == np.float32
    assert values.shape == (len(texts), HASHING_DIMENSIONS)
    lengths = np.linalg.norm(values, axis=1)
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))


def test_a_vector_is_of_its_text_alone() -> None:
    together = hashing_vectors(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(together[row], hashing_vectors([text])[0])


def test_another_process_gives_the_same_vectors() -> None:
    program = (
        "import sys; from wsisurv.models.text import hashing_vectors; "
        f"sys.stdout.buffer.write(hashing_vectors({TEXTS!r}).tobytes())"
    )
    environment = {"PYTHONHASHSEED": "7", "PATH": ""}
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    assert other.stdout == hashing_vectors(TEXTS).tobytes()


def test_words_in_another_order_are_another_text() -> None:
    one, other = hashing_vectors(["margin free, node involved", "node free, margin involved"])
    assert not np.allclose(one, other)


def test_a_denial_is_far_from_what_it_denies() -> None:
    present, denied, again = hashing_vectors(
        [
            statement_terms(statement("present", "tumour necrosis")),
            statement_terms(statement("absent", "tumour necrosis")),
            statement_terms(statement("present", "tumour necrosis, focal")),
        ]
    )
    assert present @ again > 0.6
    assert present @ denied < 0.35


def test_tfidf_knows_only_what_it_was_fitted_on() -> None:
    tfidf = fit_tfidf(TEXTS[:2])
    assert "necrosis" in tfidf.vocabulary
    assert "perineural" not in tfidf.vocabulary
    values = tfidf_vectors(tfidf, [*TEXTS, ""])
    assert values.shape == (5, len(tfidf.vocabulary))
    np.testing.assert_allclose(np.linalg.norm(values[:2], axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(values[4], 0)


def test_a_rare_word_weighs_more() -> None:
    tfidf = fit_tfidf(["tumour necrosis", "tumour mucin", "tumour necrosis mucin", "tumour"])
    weight = dict(zip(tfidf.vocabulary, tfidf.idf, strict=True))
    assert weight["necrosis"] > weight["tumour"]
    np.testing.assert_allclose(weight["tumour"], 1.0)
    np.testing.assert_allclose(weight["necrosis"], np.log(5 / 3) + 1, rtol=1e-6)


def test_tfidf_of_nothing_has_no_column() -> None:
    assert tfidf_vectors(fit_tfidf([]), TEXTS).shape == (4, 0)
