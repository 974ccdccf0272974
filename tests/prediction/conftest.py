"""A student of random weights with a card, and features files for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsisurv.formats import features as features_format
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.features import Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, model_format, write_model
from wsisurv.models.ensemble import Ensemble, ensemble_of
from wsisurv.models.familiarity import Familiarity
from wsisurv.models.student import Student
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.survival.prognosis import fit_prognosis
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

N_FEATURES, HIDDEN, MEMBERS = 6, 8, 2
YEARS_FOLLOWED = 4.0
TILES = TileSettings().model_dump(mode="json")
EMBED = EmbedSettings().model_dump(mode="json")
CARD: dict[str, Any] = {
    "n_features": N_FEATURES,
    "tile_settings": TILES,
    "embed_settings": EMBED,
    "cut_offs": {"low": -0.1, "high": 0.1},
    "cohort": {"cases": 200},
}


@pytest.fixture(scope="session")
def ensemble() -> Ensemble:
    """Two members of random weights, centred on different means."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        members = [
            Student(N_FEATURES, HIDDEN, 0.25, torch.zeros(N_FEATURES), torch.ones(N_FEATURES)) for _ in range(MEMBERS)
        ]
    return ensemble_of([(members[0], 0.2), (members[1], -0.1)])


@pytest.fixture(scope="session")
def fitted() -> dict[str, Any]:
    """Arrays of a prognosis from 200 simulated cases followed for four years, and of a wide familiarity."""
    rng = np.random.default_rng(0)
    risk = rng.normal(size=200)
    death = rng.exponential(30 * np.exp(-risk))
    end = rng.uniform(6, 12 * YEARS_FOLLOWED, 200)
    end[0] = 12 * YEARS_FOLLOWED
    death[0] = 1e9
    prognosis = fit_prognosis(log_hazard=risk, time=np.minimum(death, end), event=death <= end)
    familiarity = Familiarity(
        np.zeros((MEMBERS, HIDDEN)), np.stack([np.eye(HIDDEN)] * MEMBERS), np.linspace(0.1, 50, 99)
    )
    return prognosis.arrays() | familiarity.arrays()


SaveStudent = Callable[..., Path]


@pytest.fixture
def save_student(
    tmp_path: Path, ensemble: Ensemble, fitted: dict[str, Any], student_card: Callable[..., StudentCard]
) -> SaveStudent:
    """``save_student(training_risks, **arrays)`` → its file; an array of None is left out."""

    def save(training_risks: Any = (0.3, -0.3, 0.0, 0.1), **other: Any) -> Path:
        arrays = {**ensemble.arrays(), **fitted, "training_risks": np.array(training_risks, dtype=np.float64)}
        arrays |= {name.replace("__", "/"): value for name, value in other.items()}
        path = tmp_path / "student.h5"
        kept = {name: value for name, value in arrays.items() if value is not None}
        write_model(path, ModelFile(kept, student_card(**CARD)), make_header(model_format("student"), {}, {}))
        return path

    return save


@dataclass(frozen=True)
class Slides:
    """Writes features files and remembers what is in them."""

    root: Path

    def make(self, slide_id: str, n_tiles: int, *, embed: dict[str, Any] | None = None, **changes: Any) -> Path:
        rng = np.random.default_rng(sum(map(ord, slide_id)))
        features = Features(
            slide_id=SlideId(slide_id),
            values=rng.normal(size=(n_tiles, N_FEATURES)).astype(np.float16),
            coords=np.zeros((n_tiles, 2), np.int64),
            encoder="histomics",
            names=(),
            tile_settings=TILES,
            mpp=0.25,
        )
        features = replace(features, **changes)
        path = Workspace(self.root).features("histomics", slide_id)
        header = make_header(features_format.FORMAT, {**EMBED, **(embed or {})}, {})
        write_features(path, features, header)
        return path


@pytest.fixture
def slides(tmp_path: Path) -> Slides:
    return Slides(tmp_path / "workspace")


@pytest.fixture
def tile_settings() -> dict[str, Any]:
    """Those that the student was trained on."""
    return dict(TILES)


@pytest.fixture
def card() -> dict[str, Any]:
    """The card that ``save_student`` writes."""
    return dict(CARD)
