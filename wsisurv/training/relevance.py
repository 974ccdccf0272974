"""The teacher's relevance of each tile, as a student may know it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsisurv.bags.packed import in_parts
from wsisurv.formats.header import Header
from wsisurv.formats.models import read_model
from wsisurv.models.teacher import ReportTimeTeacher, load_teacher
from wsisurv.training.inputs import TrainingCases
from wsisurv.workspace.freshness import compare, require_fresh


def read_teacher(path: Path, guidance: Header) -> ReportTimeTeacher:
    """The teacher that wrote the guidance.

    Raises:
        MissingArtifactError, FormatError: as ``read_model``.
        StaleError: it is another.
    """
    model, header = read_model(path, "teacher")
    wanted = replace(header, settings=guidance.settings, inputs=guidance.inputs)
    seen = compare(header, wanted, also=["not the teacher that wrote guidance.h5"])
    require_fresh({path: seen}, remedy="Run `wsisurv train-teacher --redo` first.")
    return load_teacher(model)


def relevance_without(teacher: ReportTimeTeacher, cases: TrainingCases, fold: int) -> Tensor:
    """Relevance of all tiles by the teacher's members that were trained without a member fold.

    So no outcome of that fold has a part in it. (``guidance.relevance`` is out of fold for each case instead, and thus
    owes something to the outcomes of a fold that a student is tested on.)

    Args:
        teacher: whose member ``fold`` was trained without that fold.
        cases: the whole cohort.
        fold: number of the fold.

    Returns:
        float32 (n_tiles,), in the order of ``cases.bags``, summing to 1 over each bag.
    """
    image = teacher.image.members[fold]
    with torch.no_grad():
        relevance = in_parts(lambda packed: image.parts(packed).share, cases.bags).float()
    if teacher.joint is None:
        return relevance
    member, offsets = teacher.joint.members[fold], cases.bags.offsets.tolist()
    for case in np.flatnonzero(cases.has_report).tolist():
        statements = cases.statements[case]
        if statements is not None:
            tiles = cases.bags.select(torch.tensor([case])).load().rows.numpy()
            relevance[offsets[case] : offsets[case + 1]] = member.look(tiles, statements).relevance
    return relevance
