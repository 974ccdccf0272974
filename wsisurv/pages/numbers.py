"""How numbers and names are written on pages and in figures: a true minus sign, one style of p, a dash for none."""

import math
import re
from collections.abc import Sequence

from wsisurv.experiments.verdict import p_equals as p_equals


def number(value: float | None, form: str = ".3f") -> str:
    """A number in a format of Python's, with −, and large ones of a ``g`` without exponent; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    text = format(value, form)
    return (f"{float(text):.0f}" if "e+" in text else text).replace("-", "−")


def p_value(p: float | None) -> str:
    """Three decimals, ``< 0.001`` below that; a dash where there is none."""
    return "< 0.001" if p is not None and p < 0.001 else number(p)


def share(value: float | None, decimals: int = 0) -> str:
    """A share from 0 to 1 in per cent."""
    return "–" if value is None else f"{number(100 * value, f'.{decimals}f')} %"


def interval(low: float | None, high: float | None, form: str = ".3f") -> str:
    """``0.500 to 0.700``; a dash where an end is not known."""
    return "–" if low is None or high is None else f"{number(low, form)} to {number(high, form)}"


def joined(names: Sequence[str]) -> str:
    """``age, grade and stage``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def minus(words: str) -> str:
    """Words of ours with − before their negative numbers."""
    return re.sub(r"(?<![\w.-])-(?=[\d.])", "−", words)
