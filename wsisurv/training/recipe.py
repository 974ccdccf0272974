"""How one student is trained, and what it is told."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from wsisurv.settings.training import Aggregator


@dataclass(frozen=True)
class Recipe:
    """How one student is trained; the fields are those of ``DistillSettings``, and told there."""

    hidden: int
    epochs: int
    pretrain_epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float
    tiles_per_bag: int
    mixup: Literal["risk", "random", "none"]
    aggregator: Aggregator = "abmil"
    loss: Literal["cox", "discrete", "ranking"] = "cox"
    bins: int = 4
    distill: Literal["correlation", "mse", "listwise-kl", "hazard-kl", "attention-kl", "none"] = "correlation"
    guidance_weight: float = 2.0
    tile_directions: Literal["reports", "all"] = "reports"
    filter: Literal["none", "soft", "hard"] = "none"
    keep_share: float = 0.5
    ema: bool = False
    adjust_for: tuple[str, ...] = ()
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def needs_relevance(self) -> bool:
        """Whether the student is told of single tiles."""
        return self.filter != "none" or self.distill == "attention-kl"


@dataclass(frozen=True)
class Target:
    """What the teacher says to one student.

    Attributes:
        risk: τ, float64 (n_cases,) of the whole cohort, NaN where there is none.
        gate: g, above 0.
        relevance: float32 (n_tiles,), the teacher's relevance of each tile of the whole cohort in the order of
            ``TrainingCases.bags``, summing to 1 over each bag; for recipes that need it, else None.
        directions: float32 (n_features, r), orthonormal, of the scaled features that the student looks along; None
            for all features.
    """

    risk: NDArray[np.float64]
    gate: float
    relevance: torch.Tensor | None = None
    directions: torch.Tensor | None = None
