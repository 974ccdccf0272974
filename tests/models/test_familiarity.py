"""Cases like the training's are familiar, others are not, and what is familiar is learned from cases left out."""

import numpy as np
import pytest

from wsisurv.errors import FormatError
from wsisurv.models.familiarity import fit_familiarity, load_familiarity

MEMBERS, WIDTH = 3, 5


def cohort(n=300, *, sites=1, spread=0.0, seed=0):
    """States of n cases by each member, the hospital of each, and who has seen whom; hospitals differ by ``spread``."""
    rng = np.random.default_rng(seed)
    site = rng.integers(0, sites, n)
    mixing = rng.normal(size=(MEMBERS, WIDTH, WIDTH))
    states = rng.normal(size=(n, WIDTH)) + spread * rng.normal(size=(sites, WIDTH))[site]
    pooled = np.einsum("nw,mwv->mnv", states, mixing)
    fold = rng.integers(0, MEMBERS, n)
    seen = np.arange(MEMBERS)[:, None] != fold[None]
    return pooled, [f"h{number}" for number in site], seen, mixing


def flagged(familiarity, pooled):
    far = [familiarity.distances(pooled[:, case]).mean() > familiarity.threshold for case in range(pooled.shape[1])]
    return np.mean(far)


def test_new_cases_of_the_same_kind_are_flagged_in_about_one_of_twenty():
    pooled, site, seen, _ = cohort(600)
    familiarity = fit_familiarity(pooled[:, :300], seen=seen[:, :300], site=[None] * 300)
    assert 0.01 <= flagged(familiarity, pooled[:, 300:]) <= 0.1
    assert flagged(familiarity, pooled[:, 300:] + 8) == 1


def test_a_new_hospital_is_familiar_if_hospitals_differ_but_nothing_else_is():
    pooled, site, seen, mixing = cohort(400, sites=10, spread=1.5)
    new = np.array([name == "h9" for name in site])
    old = [name for name in site if name != "h9"]
    by_site = fit_familiarity(pooled[:, ~new], seen=seen[:, ~new], site=old)
    by_case = fit_familiarity(pooled[:, ~new], seen=seen[:, ~new], site=[None] * len(old))
    assert by_site.threshold > by_case.threshold
    assert flagged(by_site, pooled[:, new]) <= flagged(by_case, pooled[:, new])
    strange = np.einsum("nw,mwv->mnv", np.full((1, WIDTH), 12.0), mixing)
    assert flagged(by_site, strange) == 1


def test_familiarity_falls_with_distance_from_one_to_nearly_none():
    pooled, _, seen, _ = cohort(99)
    familiarity = fit_familiarity(pooled, seen=seen, site=[None] * 99)
    shares = [familiarity.share(distance) for distance in np.linspace(0, 50, 100)]
    assert shares[0] == 1
    assert shares[-1] == pytest.approx(0.01)
    assert (np.diff(shares) <= 0).all()


def test_one_hospital_of_most_cases_is_not_left_out_whole():
    pooled, _, seen, _ = cohort(100)
    site = ["big"] * 80 + ["small"] * 20
    together = fit_familiarity(pooled, seen=seen, site=[None] * 100)
    np.testing.assert_array_equal(fit_familiarity(pooled, seen=seen, site=site).left_out, together.left_out)


def test_few_cases_of_many_numbers_and_a_state_that_never_varies():
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(2, 6, 40))
    pooled[:, :, 3] = 0
    seen = np.array([[True, True, True, False, False, False], [False, False, False, True, True, True]])
    familiarity = fit_familiarity(pooled, seen=seen, site=[None] * 6)
    assert np.isfinite(familiarity.left_out).all()
    assert len(familiarity.left_out) == 6
    assert np.isfinite(familiarity.distances(rng.normal(size=(2, 40)))).all()
    alike = fit_familiarity(np.ones((2, 6, 4)), seen=seen, site=[None] * 6)
    assert alike.threshold == 0
    assert alike.distances(np.full((2, 4), 1.1)).min() > 0


def test_too_few_cases_to_leave_any_out_call_nothing_odd():
    seen = np.array([[True, False], [False, True]])
    familiarity = fit_familiarity(np.random.default_rng(0).normal(size=(2, 2, 4)), seen=seen, site=[None, None])
    distance = familiarity.distances(np.full((2, 4), 9.0)).mean()
    assert distance < familiarity.threshold
    assert familiarity.share(distance) == 1


def test_read_back_as_written_and_refused_where_it_does_not_fit():
    pooled, _, seen, _ = cohort(60)
    familiarity = fit_familiarity(pooled, seen=seen, site=[None] * 60)
    again = load_familiarity(familiarity.arrays(), MEMBERS, WIDTH)
    np.testing.assert_array_equal(again.precision, familiarity.precision)
    assert again.threshold == familiarity.threshold
    with pytest.raises(FormatError, match="familiarity is damaged"):
        load_familiarity(familiarity.arrays(), MEMBERS + 1, WIDTH)
    with pytest.raises(FormatError, match="familiarity/mean"):
        load_familiarity({}, MEMBERS, WIDTH)
