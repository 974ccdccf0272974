"""Net benefit against counts by hand, and what holds of any decision curve."""

import numpy as np
import pytest

from wsisurv.errors import MetricError
from wsisurv.survival.net_benefit import net_benefit


def test_without_censoring_it_is_true_less_false_positives_at_the_odds():
    rng = np.random.default_rng(0)
    time = rng.exponential(10, 200)
    survival = np.clip(time / 30 + rng.normal(0, 0.2, 200), 0, 1)
    levels = [0.1, 0.3, 0.5, 0.8]
    found = net_benefit(survival=survival, horizon=8, thresholds=levels, time=time, event=np.ones(200))
    for level, value, everybody in zip(levels, found.model, found.treat_all, strict=True):
        acted, died = 1 - survival >= level, time <= 8
        odds = level / (1 - level)
        assert value == pytest.approx(((acted & died).sum() - odds * (acted & ~died).sum()) / 200)
        assert everybody == pytest.approx((died.sum() - odds * (~died).sum()) / 200)


def test_acting_on_everybody_by_a_model_that_says_so_is_treating_all():
    rng = np.random.default_rng(1)
    time, event = rng.exponential(10, 60), rng.random(60) < 0.6
    found = net_benefit(survival=np.zeros(60), horizon=5, thresholds=[0.2, 0.6], time=time, event=event)
    assert found.model == pytest.approx(found.treat_all)
    nobody = net_benefit(survival=np.ones(60), horizon=5, thresholds=[0.2, 0.6], time=time, event=event)
    assert nobody.model.tolist() == [0, 0]


def test_a_perfect_model_is_worth_the_share_of_events_at_any_threshold():
    time = np.array([1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 14.0])
    found = net_benefit(
        survival=(time > 5).astype(float), horizon=5, thresholds=[0.1, 0.9], time=time, event=np.ones(8)
    )
    assert found.model == pytest.approx([3 / 8, 3 / 8])


def test_no_model_is_worth_more_than_the_events_of_all():
    """Of the few acted on at a high threshold Kaplan-Meier falls to 0 where the last of them dies."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        risk = rng.normal(size=40)
        death, end = rng.exponential(10 * np.exp(-risk)), rng.exponential(6, 40)
        time, event = np.minimum(death, end), death <= end
        found = net_benefit(
            survival=np.exp(-0.5 * np.exp(risk)), horizon=5, thresholds=np.linspace(0.01, 0.95, 60), time=time,
            event=event,
        )  # fmt: skip
        odds = found.thresholds[0] / (1 - found.thresholds[0])
        events = (found.treat_all[0] + odds) / (1 + odds)  # 1 − S(t) of all
        assert np.nanmax(found.model) <= events + 1e-12


def test_rough_curve_of_a_few_is_capped_at_the_events_of_all():
    """Two of twelve acted on, one censored early and one dead: 1 − S of them is 1, more deaths than there were."""
    time = np.array([1.0, 2.0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
    event = np.array([0, 1] + 10 * [0])
    survival = np.array([0.1, 0.1] + 10 * [0.9])
    found = net_benefit(survival=survival, horizon=5, thresholds=[0.2], time=time, event=event)
    deaths = 1 / 11
    assert found.model == pytest.approx([deaths - (2 / 12 - deaths) * 0.25])


def test_nothing_is_said_where_the_last_of_those_acted_on_is_censored_before_the_horizon():
    time = np.array([1.0, 2.0, 9, 9, 9, 9])
    survival = np.array([0.1, 0.1, 0.9, 0.9, 0.9, 0.9])
    censored = net_benefit(survival=survival, horizon=5, thresholds=[0.05, 0.2], time=time, event=[1, 0, 0, 0, 0, 0])
    assert np.isnan(censored.model).tolist() == [False, True]
    cause = net_benefit(
        survival=survival, horizon=5, thresholds=[0.2], time=time, event=[1, 0, 0, 0, 0, 0], cause=[1, 2, 0, 0, 0, 0]
    )
    assert np.isfinite(cause.model).all()  # all acted on have ended, one by a competing event


@pytest.mark.parametrize(
    "change", [{"thresholds": [0.0]}, {"thresholds": [1.0]}, {"horizon": 99}, {"survival": [0.5, 2.0, 0.1]}]
)
def test_what_can_not_be_is_refused(change):
    given = {"survival": [0.5, 0.2, 0.1], "horizon": 2, "thresholds": [0.5], "time": [1, 2, 3], "event": [1, 0, 1]}
    with pytest.raises(MetricError):
        net_benefit(**{**given, **change})
