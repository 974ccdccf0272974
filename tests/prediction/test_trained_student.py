"""The card that training writes is the card that prediction reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from wsisurv.bags.cases import find_bags
from wsisurv.cohort import Case, Cohort
from wsisurv.formats.features import FORMAT, Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.prediction.card import read_scale
from wsisurv.prediction.explainer import open_explainer
from wsisurv.prediction.step import predict_cases
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.survival.metrics import concordance
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher
from wsisurv.units import CaseId, SlideId
from wsisurv.workspace.paths import Workspace


def embedded_case(workspace: Workspace, number: int) -> Case:
    """A case whose tiles are brighter the sooner it dies; every fifth has two slides."""
    rng = np.random.default_rng(number)
    severity = rng.normal()
    slide_ids = tuple(SlideId(f"c{number:02d}-{part}") for part in range(2 if number % 5 == 0 else 1))
    for slide_id in slide_ids:
        values = (severity + rng.normal(size=(20, 4))).astype(np.float16)
        write_features(
            workspace.features("histomics", slide_id),
            Features(
                slide_id,
                values,
                np.zeros((20, 2), np.int64),
                "histomics",
                ("a", "b", "c", "d"),
                TileSettings(slide_mpp=0.25 if number % 2 else None).model_dump(mode="json"),
                0.25,
            ),
            make_header(FORMAT, EmbedSettings(), {"tiles": slide_id}),
        )
    time = float(np.ceil(1000 * rng.exponential(np.exp(-2 * severity))))
    return Case(CaseId(f"c{number:02d}"), time, number % 2 == 0, slide_ids=slide_ids)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on many threads, far slower where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_from_training_to_the_risk_of_new_cases(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    cases = tuple(embedded_case(workspace, number) for number in range(60))
    cohort = Cohort("trial", cases[:30], CohortSettings())
    train_teacher(workspace, cohort, TeacherSettings(epochs=5, folds=2, repeats=1), device="cpu")
    distill(workspace, cohort, DistillSettings(epochs=10, pretrain_epochs=0, members=2), device="cpu")
    student = workspace.cohort("trial") / "student.h5"

    new = cases[30:]
    result = predict_cases(student, find_bags(workspace, "histomics", {case.case_id: case.slide_ids for case in new}))

    scale = read_scale(student)
    assert scale.card.encoder == "histomics"
    assert len(scale.training_risks) == 30
    assert scale.card.reference == "mean of members"
    assert scale.card.baseline == "efron"
    assert not result.failed
    risks = [risk.log_hazard for risk in result.risks]
    assert {risk.risk_group for risk in result.risks} - {"unfamiliar"} == {"low", "intermediate", "high"}
    assert None not in risks
    value = concordance(
        log_hazard=np.array(risks, float), time=[case.time for case in new], event=[case.event for case in new]
    )
    assert value > 0.7
    assert result.risks[0].n_tiles == 40
    assert np.corrcoef(np.array(risks, float), [risk.risk_percentile or 0 for risk in result.risks])[0, 1] > 0.8
    explainer = open_explainer(student, student.with_name("guidance.h5"))
    assert len(explainer.fold_of) == 30
    assert explainer.relevance == {}  # there were no reports: it listened to no teacher
