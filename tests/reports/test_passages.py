"""Passages cover a report whole, and cut where a reader would."""

from hypothesis import given
from hypothesis import strategies as st

from wsisurv.reports.passages import halves, split

WORDS = st.lists(st.sampled_from(["tumor", "node.", "\n", "\n\n", "FINAL DIAGNOSIS:", "x" * 40]), max_size=200)


@given(words=WORDS, longest=st.integers(50, 400), share=st.integers(0, 4))
def test_cover_all_and_are_never_too_long(words: list[str], longest: int, share: int) -> None:
    text = " ".join(words)
    overlap = longest * share // 10
    parts = split(text, longest, overlap)
    assert parts[0].start == 0
    assert parts[-1].end == len(text)
    for part in parts:
        assert part.end - part.start <= longest
    for left, right in zip(parts, parts[1:], strict=False):
        assert left.start < right.start <= left.end < right.end or right.end == len(text)
        assert left.end - right.start <= overlap


@given(words=WORDS)
def test_halves_cover_all_and_are_both_shorter(words: list[str]) -> None:
    text = " ".join(["start", *words, "end " * 5])
    first, second = halves(text, len(text) // 8)
    assert first.start == 0
    assert second.end == len(text)
    assert second.start <= first.end
    assert first.end < len(text)
    assert second.start > 0


def test_short_report_is_one_passage() -> None:
    assert [(part.start, part.end) for part in split("short", 100, 10)] == [(0, 5)]


def test_cut_falls_on_an_empty_line_before_anything_else() -> None:
    text = "a. " * 25 + "\n\n" + "b. " * 6 + "\n" + "c. " * 30
    (first, *_) = split(text, 100, 0)
    assert text[: first.end].endswith("\n\n")


def test_cut_falls_before_a_heading_where_no_line_is_empty() -> None:
    text = "a. " * 25 + "FINAL DIAGNOSIS: " + "b. " * 30
    (_, second, *_) = split(text, 100, 0)
    assert text[second.start :].startswith("FINAL DIAGNOSIS:")


def test_sentence_at_the_cut_is_whole_in_one_passage() -> None:
    sentences = [f"Finding number {n} is seen here." for n in range(60)]
    text = " ".join(sentences)
    passages = [text[part.start : part.end] for part in split(text, 300, 60)]
    assert all(any(sentence in passage for passage in passages) for sentence in sentences)
