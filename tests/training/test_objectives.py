import numpy as np
import pytest
import torch

from wsisurv.settings.training import DistillSettings
from wsisurv.survival.losses import cox_loss, discrete_loss, ranking_loss, time_bins
from wsisurv.training.student_loss import (
    OutcomeTensors,
    TeacherTarget,
    agreement_loss,
    common_logits,
    outcome_loss,
    target_tensors,
)


def cohort(n=60, seed=0):
    g = torch.Generator().manual_seed(seed)
    time, event = torch.randint(1, 40, (n,), generator=g).double(), torch.rand(n, generator=g) < 0.5
    offset = torch.randn(n, generator=g, dtype=torch.float64)
    return OutcomeTensors(time, event, time_bins(time=time, event=event, n_bins=4), offset)


def settings(**changes):
    return DistillSettings(**changes)


def test_a_given_risk_is_added_and_each_loss_is_the_one_of_its_name():
    follow_up, risk = cohort(), torch.randn(60, 1, generator=torch.Generator().manual_seed(1))
    given = (risk.squeeze(1) + follow_up.offset).double()
    what = {"time": follow_up.time, "event": follow_up.event}
    torch.testing.assert_close(outcome_loss(settings(), risk, follow_up), cox_loss(log_hazard=given, **what))
    torch.testing.assert_close(
        outcome_loss(settings(loss="ranking"), risk, follow_up), ranking_loss(log_hazard=given, **what)
    )
    logits = risk.expand(-1, 4) + torch.arange(4.0)
    torch.testing.assert_close(
        outcome_loss(settings(loss="discrete"), logits, follow_up),
        discrete_loss(logits=logits + follow_up.offset.unsqueeze(1), edges=follow_up.edges, **what),
    )


def test_common_logits_are_the_best_for_all_cases_together():
    follow_up = OutcomeTensors(cohort(3000).time, cohort(3000).event, cohort(3000).edges)
    start = common_logits(follow_up).double()

    def loss(logits):
        return outcome_loss(settings(loss="discrete"), logits.expand(3000, -1), follow_up)

    for bin in range(4):
        for step in (-0.1, 0.1):
            moved = start.clone()
            moved[bin] += step
            assert float(loss(moved)) > float(loss(start))


def test_the_teachers_word_is_put_on_the_scale_of_log_hazards():
    follow_up = cohort(300)
    g = torch.Generator().manual_seed(3)
    truth = torch.randn(300, generator=g, dtype=torch.float64).numpy()
    time = torch.from_numpy(np.random.default_rng(0).exponential(np.exp(-truth))) + 0.01
    follow_up = OutcomeTensors(
        time, torch.ones(300, dtype=torch.bool), time_bins(time=time, event=torch.ones(300).bool())
    )
    risk = np.where(np.arange(300) % 5 == 0, np.nan, 4 * truth)
    told = target_tensors(TeacherTarget(risk, 0.5), np.arange(300), follow_up, settings(distill="mse"))
    assert told is not None
    assert len(told.rows) == 240
    assert told.slope == pytest.approx(0.25, abs=0.04)
    said = torch.from_numpy(told.slope * risk[told.rows.numpy()])
    assert float(agreement_loss(settings(distill="mse"), told, said[:, None], said, told.risk, None)) < 1e-9
    correlated = target_tensors(TeacherTarget(risk, 0.5), np.arange(300), follow_up, settings())
    assert correlated is not None
    assert correlated.slope == 1.0


@pytest.mark.parametrize("distill", ["listwise-kl", "attention-kl", "none"])
def test_mixed_cases_have_no_risk_set_and_no_tiles_that_the_teacher_saw(distill):
    follow_up = cohort()
    risk = torch.randn(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    told = target_tensors(
        TeacherTarget(risk.detach().numpy(), 1.0), np.arange(60), follow_up, settings(distill=distill)
    )
    assert told is not None
    loss = agreement_loss(settings(distill=distill), told, risk[:, None], risk, told.risk, None)
    loss.backward()
    assert loss.item() == 0
    assert risk.grad is not None


@pytest.mark.parametrize("known", [0, 1])
def test_a_teacher_with_a_word_on_fewer_than_two_cases_has_none(known):
    risk = np.full(60, np.nan)
    risk[:known] = 1.0
    assert target_tensors(TeacherTarget(risk, 1.0), np.arange(60), cohort(), settings()) is None
    assert target_tensors(None, np.arange(60), cohort(), settings()) is None


@pytest.mark.parametrize(("n_told", "weight"), [(60, 1.5), (15, 0.375)])
def test_a_few_reports_weigh_little_beside_the_outcome_of_all_cases(n_told, weight):
    risk = np.full(80, np.nan)
    train = np.arange(10, 70)
    risk[train[:n_told]] = np.linspace(-1, 1, n_told)
    told = target_tensors(TeacherTarget(risk, gate=0.5), train, cohort(), settings(guidance_weight=3.0))
    assert told.rows.tolist() == list(range(n_told))
    assert told.weight == pytest.approx(weight)
