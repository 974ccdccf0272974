from dataclasses import replace

import numpy as np
import pytest
import torch

from wsisurv.bags.packed import PackedBags, bags_of, in_parts, pack
from wsisurv.errors import SettingsError
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import read_model
from wsisurv.formats.text_vectors import read_text_vectors, write_text_vectors
from wsisurv.models.joint import KINDS, JointTeacher
from wsisurv.models.teacher import load_teacher
from wsisurv.settings.training import TeacherSettings
from wsisurv.survival.losses import cox_loss
from wsisurv.training.inputs import read_training_cases
from wsisurv.training.relevance import read_teacher, relevance_without
from wsisurv.training.teacher import train_teacher

FAST = TeacherSettings(
    hidden=16, epochs=15, learning_rate=2e-2, dropout=0.5, text_branch="attention", text_epochs=30, repeats=1, folds=3
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_seen_in_a_pack_as_alone_in_any_order_and_merged_tiles_count_as_many(kind):
    torch.manual_seed(0)
    model = JointTeacher(kind, 4, 8, 0.3, torch.zeros(5), torch.ones(5), "abmil").eval()
    rng = np.random.default_rng(0)
    tiles = [rng.normal(0, 1, (n, 5)).astype(np.float32) for n in (3, 9, 1)]
    reports = [rng.normal(0, 1, (n, 4)).astype(np.float32) for n in (2, 1, 6)]
    with torch.inference_mode():
        together = model.look(pack(tiles), pack(reports))
        start = 0
        for number, (bag, report) in enumerate(zip(tiles, reports, strict=True)):
            alone = model.look(pack([bag[::-1].copy()]), pack([report[::-1].copy()]))
            relevance = together.relevance[start : start + len(bag)]
            torch.testing.assert_close(alone.log_hazard[0], together.log_hazard[number])
            torch.testing.assert_close(alone.relevance.flip(0), relevance)
            assert float(relevance.sum()) == pytest.approx(1, abs=1e-5)
            start += len(bag)
        repeated = model(pack([tiles[0][[0, 1, 1, 2]]]), pack(reports[:1]))
        once = pack(tiles[:1])
        weighted = PackedBags(once.rows, once.offsets, torch.tensor([1.0, 2.0, 1.0]))
        torch.testing.assert_close(model(weighted, pack(reports[:1])), repeated)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind):
    model = JointTeacher(kind, 4, 8, 0.3, torch.zeros(5), torch.ones(5), "abmil")
    rng = np.random.default_rng(0)
    tiles, reports = (
        pack([rng.normal(0, 1, (n, width)).astype(np.float32) for n in (3, 9)]) for width in (5, 4)
    )  # fmt: skip
    model(tiles, reports).diff().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().max()) > 0, name


def test_cross_attention_is_its_equations():
    """u_s = Σ_t softmax_t(T_s Q · H_t K / √h) H_t, the case an attention pool of [u_s, T_s]."""
    torch.manual_seed(0)
    model = JointTeacher("cross-attention", 4, 8, 0.3, torch.full((5,), 0.2), torch.full((5,), 1.5), "abmil").eval()
    rng = np.random.default_rng(0)
    tiles, report = rng.normal(0, 1, (7, 5)).astype(np.float32), rng.normal(0, 1, (3, 4)).astype(np.float32)
    with torch.inference_mode():
        sight = model.look(pack([tiles]), pack([report]))
        seen = torch.relu(model.tiles((torch.from_numpy(tiles) - 0.2) / 1.5))
        said = torch.relu(model.statements(torch.from_numpy(report)))
        share = torch.softmax(model.query(said) @ model.key(seen).T / 8**0.5, 1)
        looked = share @ seen
        importance = torch.softmax(model.score(torch.tanh(looked + said)), 0)
        case = (importance * torch.cat([looked, said], 1)).sum(0)
        torch.testing.assert_close(sight.log_hazard, model.hazard(case))
        torch.testing.assert_close(sight.relevance, (importance * share).sum(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cohort_part_by_part_gives_the_gradient_of_one_pass_and_memory_changes_no_bit(kind, monkeypatch):
    rng = np.random.default_rng(0)
    cohort = bags_of(pack([rng.normal(0, 1, (n, 5)).astype(np.float32) for n in (3, 60, 1, 40, 9, 30)]))
    reports = pack([rng.normal(0, 1, (n, 4)).astype(np.float32) for n in (2, 1, 6, 3, 1, 4)])

    def gradients(run, dropout):
        torch.manual_seed(0)
        model = JointTeacher(kind, 4, 8, dropout, torch.zeros(5), torch.ones(5), "abmil")
        model.train() if dropout else model.eval()
        torch.manual_seed(1)
        cox_loss(log_hazard=run(model), time=torch.arange(6) + 1.0, event=torch.ones(6).bool()).backward()
        return [parameter.grad for parameter in model.parameters()]

    whole = gradients(lambda model: model(cohort.load(), reports), 0.0)
    monkeypatch.setattr("wsisurv.bags.packed.PART_ROWS", 64)
    assert len(list(cohort.parts())) > 2
    for dropout in (0.0, 0.3):
        little, much = (
            gradients(lambda model, n=n: in_parts(model, replace(cohort, keep_bytes=n), reports), dropout)
            for n in (0, 1 << 40)
        )
        assert all(torch.equal(one, other) for one, other in zip(little, much, strict=True))
        if not dropout:
            torch.testing.assert_close(little, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_is_out_of_fold_and_the_teacher_is_read_back(make_trial, kind):
    trial = make_trial(70, effect=2.0, reported=0.9)
    settings = FAST.model_copy(update={"teacher": kind, "repeats": 2})
    result = train_teacher(trial.workspace, trial.cohort, settings)
    guidance, _ = read_guidance(trial.path("guidance.h5"))
    told = np.isfinite(guidance.text_risk)
    assert result.gate > 0
    assert result.fused_concordance > 0.5
    assert (np.isfinite(guidance.risk) == told).all()
    assert not np.allclose(guidance.risk[told], guidance.text_risk[told])
    for k, risk in enumerate(guidance.risk_without):
        assert (np.isfinite(risk) == (told & (guidance.fold != k))).all()
    for relevance in guidance.relevance.values():
        assert relevance.sum() == pytest.approx(1, abs=1e-4)

    teacher = load_teacher(read_model(trial.path("teacher.h5"), "teacher")[0])
    tiles, said = np.ones((3, 12), np.float16), np.ones((2, 24), np.float32)
    assert teacher.joint is not None
    assert teacher.log_hazard(tiles, said) == teacher.joint.log_hazard(tiles, said) / teacher.joint_sd
    assert teacher.log_hazard(tiles, None) == teacher.image.log_hazard(tiles) / teacher.image_sd


def relevance(trial):
    """What a student that must not know a fold is told of tiles, for two folds."""
    teacher = read_teacher(trial.path("teacher.h5"), read_guidance(trial.path("guidance.h5"))[1])
    cases = read_training_cases(
        trial.workspace, trial.cohort, encoder="histomics", text_encoder="hashing", allow_random_weights=False
    )
    return [relevance_without(teacher, cases, fold) for fold in range(2)]


def test_guidance_without_a_fold_knows_no_outcome_of_it(make_trial):
    trial = make_trial(60)
    settings = FAST.model_copy(update={"teacher": "cross-attention", "epochs": 5})
    train_teacher(trial.workspace, trial.cohort, settings)
    before, _ = read_guidance(trial.path("guidance.h5"))
    told = relevance(trial)
    cases = list(trial.cohort.cases)
    rows = [i for i in np.flatnonzero(before.fold == 1) if cases[i].event]
    turned = [cases[i].time for i in rows[1:] + rows[:1]]
    for i, time in zip(rows, turned, strict=True):
        cases[i] = replace(cases[i], time=time)
    train_teacher(trial.workspace, replace(trial.cohort, cases=tuple(cases)), settings, redo=True)
    after, _ = read_guidance(trial.path("guidance.h5"))
    np.testing.assert_array_equal(before.risk_without[1], after.risk_without[1])
    assert before.gate_without[1] == after.gate_without[1]
    assert torch.equal(told[1], relevance(trial)[1])
    assert not torch.equal(told[0], relevance(trial)[0])
    assert (before.risk_without[0][before.fold == 2] != after.risk_without[0][before.fold == 2]).any()


def test_two_folds_are_too_few(make_trial):
    trial = make_trial(40)
    with pytest.raises(SettingsError, match="three folds"):
        train_teacher(trial.workspace, trial.cohort, FAST.model_copy(update={"teacher": "concat", "folds": 2}))


@pytest.mark.parametrize("kind", ["late", *KINDS])
def test_reports_of_other_cases_close_the_gate_whatever_the_teacher(make_trial, kind):
    trial = make_trial(110, effect=2.0)
    path = trial.workspace.vectors("hashing")
    vectors, header = read_text_vectors(path)
    turned = {case.case_id: trial.cohort.cases[i - 29].case_id for i, case in enumerate(trial.cohort.cases)}
    rows = sorted(range(len(vectors.case_ids)), key=lambda row: turned[vectors.case_ids[row]])
    others = replace(vectors, values=vectors.values[rows], case_ids=tuple(turned[vectors.case_ids[r]] for r in rows))
    write_text_vectors(path, others, header)
    result = train_teacher(trial.workspace, trial.cohort, FAST.model_copy(update={"teacher": kind, "epochs": 3}))
    guidance, _ = read_guidance(trial.path("guidance.h5"))
    assert result.gate == 0
    assert guidance.gate == 0
    assert "gate 0" in result.warnings[-1]
