"""How all figures look, and how they are written, as PNG, SVG and PDF: the same data give the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsisurv.formats.atomic import replacing
from wsisurv.survival.prognosis import PER_YEAR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")  # Okabe and Ito
LINES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))  # told apart in grey print too
_NO_DATE: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs everywhere
    "font.size": 10,
    "svg.hashsalt": "wsisurv",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType, as journals ask
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of all figures inside the block."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def shown_time(time_unit: str) -> tuple[float, str]:
    """By what times are divided for an axis, and their unit there: days and weeks as years."""
    return (PER_YEAR[time_unit], "years") if time_unit in {"days", "weeks"} else (1.0, time_unit)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, inches: no window, no pyplot, nothing global."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: Path) -> tuple[Path, Path]:
    """Write a PNG at ``path``, and an SVG and a PDF of the same name beside it; gives PNG and SVG.

    Raises:
        StorageError: no room or no permission.
    """
    for kind, metadata in _NO_DATE.items():
        with replacing(path if kind == "png" else path.with_suffix(f".{kind}")) as partial:
            figure.savefig(partial, format=kind, dpi=150, metadata=metadata)
    return path, path.with_suffix(".svg")
