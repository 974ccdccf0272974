"""Members trained side by side learn what each would learn alone, and along a basis what projected weights would."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wsisurv.bags.packed import HeldRows, bags_of, in_parts, pack
from wsisurv.models.student import Student, share_scaling_of
from wsisurv.settings.training import DistillSettings
from wsisurv.training.inputs import read_training_cases
from wsisurv.training.loop import Log
from wsisurv.training.side_by_side import SharedCases
from wsisurv.training.student_loss import TeacherTarget
from wsisurv.training.students import StudentPlan, train_students
from wsisurv.training.subspace import project_rows

CPU = torch.device("cpu")
ALL_TILES = DistillSettings(
    learning_rate=1e-2, weight_decay=1e-3, hidden=8, epochs=6, tiles_per_bag=0, dropout=0.0, distill="correlation"
)


@pytest.fixture
def cases(make_trial):
    trial = make_trial(30)
    return read_training_cases(
        trial.workspace, trial.cohort, encoder="histomics", text_encoder="hashing", allow_random_weights=False
    )


def learn(cases, plans, tmp_path, settings=ALL_TILES):
    log = Log(tmp_path / "history.jsonl", "distill", lambda *_: None)
    return train_students(cases, plans, settings, device=CPU, part="students", log=log)


def close(one, other, tolerance):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("aggregator", ["mean", "abmil", "selfattention"])
def test_members_side_by_side_learn_what_each_learns_alone(cases, tmp_path, aggregator):
    settings = ALL_TILES.model_copy(update={"aggregator": aggregator})
    rng = np.random.default_rng(0)
    plans = [
        StudentPlan(rng.permutation(30)[:20], 7, TeacherTarget(rng.normal(size=30), 1.0) if guided else None)
        for guided in (True, False, True)
    ]
    together = learn(cases, plans, tmp_path, settings)
    for plan, student in zip(plans, together, strict=True):
        (alone,) = learn(cases, [plan], tmp_path, settings)
        risks = (in_parts(one, cases.bags).detach() for one in (student, alone))
        found, expected = (risk - risk.mean() for risk in risks)  # the loss has no say in a common shift
        assert float((found - expected).abs().max()) < 0.02 * float(expected.std())
    first, second = (one.embed.weight.detach() for one in together[:2])
    assert float((first - second).abs().max()) > 0.02


def test_features_of_cases_that_are_not_trained_on_are_not_looked_at(cases, tmp_path):
    rows = cases.bags.source.rows.clone()
    unseen = cases.bags.select(torch.arange(20, 30)).index
    rows[unseen] = torch.randn(len(unseen), rows.shape[1]).to(rows.dtype)
    other = replace(cases, bags=replace(cases.bags, source=HeldRows(rows)))
    settings = ALL_TILES.model_copy(update={"tiles_per_bag": 8, "dropout": 0.2})
    (one,), (same,) = (learn(given, [StudentPlan(np.arange(20), 1)], tmp_path, settings) for given in (cases, other))
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])


def test_along_a_basis_students_learn_what_projected_weights_of_all_features_learn(cases, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    bases = [torch.from_numpy(np.linalg.qr(rng.normal(size=(12, 3)))[0]).float() for _ in range(2)]
    plans = [
        StudentPlan(np.arange(30)[number::2], number, TeacherTarget(rng.normal(size=30), 1.0, subspace=basis))
        for number, basis in enumerate(bases)
    ]
    along = learn(cases, plans, tmp_path)
    monkeypatch.setattr("wsisurv.training.students._Course.along", lambda course, _: course)
    for student, whole, basis in zip(along, learn(cases, plans, tmp_path), bases, strict=True):
        close(student, whole, 0.02)  # half precision of what is projected
        weight = student.embed.weight.detach()
        torch.testing.assert_close(weight @ basis @ basis.T, weight)


class OnDisk:
    """Rows that are not held."""

    def __init__(self, rows):
        self.rows, self.shape = rows, tuple(rows.shape)

    def take(self, rows):
        return self.rows[rows]


@pytest.mark.parametrize("on_disk", [False, True])
def test_projected_rows_are_scaled_features_along_each_basis(tmp_path, monkeypatch, on_disk):
    monkeypatch.setattr("wsisurv.training.subspace.PART_ROWS", 7)
    rng = np.random.default_rng(2)
    bags = bags_of(pack([rng.normal(3, 2, (n, 6)) for n in (5, 11, 4)]))
    students = [Student(6, 4, 0.0, torch.full((6,), mean), torch.full((6,), 2.0)) for mean in (3.0, 2.5)]
    bases = [torch.from_numpy(np.linalg.qr(rng.normal(size=(6, r)))[0]).float() for r in (2, 1)]
    given = replace(bags, source=OnDisk(bags.source.rows)) if on_disk else bags
    projected = project_rows(given, share_scaling_of(students), bases, tmp_path)
    found = projected.select(torch.tensor([2, 0])).load().rows.float()
    rows = bags.select(torch.tensor([2, 0])).load().rows
    expected = torch.cat([one.scaled(rows) @ basis for one, basis in zip(students, bases, strict=True)], 1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert isinstance(projected.source, HeldRows) != on_disk
    assert not list(tmp_path.iterdir())


def test_moments_of_a_member_are_of_its_own_cases():
    bags = bags_of(pack([np.full((2, 1), value) for value in (1.0, 3.0, 100.0)]))
    first, second = SharedCases((torch.tensor([0, 1]), torch.tensor([1, 2]))).moments(bags)
    assert (float(first.mean), float(first.sd)) == (2.0, 1.0)
    assert (float(second.mean), float(second.sd)) == (51.5, 48.5)
