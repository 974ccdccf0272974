"""Contributions add up, extreme tiles lie apart, and features are compared as the textbook does."""

import numpy as np
import pytest
import torch

from wsisurv.formats.features import Features
from wsisurv.models.ensemble import Ensemble, ensemble_of
from wsisurv.models.filter import TileFilter
from wsisurv.models.student import Student
from wsisurv.prediction.contributions import (
    extreme_tiles,
    feature_shifts,
    score_tiles,
    spread_out,
)
from wsisurv.units import SlideId

N_FEATURES = 5
NAMES = tuple("abcde")


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        members = [Student(N_FEATURES, 8, 0.0, torch.zeros(N_FEATURES), torch.ones(N_FEATURES)) for _ in range(3)]
    return ensemble_of([(member, 0.3 * number - 0.2) for number, member in enumerate(members)])


def slide(name: str, n_tiles: int, seed: int = 0) -> Features:
    rng = np.random.default_rng([seed, n_tiles])
    values = rng.normal(size=(n_tiles, N_FEATURES)).astype(np.float16)
    coords = rng.integers(0, 5000, size=(n_tiles, 2))
    return Features(SlideId(name), values, coords, "histomics", NAMES, {}, 0.5)


def test_contributions_of_all_slides_add_up_to_the_log_hazard_of_the_members_that_may_speak(ensemble, alone):
    slides = [slide("A", 7), slide("B", 0), slide("C", 4)]
    values = np.concatenate([one.values for one in slides])
    for wanted in ([True, True, True], [False, True, False]):
        tiles = score_tiles(ensemble.only(np.array(wanted)), slides)
        assert tiles.contribution.sum() == pytest.approx(alone(ensemble, values)[wanted].mean(), abs=1e-6)
        assert tiles.log_hazard == pytest.approx(tiles.contribution.sum())
        assert tiles.attention.sum() == pytest.approx(1)
        assert tiles.slide.tolist() == [0] * 7 + [2] * 4
        assert (tiles.coords == np.concatenate([one.coords for one in slides])).all()
        assert tiles.exact
        assert tiles.kept is None


def test_a_model_that_looks_at_tiles_together_says_that_its_parts_are_stand_ins(alone):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        student = Student(N_FEATURES, 8, 0.0, torch.zeros(N_FEATURES), torch.ones(N_FEATURES), "selfattention")
    together = ensemble_of([(student, 0.1)])
    one = slide("A", 9)
    tiles = score_tiles(together, [one])
    assert not tiles.exact
    assert tiles.log_hazard == pytest.approx(alone(together, one.values).mean(), abs=1e-5)


def test_tiles_that_a_hard_filter_left_out_contribute_nothing():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        student = Student(N_FEATURES, 8, 0.0, torch.zeros(N_FEATURES), torch.ones(N_FEATURES))
        student.filter = TileFilter(N_FEATURES, hard=True, keep_share=0.5)
    tiles = score_tiles(ensemble_of([(student, 0.1)]), [slide("A", 10)])
    assert tiles.kept is not None
    assert sorted(tiles.kept) == [0] * 5 + [1] * 5
    assert (tiles.contribution[tiles.kept == 0] == 0).all()
    plain = Student(N_FEATURES, 8, 0.0, torch.zeros(N_FEATURES), torch.ones(N_FEATURES))
    tiles = score_tiles(ensemble_of([(student, 0.1), (plain, 0.0)]), [slide("A", 10)])
    assert sorted(tiles.kept) == [0.5] * 5 + [1] * 5  # a member without a filter keeps all


def test_a_case_without_a_tile_has_no_log_hazard(ensemble):
    tiles = score_tiles(ensemble, [slide("A", 0)])
    assert tiles.log_hazard is None
    assert len(tiles.values) == len(tiles.coords) == 0
    assert len(extreme_tiles(tiles.contribution, highest=True)) == 0


@pytest.mark.parametrize("n_told", [11, 10])
def test_relevance_of_other_tiles_is_not_shown(ensemble, n_told):
    told = score_tiles(ensemble, [slide("A", 11)], np.full(n_told, 1 / n_told)).relevance
    assert (told is not None) == (n_told == 11)


def test_the_extreme_tiles_are_a_tenth_and_in_order():
    contribution = np.random.default_rng(0).normal(size=50)
    top, bottom = extreme_tiles(contribution, highest=True), extreme_tiles(contribution, highest=False)
    assert contribution[top].tolist() == sorted(contribution, reverse=True)[:5]
    assert contribution[bottom].tolist() == sorted(contribution)[:5]
    assert len(extreme_tiles(np.zeros(3), highest=True)) == 1
    assert len(extreme_tiles(contribution, highest=True, share=0.25)) == 12


def test_no_shown_tile_lies_over_another_of_its_slide():
    rng = np.random.default_rng(1)
    coords, slides = rng.integers(0, 400, size=(80, 2)), rng.integers(0, 2, size=80)
    chosen = spread_out(np.arange(80), slides, coords, np.full(80, 100.0), 6)
    assert chosen[0] == 0
    assert len(chosen) == 6
    for one in chosen:
        for other in chosen:
            if one != other and slides[one] == slides[other]:
                assert np.abs(coords[one] - coords[other]).max() >= 99


def test_neighbours_that_only_touch_are_both_shown():
    coords = np.array([[0, 0], [447, 0], [100, 0]])  # 447.96 px a side, cut to whole pixels
    assert spread_out(np.arange(3), np.zeros(3, int), coords, np.full(3, 447.96), 3) == [0, 1]


def test_the_difference_is_the_standardised_one_and_what_it_adds_is_found_by_taking_it_away(ensemble, alone):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40, N_FEATURES))
    rows = np.arange(6)
    values[rows, 2] += 4
    values[:, 4] = 1.0  # the same everywhere: says nothing
    shifts = feature_shifts(ensemble, values, rows, NAMES, {"c": ("µm", "what c is")}, count=9)
    assert shifts[0].name == "c"
    assert (shifts[0].unit, shifts[0].definition) == ("µm", "what c is")
    assert {shift.name for shift in shifts} == set("abcd")
    sizes = [abs(shift.difference) for shift in shifts]
    assert sizes == sorted(sizes, reverse=True)
    these, others = values[:6, 2], values[6:, 2]
    sd = np.sqrt((these.var(ddof=1) + others.var(ddof=1)) / 2)
    assert shifts[0].difference == pytest.approx((these.mean() - others.mean()) / sd)
    without = values.copy()
    without[:6, 2] = others.mean()
    assert shifts[0].adds == pytest.approx(alone(ensemble, values).mean() - alone(ensemble, without).mean(), abs=1e-5)


@pytest.mark.parametrize(("names", "n_tiles", "n_rows"), [((), 20, 4), (NAMES, 20, 1), (NAMES, 3, 2)])
def test_without_names_or_with_too_few_tiles_no_features_are_compared(ensemble, names, n_tiles, n_rows):
    values = np.random.default_rng(0).normal(size=(n_tiles, N_FEATURES))
    assert feature_shifts(ensemble, values, np.arange(n_rows), names, {}) == ()
