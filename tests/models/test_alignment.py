"""What tiles tell about reports, within hospitals: held against worlds in which it is known."""

import numpy as np
import pytest

from wsisurv.formats.report_pairs import ReportPairs
from wsisurv.models.alignment import fit_alignment

FEATURES, WORDS = 6, 9


def world(
    seed: int, n: int = 240, *, told: float, confounded: float, hospitals: int = 12, cohorts: int = 2
) -> ReportPairs:
    """One direction of the mean tile tells ``told`` of one word; hospital moves all tiles and all words."""
    random = np.random.default_rng(seed)
    hospital = random.integers(hospitals, size=n)
    means = random.normal(size=(n, FEATURES)) + confounded * random.normal(size=(hospitals, FEATURES))[hospital]
    words = random.normal(size=(n, WORDS)) + confounded * random.normal(size=(hospitals, WORDS))[hospital]
    words[:, 0] += told * (means[:, 1] - means[:, 2])
    spread = np.abs(random.normal(size=(n, FEATURES)))
    return ReportPairs(
        case_ids=tuple(f"case{row}" for row in range(n)),
        cohorts=tuple(f"cohort{row % cohorts}" for row in hospital),  # a hospital is of one cohort
        hospitals=tuple(f"H{row}" for row in hospital),
        slides=np.hstack([means, spread]).astype(np.float32),
        reports=words.astype(np.float32),
    )


def test_a_planted_direction_is_found():
    fit = fit_alignment(world(0, told=2.0, confounded=0.0))
    assert fit.directions.shape == (FEATURES, len(fit.agreement))
    assert fit.agreement[0] > 0.8
    wanted = np.array([0, 1, -1, 0, 0, 0]) / 2**0.5
    assert np.linalg.norm(np.linalg.qr(fit.directions)[0].T @ wanted) > 0.98
    assert fit.explained > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_what_follows_the_hospital_alone_is_nothing(seed):
    """Stain of slides and style of reports by hospital, and no other tie between them."""
    fit = fit_alignment(world(seed, told=0.0, confounded=3.0))
    assert len(fit.agreement) == 0
    assert fit.explained < 0.02


def test_the_planted_direction_is_found_beneath_the_hospital():
    fit = fit_alignment(world(1, told=2.0, confounded=3.0))
    assert fit.agreement[0] > 0.8
    assert np.linalg.norm(np.linalg.qr(fit.directions)[0].T @ (np.array([0, 1, -1, 0, 0, 0]) / 2**0.5)) > 0.98


def test_units_of_features_change_nothing():
    pairs = world(2, told=2.0, confounded=1.0)
    unit = np.array([1, 1e3, 1e-3, 1, 5, 1], dtype=np.float32)
    scaled = ReportPairs(
        pairs.case_ids, pairs.cohorts, pairs.hospitals, pairs.slides * np.tile(unit, 2), pairs.reports * 7
    )
    one, other = fit_alignment(pairs), fit_alignment(scaled)
    assert other.explained == pytest.approx(one.explained, abs=1e-4)
    projected = [np.linalg.qr(found)[0] for found in (one.directions, other.directions * unit[:, None])]
    np.testing.assert_allclose(*[basis @ basis.T for basis in projected], atol=1e-3)


def test_cases_and_hospitals_are_left_out():
    pairs = world(3, told=1.0, confounded=0.0)
    left = pairs.without(["case0"], [pairs.hospitals[1]])
    gone = [row for row in range(240) if row == 0 or pairs.hospitals[row] == pairs.hospitals[1]]
    assert set(left.case_ids) == set(pairs.case_ids) - {f"case{row}" for row in gone}
    assert pairs.without([], []).case_ids == pairs.case_ids
    spoilt = ReportPairs(pairs.case_ids, pairs.cohorts, pairs.hospitals, pairs.slides.copy(), pairs.reports.copy())
    spoilt.slides[gone], spoilt.reports[gone] = 1e6, -1e6
    one, other = fit_alignment(left), fit_alignment(spoilt.without(["case0"], [pairs.hospitals[1]]))
    np.testing.assert_array_equal(one.directions, other.directions)


def test_a_case_alone_in_its_hospital_or_of_none_is_not_compared():
    pairs = world(4, n=40, told=1.0, confounded=0.0, hospitals=3)
    names = ("", "alone", *pairs.hospitals[2:])
    odd = ReportPairs(pairs.case_ids, pairs.cohorts, names, pairs.slides, pairs.reports)
    assert fit_alignment(odd).n_cases <= 38
    assert not {"case0", "case1"} & set(odd.comparable().case_ids)


@pytest.mark.parametrize("hospitals", [0, 1])
def test_one_hospital_teaches_nothing(hospitals):
    pairs = world(5, n=40, told=1.0, confounded=0.0)
    names = ("H",) * 40 if hospitals else ("",) * 40
    with pytest.raises(ValueError, match=rf"{hospitals} hospital\(s\)"):
        fit_alignment(ReportPairs(pairs.case_ids, ("c",) * 40, names, pairs.slides, pairs.reports))
