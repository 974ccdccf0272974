"""Students of other cohorts brought to the features of one: as a start of its training, or as parts of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wsisurv.models.aggregators.joined import Joined, joined_name
from wsisurv.models.student import Student


def start_from(student: Student, source: Student) -> None:
    """Give a student the weights of another of its width and aggregator, brought to the scale of its own features."""
    with torch.no_grad():
        weight, bias = _rescaled(source, student)
        student.embed.weight.copy_(weight)
        student.embed.bias.copy_(bias)
        student.attention.load_state_dict(source.attention.state_dict())
        student.hazard.weight.copy_(source.hazard.weight)


def join(parts: Sequence[tuple[Student, float]]) -> Student:
    """One student whose log hazard is the weighted sum of several's, but for features that one of them would clamp.

    Args:
        parts: students of one output, and the weight of each; features are scaled as the first one's.
    """
    first = parts[0][0]
    widths = [student.embed.out_features for student, _ in parts]
    name = joined_name([(student.aggregator, width) for (student, _), width in zip(parts, widths, strict=True)])
    joined = Student(first.embed.in_features, sum(widths), 0.0, first.mean, first.sd, name)
    with torch.no_grad():
        layers = [_rescaled(student, first) for student, _ in parts]
        joined.embed.weight.copy_(torch.cat([weight for weight, _ in layers]))
        joined.embed.bias.copy_(torch.cat([bias for _, bias in layers]))
        joined.hazard.weight.copy_(torch.cat([student.hazard.weight * weight for student, weight in parts], 1))
        if isinstance(joined.attention, Joined):
            for block, (student, _) in zip(joined.attention.blocks, parts, strict=True):
                block.load_state_dict(student.attention.state_dict())
    return joined.eval()


def _rescaled(source: Student, like: Student) -> tuple[Tensor, Tensor]:
    """First layer of a student for features in the standard deviations of another."""
    mean, sd = like.mean.to(source.mean.device), like.sd.to(source.sd.device)
    weight = source.embed.weight * (sd / source.sd)
    return weight, source.embed.bias + source.embed.weight @ ((mean - source.mean) / source.sd)
