from dataclasses import replace

import numpy as np
import pytest
import torch

from wsisurv.bags.packed import pack
from wsisurv.errors import FormatError
from wsisurv.formats.models import ModelFile
from wsisurv.models.ensemble import ensemble_of
from wsisurv.models.student import Student
from wsisurv.models.teacher import ReportTimeTeacher, load_teacher
from wsisurv.models.text_branch import LinearText, TextBranch, TextEnsemble, fit_text_scaling


def vectors(n, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (n, 6)).astype(np.float32)


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    scaling = fit_text_scaling(vectors(50), 4)
    text = TextEnsemble(scaling, TextBranch(4, 8, 3).eval(), np.array([0.1, 0.2, 0.3]))
    image = ensemble_of([(Student(5, 8, 0.3, torch.zeros(5), torch.ones(5)), 0.0)])
    return ReportTimeTeacher(image, text, 0.5, 2.0)


def test_scaled_training_statements_are_centred_uncorrelated_and_of_unit_variance_on_average():
    scaled = fit_text_scaling(vectors(200), 4)(vectors(200))
    assert scaled.shape == (200, 4)
    covariance = np.cov(scaled.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-4)
    assert np.trace(covariance) == pytest.approx(4, abs=1e-3)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)


def test_statements_that_are_all_alike_give_one_empty_dimension():
    alike = np.ones((7, 6), np.float32)
    assert fit_text_scaling(alike, 4)(alike).tolist() == [[0.0]] * 7


def test_text_models_do_not_see_each_other():
    torch.manual_seed(0)
    branch = TextBranch(6, 8, 3).eval()
    statements = pack([vectors(4), vectors(2, 1)])
    risk = branch(statements)
    assert risk.shape == (2, 3)
    risk[:, 1].sum().backward()
    for parameter in (branch.weight.grad.transpose(0, 1), branch.bias.grad, branch.score.grad, branch.hazard.grad):
        moved = parameter.flatten(1).abs().sum(1) > 0
        assert moved.tolist() == [False, True, False]


def test_order_of_the_statements_does_not_matter(teacher):
    report = vectors(5, 3)
    assert teacher.text.log_hazard(report) == pytest.approx(teacher.text.log_hazard(report[::-1].copy()), abs=1e-6)


def test_fusion_adds_the_branches_each_in_its_own_spread(teacher):
    tiles, report = np.ones((3, 5), np.float16), vectors(5, 3)
    image, text = teacher.image.log_hazard(tiles), teacher.text.log_hazard(report)
    assert teacher.log_hazard(tiles, report) == pytest.approx(image / 0.5 + text / 2)
    assert teacher.log_hazard(tiles, None) == pytest.approx(image / 0.5)


def test_a_model_file_gives_the_same_risk(teacher):
    again = load_teacher(ModelFile(teacher.arrays(), {}))
    tiles, report = np.ones((3, 5), np.float16), vectors(5, 3)
    assert again.log_hazard(tiles, report) == teacher.log_hazard(tiles, report)


def test_a_file_without_an_array_is_refused(teacher):
    arrays = teacher.arrays()
    del arrays["text/score"]
    with pytest.raises(FormatError, match="Train it again"):
        load_teacher(ModelFile(arrays, {}))


def test_a_straight_line_on_the_mean_statement_is_a_text_branch_too(teacher):
    linear = replace(teacher, text=LinearText(np.full(6, 0.5), np.arange(6.0)))
    tiles, report = np.ones((3, 5), np.float16), vectors(5, 3)
    wanted = (report.astype(np.float64).mean(0) - 0.5) @ np.arange(6.0)
    assert linear.text.log_hazard(report) == pytest.approx(wanted)
    assert linear.log_hazard(tiles, report) == pytest.approx(teacher.image.log_hazard(tiles) / 0.5 + wanted / 2)
    again = load_teacher(ModelFile(linear.arrays(), {}))
    assert again.log_hazard(tiles, report) == linear.log_hazard(tiles, report)
    arrays = {**linear.arrays(), "text/mean": np.zeros(5)}
    with pytest.raises(FormatError, match="mean of shape"):
        load_teacher(ModelFile(arrays, {}))
