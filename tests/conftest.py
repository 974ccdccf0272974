"""Fixtures for every room: slides that OpenSlide opens, and cards of students."""

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image

from wsisurv import extensions
from wsisurv.formats.cards import StudentCard, TeacherCard, TeacherResult
from wsisurv.formats.hdf5 import put_texts
from wsisurv.formats.header import seal

# No example fails for being slow: on a machine that does other work any may be.
settings.register_profile("no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-clock")

Pixels = NDArray[np.uint8]
MakeSlide = Callable[..., Path]
# A background shell and nohup start what they run with Ctrl-C ignored, and a child inherits that: tests that press it
# would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def tissue_image(width: int, height: int, seed: int = 0) -> Pixels:
    """Glass with one oval piece of pink tissue with purple nuclei, filling about half of the slide."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:height, :width]
    oval = ((x - width / 2) / (0.42 * width)) ** 2 + ((y - height / 2) / (0.38 * height)) ** 2 < 1
    image = np.full((height, width, 3), (243, 242, 244), np.float32)
    image[oval] = (222, 160, 195)
    nuclei = np.kron(rng.random((height // 8 + 1, width // 8 + 1)) < 0.15, np.ones((8, 8), bool))[:height, :width]
    image[oval & nuclei] = (110, 70, 140)
    image += rng.normal(0, 3, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def write_slide(
    path: Path,
    image: Pixels | tuple[int, int],
    mpp: float | tuple[float, float] | None = 0.5,
    levels: int = 3,
    compression: str = "jpeg",
    tile: int = 256,
    seed: int = 0,
) -> Path:
    """Write a tiled pyramidal TIFF that OpenSlide opens as generic TIFF; each level halves the one before.

    Args:
        path: where; folders are made.
        image: uint8 (height, width, 3), or (width, height) for a drawn oval of tissue on glass.
        mpp: µm per pixel, or (x, y); None writes no resolution.
        levels: number of levels, level 0 included.
        compression: ``jpeg``, or ``deflate`` for pixels that come back as they were.
        tile: side of the TIFF's own tiles, pixels.
        seed: of the drawing.
    """
    pixels = tissue_image(*image, seed=seed) if isinstance(image, tuple) else np.asarray(image, np.uint8)
    options: dict[str, Any] = {
        "photometric": "rgb",
        "tile": (tile, tile),
        "compression": compression,
        "metadata": None,
        "software": False,
    }
    if compression == "jpeg":
        options["compressionargs"] = {"level": 90}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, bigtiff=False) as file:
        for level in range(levels):
            if mpp is not None:
                mpp_x, mpp_y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
                options["resolution"] = (1e4 / mpp_x / 2**level, 1e4 / mpp_y / 2**level)
                options["resolutionunit"] = "CENTIMETER"
            file.write(pixels, subfiletype=1 if level else 0, **options)
            height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
            blocks = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
            pixels = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return path


def write_levels(path: Path, levels: Sequence[Pixels], mpp: float = 0.25, tile: int = 256, **options: Any) -> Path:
    """Write a tiled TIFF of these levels as they are, whether reductions of the first or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"photometric": "rgb", "compression": "jpeg", "metadata": None, **options}
    with tifffile.TiffWriter(path) as file:
        for number, level in enumerate(levels):
            resolution = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
            file.write(level, tile=(tile, tile), subfiletype=int(number > 0), **resolution, **options)
    return path


@pytest.fixture(scope="session")
def make_levels() -> MakeSlide:
    """``make_levels(path, levels, mpp=0.25, tile=256, **options of tifffile)``; see ``write_levels``."""
    return write_levels


@pytest.fixture(scope="session")
def make_slide() -> MakeSlide:
    """``make_slide(path, image_or_size, mpp=0.5, levels=3, compression="jpeg")``; see ``write_slide``."""
    return write_slide


@pytest.fixture(scope="session")
def draw_tissue() -> Callable[..., Pixels]:
    """``draw_tissue(width, height, seed=0)``: the image that ``make_slide`` draws when it is given a size."""
    return tissue_image


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[str], str]:
    """``browse(url)``: the page as headless Chromium has it once its scripts ran; skips where there is none."""
    if _CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    command = [_CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    command += ["--virtual-time-budget=2000", "--dump-dom"]

    def shown(url: str) -> str:
        return subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout

    return shown


@pytest.fixture(scope="session")
def without_figures() -> Callable[[pytest.MonkeyPatch], None]:
    """``without_figures(patch)``: figures are written as files of their kind with nothing in them.

    Drawing takes most of the time of a page.
    """
    svg = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>"
    png = io.BytesIO()
    Image.new("RGB", (1, 1)).save(png, "png")
    blank = {"svg": svg, "png": png.getvalue(), "pdf": b"%PDF-1.4"}

    def patched(patch: pytest.MonkeyPatch) -> None:
        from matplotlib.figure import Figure

        patch.setattr(Figure, "savefig", lambda _, path, *, format, **__: Path(path).write_bytes(blank[format]))

    return patched


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a package as an installer leaves it: a module and a ``.dist-info`` folder on the search path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name: str, code: str, points: dict[str, dict[str, str]], version: str = "1.2") -> Path:
        module = tmp_path / f"{name}.py"
        module.write_text(code)
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [line for group, names in points.items() for line in (f"[{group}]", *map(" = ".join, names.items()))]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        _forget()
        return module

    yield put
    _forget()
    for name in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[name]


def _forget() -> None:
    extensions._entry_points.cache_clear()
    if registry := sys.modules.get("wsisurv.models.aggregators.registry"):  # else torch would be loaded for every test
        registry._added.cache_clear()


RESULT: dict[str, Any] = {
    "n_cases": 80,
    "n_events": 40,
    "n_reports": 60,
    "gate": 0.5,
    "reports_told": None,
    "directions": [],
    "winner": "distilled",
    "concordance": 0.66,
    "distilled_concordance": 0.66,
    "plain_concordance": 0.6,
    "difference": 0.06,
    "difference_low": -0.1,
    "difference_high": 0.2,
    "low": -0.2,
    "high": 0.3,
    "warnings": [],
}
CARD: dict[str, Any] = {
    "encoder": "histomics",
    "n_features": 6,
    "feature_names": [],
    "embed_settings": {"encoder": "histomics", "version": 1},
    "encoder_weights": "",
    "tile_settings": {"tile_px": 224, "tile_mpp": 0.5},
    "cut_offs": {"low": -0.2, "high": 0.3},
    "risk_mean": 0.0,
    "guided": True,
    "member_folds": [0, 1],
    "calibration": {"slope": 0.9, "slope_of_one": 0.8},
    "familiarity": {"threshold": 3.0},
    "cohort": {
        "name": "trial",
        "cases": 80,
        "events": 40,
        "slides": 90,
        "sites": 3,
        "time_unit": "months",
        "median_time": 12.0,
        "median_follow_up": None,
        "longest_follow_up": 48.0,
        "tiles_a_case": {"least": 1, "few": 3, "median": 40.0, "most": 90},
    },
    "result": RESULT,
}


def _changed(value: Any, changes: Any) -> Any:
    """Keys of nested objects replaced one by one."""
    if not isinstance(value, dict) or not isinstance(changes, dict):
        return changes
    return {**value, **{name: _changed(value.get(name), one) for name, one in changes.items()}}


@pytest.fixture(scope="session")
def student_card() -> Callable[..., StudentCard]:
    """``student_card(**changes)`` → a card; objects in ``changes`` replace what they name and leave the rest."""
    return lambda **changes: StudentCard.model_validate_json(json.dumps(_changed(CARD, changes)))


@pytest.fixture(scope="session")
def teacher_card() -> TeacherCard:
    """A teacher's card."""
    counts = {"n_cases": 80, "n_events": 40, "n_slides": 90, "n_reports": 60}
    figures = dict.fromkeys(("text_concordance", "image_concordance", "fused_concordance", "gate_slope", "gate_se"))
    result = TeacherResult(**counts, **figures, gate=0.5, warnings=())
    return TeacherCard(encoder="histomics", text_encoder="hashing", result=result)


@pytest.fixture(scope="session")
def spoil_card() -> Callable[..., None]:
    """``spoil_card(path, **changes)`` writes a card that the model may not allow; a field of None is left out."""

    def spoil(path: Path, **changes: Any) -> None:
        with h5py.File(path, "a") as file:
            card = {**json.loads(file["card"][()]), **changes}
            del file["card"]
            put_texts(file, "card", json.dumps({name: value for name, value in card.items() if value is not None}))
            seal(path, file)

    return spoil


@pytest.fixture(scope="session")
def alone() -> Callable[..., NDArray[np.float64]]:
    """Log hazard of a case by each member of an ensemble: the network itself, one member after the other."""
    import torch

    from wsisurv.bags.packed import pack

    def by_member(ensemble: Any, features: NDArray[np.floating]) -> NDArray[np.float64]:
        with torch.inference_mode():
            bag = pack([np.ascontiguousarray(features)])
            risks = [float(member(bag).double()) for member in ensemble.members]
        return np.array(risks) - ensemble.centres

    return by_member
