"""Risk groups of a cross-validation with competing events, by the cut-offs of each fold's own student."""

from dataclasses import asdict
from typing import Any

import numpy as np

from wsisurv.cohort import cause_of, entry_of
from wsisurv.errors import MetricError
from wsisurv.experiments.model_names import SELECTED
from wsisurv.experiments.risk_groups import follow_up_by_group, group_gray_test, risk_groups_table
from wsisurv.experiments.scoring import ScoredFolds
from wsisurv.formats.models import STUDENT_FILES, read_model
from wsisurv.workspace.paths import Workspace


def fold_groups(workspace: Workspace, scored: ScoredFolds) -> dict[str, Any]:
    """Cases, events, competing events and cumulative incidence by risk group, and Gray's test, as a JSON object.

    Of the first repeat, so that each case counts once; cut-offs were fixed on the training cases of each fold.

    Raises:
        MissingArtifactError, FormatError: a fold's student is gone or damaged.
    """
    by_id, word = {str(case.case_id): case for case in scored.cohort.cases}, dict[str, str]()
    for job, risks in zip(scored.jobs, scored.risks, strict=True):
        if job.fold.repeat != scored.jobs[0].fold.repeat:
            continue
        student, _ = read_model(job.path(workspace).parent / STUDENT_FILES["selected"], "student")
        low, high = student.card.cut_offs.low, student.card.cut_offs.high
        for case_id, risk in zip(risks.case_ids, risks.risks[SELECTED].tolist(), strict=True):
            word[case_id] = "low" if risk < low else "high" if risk >= high else "intermediate"
    cases = [by_id[case_id] for case_id in word]
    groups = follow_up_by_group(
        list(word.values()),
        time=np.array([case.time for case in cases]),
        event=np.array([case.event for case in cases]),
        entry=entry_of(cases),
        cause=cause_of(cases),
    )
    found: dict[str, Any] = {"rows": [asdict(row) for row in risk_groups_table(groups)], "gray_p": None, "reason": ""}
    try:
        test = group_gray_test(groups)
        found |= {"gray_p": test.p, "gray_statistic": test.statistic, "gray_df": test.degrees_of_freedom}
    except MetricError as error:
        found["reason"] = str(error)
    return found
