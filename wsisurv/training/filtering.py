"""``--filter``: a head that scores each tile alone, fitted to the teacher's relevance."""

import torch
from torch import Tensor

from wsisurv.bags.packed import Bags, PackedBags, in_parts, offsets_of, sample_rows
from wsisurv.bags.segments import segment_softmax
from wsisurv.models.filter import TileFilter, n_kept, top_share
from wsisurv.models.student import Student
from wsisurv.settings.training import DistillSettings
from wsisurv.training.agreement import attention_kl
from wsisurv.training.loop import Log, minimise


def by_source_row(bags: Bags, relevance: Tensor) -> Tensor:
    """Relevance by row of the features' table, so that whatever is drawn from the bags finds its own.

    Args:
        bags: of the whole cohort.
        relevance: (n_tiles,), in the order of the bags.
    """
    table = torch.zeros(bags.source.shape[0])
    table[bags.index] = relevance.float()
    return table


def learn_filter(
    student: Student,
    bags: Bags,
    relevance: Tensor,
    settings: DistillSettings,
    generator: torch.Generator,
    part: str,
    log: Log,
) -> None:
    """Give a student its filter, fitted and fixed: least divergence of softmax(score) from the teacher's relevance.

    Args:
        student: whose scaling of the features is used.
        bags: of the training cases.
        relevance: ``by_source_row``.
        settings: which filter, and how it is trained.
        generator: of tiles drawn.
        part: what is trained, for the history.
        log: history and progress.
    """
    device = student.mean.device
    chosen = TileFilter(bags.n_features, hard=settings.filter == "hard", keep_share=settings.keep_share).to(device)

    def score(packed: PackedBags) -> Tensor:
        scores: Tensor = chosen(student.scaled(packed.rows))
        return scores

    def loss() -> Tensor:
        drawn = sample_rows(bags, settings.tiles_per_bag, generator)
        scores = in_parts(score, drawn)
        segments = PackedBags(scores, drawn.offsets.to(device))
        wanted = relevance[drawn.index].to(device)
        return attention_kl(teacher=wanted, student=segment_softmax(scores, segments), bags=segments)

    minimise(chosen, loss, settings, part=part, log=log, generator=generator)
    with torch.no_grad():
        chosen.set_threshold(in_parts(score, bags))
    student.filter = chosen.requires_grad_(False)


def filter_bags(student: Student, bags: Bags) -> Bags:
    """What the student's hard filter leaves of whole bags, before tiles are drawn; all of them for a soft one."""
    chosen = student.filter
    if chosen is None or not bool(chosen.hard):
        return bags
    with torch.no_grad():
        scores = in_parts(lambda packed: chosen(student.scaled(packed.rows)), bags).cpu()
    share = float(chosen.keep_share)
    return bags.take(top_share(scores, bags.offsets, share), offsets_of(n_kept(bags.lengths, share)))
