from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.engine.progress import no_progress
from wsisurv.errors import ArtifactError, MissingArtifactError, SettingsError
from wsisurv.formats.atomic import write_jsonl
from wsisurv.formats.statements import ReportRecord
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.reports.grounding import ground
from wsisurv.reports.rules import extract_rules
from wsisurv.reports.vectors import write_vectors
from wsisurv.settings.training import TeacherSettings, TextBranch
from wsisurv.training.crossfit import ReportedCases, cross_fit_text
from wsisurv.training.loop import Log
from wsisurv.workspace.paths import Workspace

REPORTS = {
    "c-2": "Microscopy. Moderately differentiated adenocarcinoma. No necrosis is seen.",
    "c-1": "Microscopy. Necrosis is present.",
    "c-3": "Page 1 of 1.",
}


def fill(workspace: Workspace, reports: dict[str, str]) -> None:
    records = []
    for case_id, text in reports.items():
        extraction = extract_rules(text, keep="morphology")
        statements = ground(case_id, extraction.claims, text).statements
        record = ReportRecord(case_id=case_id, fingerprint="", report_sha256="", statements=statements)
        records.append(record.model_dump(mode="json"))
    write_jsonl(workspace.statements, records)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "ws")
    fill(made, REPORTS)
    return made


def test_one_vector_a_statement_in_order_of_case(workspace: Workspace) -> None:
    path = write_vectors(workspace, "hashing")
    assert path == workspace.vectors("hashing")
    vectors, header = read_text_vectors(path)
    assert vectors.statement_ids == ("c-1/1", "c-2/1", "c-2/2", "c-2/3")
    assert vectors.encoder == header.settings["text_encoder"] == "hashing"
    assert {case: len(rows) for case, rows in vectors.by_case().items()} == {"c-1": 1, "c-2": 3}


def test_vectors_of_other_statements_than_there_are_now_are_refused(workspace: Workspace) -> None:
    path = write_vectors(workspace, "hashing")
    assert path is not None
    fill(workspace, {"c-1": REPORTS["c-1"]})  # as a file that was cut behind its first line
    with pytest.raises(ArtifactError, match=r"statements\.jsonl"):
        read_text_vectors(path)


def test_a_file_of_the_same_statements_is_kept_and_of_others_made_anew(workspace: Workspace) -> None:
    path = write_vectors(workspace, "hashing")
    assert path is not None
    before = path.stat().st_ino
    assert write_vectors(workspace, "hashing") == path
    assert path.stat().st_ino == before
    fill(workspace, {"c-1": "Microscopy. Necrosis is absent."})
    assert write_vectors(workspace, "hashing") == path
    vectors, _ = read_text_vectors(path)
    assert vectors.statement_ids == ("c-1/1",)


def test_no_statement_at_all_is_an_empty_file(workspace: Workspace) -> None:
    fill(workspace, {"c-3": REPORTS["c-3"]})
    path = write_vectors(workspace, "hashing")
    assert path is not None
    assert len(read_text_vectors(path)[0].values) == 0


def test_tfidf_is_no_file(workspace: Workspace) -> None:
    assert write_vectors(workspace, "tfidf") is None
    assert not workspace.vectors("tfidf").exists()


def test_an_encoder_of_language_is_given_sentences(workspace: Workspace) -> None:
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        seen.extend(texts)
        return np.arange(len(texts) * 3, dtype=np.float32).reshape(len(texts), 3)

    path = write_vectors(workspace, "ollama:some/model", encode=encode, digest="d1")
    assert path == workspace.vectors("ollama-some-model")
    assert path.name == "ollama-some-model.h5"
    assert seen[-1] == "necrosis, absent: No necrosis is seen"
    write_vectors(workspace, "ollama:some/model", encode=encode, digest="d1")
    assert len(seen) == 4
    write_vectors(workspace, "ollama:some/model", encode=encode, digest="d2")
    assert len(seen) == 8


def test_a_statement_that_an_encoder_refuses_has_no_row(workspace: Workspace) -> None:
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        values = np.ones((len(texts), 2), np.float32)
        values[1] = np.nan
        return values

    path = write_vectors(workspace, "ollama:m", encode=encode)
    assert path is not None
    assert read_text_vectors(path)[0].statement_ids == ("c-1/1", "c-2/2", "c-2/3")


def test_an_unknown_encoder_is_named(workspace: Workspace) -> None:
    with pytest.raises(SettingsError, match="word2vec.*hashing, tfidf"):
        write_vectors(workspace, "word2vec")


def test_without_statements_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError, match="wsisurv extract-report"):
        write_vectors(Workspace(tmp_path), "hashing")


def test_a_branch_tells_two_polarities_apart_whose_vectors_are_one(tmp_path: Path) -> None:
    """Category, polarity, grade and numbers stand beside the vector of a model of language, which passes them over."""
    said = {"present": "Necrosis is present.", "absent": "No necrosis is seen."}
    cases = {f"c-{n:02}": ("present", "absent")[n % 2] for n in range(40)}
    workspace = Workspace(tmp_path / "ws")
    fill(workspace, {case: f"Microscopy. {said[polarity]}" for case, polarity in cases.items()})
    path = write_vectors(workspace, "deaf", encode=lambda texts: np.ones((len(texts), 5), np.float32), digest="d")
    assert path is not None
    vectors, _ = read_text_vectors(path)
    assert vectors.values.shape == (40, 5)
    assert (vectors.values == 1).all()
    by_case = vectors.by_case()
    time = np.array([(1.0 if polarity == "present" else 9.0) + n / 100 for n, polarity in enumerate(cases.values())])
    reports = ReportedCases(tuple(by_case[case] for case in cases), time, np.ones(40, np.bool_), (None,) * 40)
    branches: tuple[TextBranch, ...] = ("ridge", "attention")
    for branch in branches:
        settings = TeacherSettings(text_branch=branch, text_epochs=20)
        risk = cross_fit_text(
            reports, settings, seed=0, part="text", log=Log(tmp_path / "history.jsonl", "text", no_progress)
        ).risk
        present = np.array([polarity == "present" for polarity in cases.values()])
        assert risk[present].min() > risk[~present].max()


def test_grade_and_numbers_have_columns_of_their_own(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    grades = ["Well differentiated adenocarcinoma.", "Poorly differentiated adenocarcinoma."]
    texts = [*grades, "Lymph nodes 1/16 positive.", "Lymph nodes 12/16 positive."]
    fill(workspace, {f"c-{n}": f"Microscopy. {text}" for n, text in enumerate(texts)})
    path = write_vectors(workspace, "deaf", encode=lambda texts: np.ones((len(texts), 5), np.float32), digest="d")
    assert path is not None
    rows = [part.sum(axis=0) for part in read_text_vectors(path)[0].by_case().values()]
    assert len({tuple(row) for row in rows}) == 4


def test_hashing_has_no_columns_beside_it(workspace: Workspace) -> None:
    path = write_vectors(workspace, "hashing")
    assert path is not None
    vectors, header = read_text_vectors(path)
    assert vectors.columns is None
    assert "columns" not in header.settings
