"""One way of writing numbers, on pages and in figures."""

import pytest

from wsisurv.pages.numbers import interval, minus, number, p_equals, p_value, share


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(-0.1234), "−0.123"),
        (number(0.5, "+.2f"), "+0.50"),
        (number(123.4, ".2g"), "120"),
        (number(-1234567.0, "g"), "−1234570"),
        (number(0.0000123, ".2g"), "1.2e−05"),
        (number(None), "–"),
        (number(float("nan")), "–"),
        (p_value(0.0004), "< 0.001"),
        (p_value(0.0494), "0.049"),
        (p_value(None), "–"),
        (p_equals(0.0004), "p < 0.001"),
        (p_equals(1.0), "p = 1.000"),
        (share(0.814, 1), "81.4 %"),
        (share(None), "–"),
        (interval(-0.1, 0.2, "+.1f"), "−0.1 to +0.2"),
        (interval(None, 0.2), "–"),
    ],
)
def test_each_kind_is_written_in_one_way(written, expected):
    assert written == expected


def test_only_negative_numbers_get_a_minus():
    assert (
        minus("(-0.098 to -.4) at T1-2, --folds 3, x-ray, 2026-01-02")
        == "(−0.098 to −.4) at T1-2, --folds 3, x-ray, 2026-01-02"
    )
