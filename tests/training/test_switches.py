"""Every switch of the student: it trains, it learns what is there, and it does what it says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import simulation
import torch

from wsisurv.bags.packed import pack
from wsisurv.errors import MetricError, StaleError
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import ModelFile
from wsisurv.models.ensemble import centred_ensemble, load_student
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.survival.metrics import concordance
from wsisurv.training.duplicates import merge_duplicates
from wsisurv.training.inputs import read_training_cases
from wsisurv.training.loop import Log
from wsisurv.training.relevance import read_teacher, relevance_without
from wsisurv.training.student_loss import TeacherTarget
from wsisurv.training.students import StudentPlan, train_students
from wsisurv.training.subspace import find_subspaces
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace

BASE = DistillSettings(hidden=16, epochs=20, learning_rate=2e-2, pretrain_epochs=6, tiles_per_bag=16)
SWITCHES = [
    {},
    {"aggregator": "mean"},
    {"aggregator": "selfattention"},
    {"loss": "discrete"},
    {"loss": "ranking"},
    {"distill": "mse"},
    {"distill": "listwise-kl"},
    {"distill": "hazard-kl"},
    {"distill": "hazard-kl", "loss": "discrete"},
    {"distill": "attention-kl"},
    {"distill": "none"},
    {"feature_subspace": "all"},
    {"precision": "bf16"},
    {"filter": "soft"},
    {"filter": "hard", "keep_share": 0.7},
    {"mixup": "none"},
    {"mixup": "random"},
    {"ema": True},
    {"merge_duplicates": True, "duplicate_similarity": 0.5},
    {"adjust_for": ("age",)},
]


class Lesson:
    """Cases, what the teacher says of them, and new cases to be tested on."""

    def __init__(self, workspace, cohort, new):
        folder = workspace.cohort(cohort.name)
        self.guidance, self.header = read_guidance(folder / "guidance.h5")
        self.teacher = read_teacher(folder / "teacher.h5", self.header)
        self.cases = read_training_cases(
            workspace, cohort, encoder="histomics", text_encoder="hashing", allow_random_weights=False
        )
        self.new, self.folder = new, folder

    def learn(self, tmp_path, changes, *, guided=True):
        settings = BASE.model_copy(update=changes)
        cases = self.cases
        if settings.merge_duplicates:
            cases = replace(cases, merged=merge_duplicates(cases.bags, settings.duplicate_similarity))
            assert len(cases.merged.index) < len(cases.bags.index)
        relevance = relevance_without(self.teacher, cases, 0) if settings.needs_relevance else None
        train, device = np.flatnonzero(self.guidance.fold != 0), torch.device("cpu")
        log = Log(path=tmp_path / "history.jsonl", step="distill", progress=lambda *_: None)
        target = TeacherTarget(self.guidance.risk_without[0], 1.0, relevance) if guided else None
        if target is not None and settings.feature_subspace == "reports":
            columns = find_subspaces(cases, [train], [3], device, log).bases
            target = replace(target, subspace=None if columns is None else columns[0])
        plans = [StudentPlan(train, 3, target)]
        trained = train_students(cases, plans, settings, device=device, part="student", log=log)
        return centred_ensemble(trained, [train], cases.bags)[0]

    def concordance(self, ensemble):
        risk = [ensemble.log_hazard(bag) for bag in self.new.bags]
        return concordance(log_hazard=risk, time=self.new.time, event=self.new.event)


@pytest.mark.parametrize("changes", SWITCHES, ids=lambda changes: "-".join(map(str, changes.values())) or "default")
def test_a_switch_trains_a_student_that_learns_what_is_there_and_is_read_back(lesson, tmp_path, changes):
    student = lesson.learn(tmp_path, changes)
    assert lesson.concordance(student) > 0.6
    again = load_student(ModelFile(student.arrays(), {}))
    bag = lesson.new.bags[0]
    assert again.log_hazard(bag) == student.log_hazard(bag)
    scores = student.tile_scores(bag)
    assert scores.attention.sum() == pytest.approx(1)
    assert scores.contribution.sum() == pytest.approx(student.log_hazard(bag), abs=1e-5)
    np.testing.assert_allclose(student.tile_scores(bag[::-1]).contribution[::-1], scores.contribution, atol=1e-5)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    world = simulation.make_world(1, n_features=24, n_words=24)
    world = replace(world, looks=3 * world.looks, stains=world.stains / 4)  # phenotypes that can't be mistaken
    workspace = Workspace(tmp_path_factory.mktemp("lesson"))
    cohort = simulation.save(
        workspace, simulation.simulate(world, 150, 1, tiles=(90, 100), effect=3.0, named=1.0, error=0.2)
    )
    ages = np.random.default_rng(0).normal(60, 9, len(cohort.cases))
    cases = tuple(replace(c, covariates={"age": f"{a:.0f}"}) for c, a in zip(cohort.cases, ages, strict=True))
    cohort = replace(cohort, cases=cases)
    train_teacher(
        workspace, cohort, TeacherSettings(hidden=16, epochs=8, text_epochs=20, repeats=1, folds=3, text_folds=3)
    )
    return Lesson(workspace, cohort, simulation.simulate(world, 200, 2, tiles=(40, 50), effect=3.0))


def test_what_needs_no_report_is_done_to_the_plain_student_too_and_the_rest_is_not(lesson, tmp_path):
    bag = lesson.new.bags[0]
    plain = lesson.learn(tmp_path, {}, guided=False)
    told = {"filter": "hard", "mixup": "none", "distill": "mse", "pretrain_epochs": 3}
    assert lesson.learn(tmp_path, told, guided=False).log_hazard(bag) == plain.log_hazard(bag)
    for changes in ({"ema": True}, {"loss": "ranking"}, {"adjust_for": ("age",)}):
        assert lesson.learn(tmp_path, changes, guided=False).log_hazard(bag) != plain.log_hazard(bag)


def test_switches_go_together_and_one_seed_gives_one_student_bit_by_bit(lesson, tmp_path):
    changes = {
        "aggregator": "selfattention",
        "loss": "discrete",
        "distill": "attention-kl",
        "filter": "soft",
        "merge_duplicates": True,
        "duplicate_similarity": 0.6,
        "mixup": "random",
        "ema": True,
        "adjust_for": ("age",),
        "epochs": 4,
        "pretrain_epochs": 2,
    }
    first, second = (lesson.learn(tmp_path, changes).arrays() for _ in range(2))
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_a_hard_filter_leaves_out_the_same_share_of_every_case_and_finds_what_the_teacher_found(lesson, tmp_path):
    student = lesson.learn(tmp_path, {"filter": "hard", "keep_share": 0.3})
    agreed, possible = 0.0, 0.0
    for bag in lesson.new.bags[:20]:
        scores = student.tile_scores(bag)
        assert set(scores.kept) == {0.0, 1.0}
        assert scores.kept.sum() == np.ceil(0.3 * len(bag))
        assert (scores.attention[scores.kept == 0] == 0).all()
        relevance = lesson.teacher.image.members[0].parts(pack([bag])).share.detach().numpy()
        agreed += relevance[scores.kept == 1].mean() / relevance.mean() - 1
        possible += np.sort(relevance)[-int(scores.kept.sum()) :].mean() / relevance.mean() - 1
    assert agreed > 0.6 * possible


def test_a_soft_filter_turns_down_and_leaves_all_in_the_bag(lesson, tmp_path):
    student = lesson.learn(tmp_path, {"filter": "soft", "keep_share": 0.4})
    kept = [student.tile_scores(bag).kept for bag in lesson.new.bags]
    assert min(one.min() for one in kept) > 0
    assert max(one.max() for one in kept) < 1
    assert np.concatenate(kept).mean() == pytest.approx(0.4, abs=0.25)
    assert (student.tile_scores(lesson.new.bags[0]).attention > 0).all()


def test_relevance_is_the_attention_of_the_member_that_did_not_see_the_fold(lesson):
    relevance = relevance_without(lesson.teacher, lesson.cases, 2).numpy()
    offsets = lesson.cases.bags.offsets.tolist()
    for case in (0, 7, 149):
        own = relevance[offsets[case] : offsets[case + 1]]
        assert own.sum() == pytest.approx(1, abs=1e-5)
        tiles = lesson.cases.bags.select(torch.tensor([case])).load()
        torch.testing.assert_close(
            torch.from_numpy(own), lesson.teacher.image.members[2].parts(tiles).share.detach().float()
        )


def test_the_teacher_must_be_the_one_that_wrote_the_guidance(lesson):
    with pytest.raises(StaleError, match="not the teacher"):
        read_teacher(lesson.folder / "teacher.h5", replace(lesson.header, inputs={"cohort": "another"}))


def test_covariates_that_the_cohort_does_not_have_are_refused(lesson, tmp_path):
    with pytest.raises(MetricError, match="the cohort has age"):
        lesson.learn(tmp_path, {"adjust_for": ("stage",)})


def rank(student):
    """Of the first layer of the only member."""
    return np.linalg.matrix_rank(student.members[0].embed.weight.detach().numpy(), rtol=1e-4)


def directions_told(tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if "told" in line]


def test_a_guided_student_looks_along_what_tiles_tell_of_the_reports(lesson, tmp_path):
    guided = lesson.learn(tmp_path, {})
    (told,) = directions_told(tmp_path)
    assert told["part"] == "directions of member 1"
    assert told["told"] > 0.25
    assert rank(guided) == told["directions"] < guided.n_features
    assert guided.members[0].embed.out_features == 2 * BASE.hidden
    for other in (lesson.learn(tmp_path, {"feature_subspace": "all"}), lesson.learn(tmp_path, {}, guided=False)):
        assert rank(other) == BASE.hidden == other.members[0].embed.out_features
    assert len(directions_told(tmp_path)) == 1


def test_reports_of_the_wrong_cases_or_of_few_give_no_directions(lesson, tmp_path, monkeypatch):
    statements = lesson.cases.statements
    order = np.random.default_rng(0).permutation(len(statements))
    few = [said if number < 9 else None for number, said in enumerate(statements)]
    for reports in ([statements[i] for i in order], few):
        monkeypatch.setattr(lesson, "cases", replace(lesson.cases, statements=tuple(reports)))
        assert rank(lesson.learn(tmp_path, {})) == BASE.hidden
    (told,) = directions_told(tmp_path)  # nine are not even tried
    assert told["told"] < 0.1


def test_directions_owe_nothing_to_cases_that_are_not_trained_on(lesson, tmp_path, monkeypatch):
    whole = lesson.learn(tmp_path, {})
    unseen = lesson.guidance.fold == 0
    statements = [None if hidden else said for said, hidden in zip(lesson.cases.statements, unseen, strict=True)]
    monkeypatch.setattr(lesson, "cases", replace(lesson.cases, statements=tuple(statements)))
    assert lesson.learn(tmp_path, {}).log_hazard(lesson.new.bags[0]) == whole.log_hazard(lesson.new.bags[0])
