"""Figures with weights for censoring against scikit-survival (GPL, only to check); skipped where it is not here."""

import numpy as np
import pytest

from wsisurv.survival.calibration import brier
from wsisurv.survival.dynamic import dynamic_auc
from wsisurv.survival.stratified import FoldScores, uno_within

metrics = pytest.importorskip("sksurv.metrics")
from sksurv.util import Surv  # noqa: E402 - after the skip

AT = [1.1, 2.1, 3.1]


@pytest.mark.parametrize("unit", [0.0, 0.25])
def test_unos_concordance_auc_and_brier_score(unit: float) -> None:
    """Of times of their own, and of quarters of a year, where most are shared.

    There scikit-survival's weights for events are 1/G(T), which takes the censorings of that very time off; with these
    a moment later, as by the convention that events come first, it says the same.
    """
    rng = np.random.default_rng(0)
    risk = np.round(rng.normal(size=400), 1)
    death, end = rng.exponential(3 * np.exp(-risk)), rng.uniform(0.2, 6, 400)
    time, event = np.minimum(death, end), death <= end
    if unit:
        time = np.ceil(time / unit) * unit
    theirs = Surv.from_arrays(event, np.where(event, time, time + 1e-9))
    until = 3.1
    whole = [FoldScores(0, np.arange(400), risk[None], 1)]
    found = uno_within(whole, time=time, event=event, resamples=1, until=until)
    assert found.whole.value[0] == pytest.approx(metrics.concordance_index_ipcw(theirs, theirs, risk, tau=until)[0])
    auc = dynamic_auc(log_hazard=risk, time=time, event=event, horizons=AT)
    each, mean = metrics.cumulative_dynamic_auc(theirs, theirs, risk, AT)
    assert auc.auc == pytest.approx(each)
    assert auc.mean == pytest.approx(mean)
    if unit:
        as_they_are = Surv.from_arrays(event, time)
        theirs_of_ties = metrics.concordance_index_ipcw(as_they_are, as_they_are, risk, tau=until)[0]
        assert 1e-5 < abs(found.whole.value[0] - theirs_of_ties) < 0.001
    survival = np.exp(-np.exp(risk)[:, None] * np.array(AT) / 3)
    score = brier(survival=survival, horizons=AT, time=time, event=event)
    assert score.score == pytest.approx(metrics.brier_score(theirs, theirs, survival, AT)[1])
