"""How well features tell the hospital, against risk: on features in which both were planted, or neither."""

from pathlib import Path

import numpy as np
import pytest

from wsisurv.cohort import Case
from wsisurv.errors import InputError, MissingArtifactError
from wsisurv.experiments.robustness import encoder_robustness, hospital_accuracy, measure
from wsisurv.units import CaseId
from wsisurv.workspace.paths import Workspace

SIZES = {"north": 60, "south": 40, "east": 30, "one": 3}


def _drawn(shift: float, effect: float, seed: int = 0) -> tuple[list[Case], dict[str, np.ndarray]]:
    """Cases of hospitals of several sizes whose mean tiles are moved by hospital and by hazard."""
    random = np.random.default_rng(seed)
    sites = [site for site, n in SIZES.items() for _ in range(n)]
    moves = {site: random.normal(size=30) for site in SIZES}
    hazard, cases, tiles = random.normal(size=len(sites)), [], {}
    along = random.normal(size=30)
    for number, site in enumerate(sites):
        name = f"C{number}"
        tiles[name] = random.normal(size=30) + shift * moves[site] + effect * hazard[number] * along
        time = random.exponential(np.exp(-1.5 * hazard[number]))
        ended = random.exponential(2.0)
        cases.append(Case(CaseId(name), max(1e-3, min(time, ended)), bool(time < ended), site))
    return cases, tiles


def test_hospital_and_risk_are_told_where_they_are_in_the_features_and_not_else() -> None:
    neither, both = (measure("e", *_drawn(shift, effect)) for shift, effect in ((0, 0), (1.5, 0.7)))
    assert (neither.hospitals, neither.of_hospitals, neither.cases) == (3, 130, 133), "one of 3 cases is not told"
    assert neither.chance == pytest.approx(1 / 3)
    assert neither.hospital_accuracy == pytest.approx(1 / 3, abs=0.12)
    assert neither.concordance == pytest.approx(0.5, abs=0.13), "noise of some 70 events"
    assert both.hospital_accuracy is not None
    assert both.hospital_accuracy > 0.9
    assert both.concordance > 0.65
    only_risk = measure("e", *_drawn(0, 0.7))
    assert only_risk.concordance > 0.65
    assert only_risk.hospital_accuracy == pytest.approx(1 / 3, abs=0.12)
    assert "hospital:" in both.sentence
    assert "of 3 hospitals (guessing 33%)" in both.sentence


def test_guessing_the_largest_hospital_is_no_better_than_guessing() -> None:
    """Noise, nine of ten cases of one hospital: the share told right would be 90 % of all cases."""
    random = np.random.default_rng(1)
    hospital = np.array(["a"] * 270 + ["b"] * 30)
    assert hospital_accuracy(random.normal(size=(300, 5)), hospital) == pytest.approx(0.5, abs=0.12)
    clear = random.normal(size=(300, 5)) + 3 * (hospital == "b")[:, None]
    assert hospital_accuracy(clear, hospital) > 0.95


def test_one_hospital_is_not_told() -> None:
    cases, tiles = _drawn(1, 0.7)
    alone = [case for case in cases if case.site == "north"]
    found = measure("e", alone, tiles)
    assert found.hospital_accuracy is None
    assert "1 hospitals of 10 cases or more, so none is told" in found.sentence


def test_a_cohort_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises((InputError, MissingArtifactError), match="c"):
        encoder_robustness(Workspace(tmp_path), "c")
