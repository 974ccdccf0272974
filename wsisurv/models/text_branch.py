"""The text branch: what a report's statements say of the risk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.bags.packed import PackedBags, pack
from wsisurv.bags.segments import attention_pool
from wsisurv.models.aggregators.attention import drop_units
from wsisurv.models.principal import principal_directions

TEXT_DROPOUT = 0.5


class TextBranch(nn.Module):
    """Several independent text models on the same statements, trained side by side in one pass.

    Each: T = dropout(relu(S W)), attention pool of T over the case's statements, log hazard = pool · w.

    Args:
        n_dimensions: columns of the statements' vectors.
        hidden: width of T.
        n_models: how many models; none sees another's weights.
    """

    def __init__(self, n_dimensions: int, hidden: int, n_models: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_dimensions, n_models, hidden) / n_dimensions**0.5)
        self.bias = nn.Parameter(torch.zeros(n_models, hidden))
        self.score = nn.Parameter(torch.randn(n_models, hidden) / hidden**0.5)
        self.hazard = nn.Parameter(torch.randn(n_models, hidden) / hidden**0.5)

    def forward(self, statements: PackedBags) -> Tensor:
        """Log hazard of cases by each model: (n_cases, n_models)."""
        linear = (statements.rows @ self.weight.flatten(1)).reshape(-1, *self.bias.shape) + self.bias
        state = torch.relu(linear)
        if self.training:
            state = drop_units(state, statements, TEXT_DROPOUT)
        pooled = attention_pool(state, (state * self.score).sum(-1), statements)
        return (pooled * self.hazard).sum(-1)


@dataclass(frozen=True)
class TextScaling:
    """Vectors of statements → few dimensions of mean 0 and, on average, variance 1; no outcome is used in the fit."""

    mean: NDArray[np.float32]  # (n_dimensions,)
    # (n_dimensions, k), principal directions, all divided by one number: directions in which statements differ little
    # stay small, for whitening them made the text branch worse (concordance .64 instead of .69)
    components: NDArray[np.float32]

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_statements, n_dimensions) → (n_statements, k)."""
        return np.asarray((vectors - self.mean) @ self.components, dtype=np.float32)


def fit_text_scaling(vectors: NDArray[np.float32], n_dimensions: int) -> TextScaling:
    """Fit principal components to (n_statements, n_dimensions) vectors; as many as asked, or as there are."""
    mean = vectors.mean(0)
    found = principal_directions(vectors - mean, n_dimensions)
    if not len(found.sizes):  # all statements are alike: one dimension that says nothing
        return TextScaling(mean, np.zeros((vectors.shape[1], 1), np.float32))
    spread = np.sqrt(np.square(found.sizes).mean() / max(len(vectors) - 1, 1))
    return TextScaling(mean, (found.rows.T / spread).astype(np.float32))


@dataclass(frozen=True)
class TextEnsemble:
    """Trained text models whose mean is the report's risk."""

    scaling: TextScaling  # applied to statements first
    branch: TextBranch  # the models, in evaluation mode
    centres: NDArray[np.float64]  # float64 (n_models,), each model's mean over its own training cases

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        named: dict[str, NDArray[Any]] = {
            name: value.detach().cpu().numpy() for name, value in self.branch.state_dict().items()
        }
        return named | {"mean": self.scaling.mean, "components": self.scaling.components, "centres": self.centres}

    def log_hazard(self, statements: NDArray[np.float32]) -> float:
        """Log hazard of one report relative to the training cases' mean: (n_statements, n_dimensions) → number."""
        with torch.inference_mode():
            risk = self.branch(pack([self.scaling(statements)])).double().numpy()[0]
        return float((risk - self.centres).mean())


@dataclass(frozen=True)
class LinearText:
    """A regression on the mean of a report's statement vectors."""

    mean: NDArray[np.float64]  # float64 (n_dimensions,), over the training cases
    weight: NDArray[np.float64]  # float64 (n_dimensions,)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        return {"mean": self.mean, "linear": self.weight}

    def log_hazard(self, statements: NDArray[np.float32]) -> float:
        """Log hazard of one report relative to the training cases' mean: (n_statements, n_dimensions) → number."""
        return float((statements.mean(axis=0, dtype=np.float64) - self.mean) @ self.weight)


TextModel = TextEnsemble | LinearText


def load_text(arrays: Mapping[str, NDArray[Any]]) -> TextModel | None:
    """Rebuild a text branch from the arrays of a model file; None where they hold none.

    Raises:
        KeyError, ValueError, RuntimeError: an array is missing or of the wrong shape.
    """
    if "linear" in arrays:
        mean, weight = arrays["mean"], arrays["linear"]
        if mean.ndim != 1 or mean.shape != weight.shape:
            raise ValueError(f"text branch: mean of shape {mean.shape}, weight of shape {weight.shape}")
        return LinearText(mean, weight)
    if "weight" not in arrays:
        return None
    n_dimensions, n_models, hidden = arrays["weight"].shape
    branch = TextBranch(n_dimensions, hidden, n_models)
    branch.load_state_dict({name: torch.tensor(arrays[name]) for name in branch.state_dict()})
    return TextEnsemble(TextScaling(arrays["mean"], arrays["components"]), branch.eval(), arrays["centres"])
