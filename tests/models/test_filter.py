import math

import pytest
import torch

from wsisurv.bags.packed import pack
from wsisurv.models.ensemble import ensemble_of
from wsisurv.models.filter import TileFilter, top_share
from wsisurv.models.student import Student


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 1.0])
def test_the_best_of_each_bag_are_kept_whatever_the_others(share):
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([1, 10, 7, 30])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    scores = torch.randn(48, generator=g)
    kept = set(top_share(scores, offsets, share).tolist())
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        n = math.ceil(share * (end - start) - 1e-9)
        best = torch.argsort(scores[start:end], descending=True)[:n] + start
        assert set(best.tolist()) == {row for row in kept if start <= row < end}


def test_the_threshold_leaves_the_share_of_all_training_tiles():
    scores = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    soft = TileFilter(3, hard=False, keep_share=0.3)
    soft.set_threshold(scores)
    assert int((scores >= soft.threshold).sum()) == 300
    keep_all = TileFilter(3, hard=False, keep_share=1.0)
    keep_all.set_threshold(scores)
    assert float(keep_all.threshold) == float(scores.min())


@pytest.mark.parametrize("hard", [False, True])
def test_a_filtered_case_scores_in_a_pack_as_alone_and_by_the_fast_way_as_by_the_plain_one(hard):
    torch.manual_seed(0)
    student = Student(5, 8, 0.0, torch.zeros(5), torch.ones(5))
    student.filter = TileFilter(5, hard=hard, keep_share=0.4)
    model = ensemble_of([(student, 0.2)])
    bags = [torch.randn(n, 5).numpy() for n in (7, 1, 40)]
    with torch.inference_mode():
        together = student(pack(bags)) - 0.2
    for number, bag in enumerate(bags):
        assert model.log_hazard(bag[::-1].copy()) == pytest.approx(float(together[number]), abs=1e-6)
        assert float(model.states(bag).log_hazard[0]) == pytest.approx(float(together[number]), abs=1e-5)
        scores = model.tile_scores(bag)
        assert scores.contribution.sum() == pytest.approx(float(together[number]), abs=1e-6)
        assert scores.kept is not None
        assert ((scores.kept == 0) == (scores.attention == 0)).all()
