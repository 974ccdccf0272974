"""What guides one student: the teacher's risks, and where they are asked for its relevance and the feature subspace."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Target:
    """The teacher target of one student.

    Attributes:
        risk: τ, float64 (n_cases,) of the whole cohort, NaN where there is none.
        gate: g, above 0.
        relevance: float32 (n_tiles,), the teacher's relevance of each tile of the whole cohort in the order of
            ``TrainingCases.bags``, summing to 1 over each bag; where settings need it, else None.
        directions: float32 (n_features, r), orthonormal basis of the subspace of the scaled features that the student
            sees; None for all features.
    """

    risk: NDArray[np.float64]
    gate: float
    relevance: torch.Tensor | None = None
    directions: torch.Tensor | None = None
