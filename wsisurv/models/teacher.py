"""The teacher: a text branch over a report's statements, and the image branch beside it, fused late."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.errors import FormatError
from wsisurv.formats.models import ModelFile
from wsisurv.models.attention import drop_units
from wsisurv.models.student import Ensemble, load_ensemble
from wsisurv.survival.bags import PackedBags, attention_pool, pack

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
    """Vectors of statements → few dimensions of mean 0 and, on average, variance 1; no outcome is used in the fit.

    Attributes:
        mean: (n_dimensions,).
        components: (n_dimensions, k), principal directions, all divided by one number: directions in which statements
            differ little stay small, for whitening them made the text branch worse (concordance .64 instead of .69).
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_statements, n_dimensions) → (n_statements, k)."""
        return np.asarray((vectors - self.mean) @ self.components, dtype=np.float32)


def fit_text_scaling(vectors: NDArray[np.float32], n_dimensions: int) -> TextScaling:
    """Fit principal components to (n_statements, n_dimensions) vectors; as many as asked, or as there are."""
    mean = vectors.mean(0)
    _, values, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    kept = (values > 1e-6 * max(values[0], 1e-12)) & (np.arange(len(values)) < n_dimensions)
    if not kept.any():  # all statements are alike: one dimension that says nothing
        return TextScaling(mean, np.zeros((vectors.shape[1], 1), np.float32))
    spread = np.sqrt(np.square(values[kept]).mean() / max(len(vectors) - 1, 1))
    # the sign of a singular vector is arbitrary and may differ between machines
    sign = np.sign(directions[kept][np.arange(int(kept.sum())), np.abs(directions[kept]).argmax(1)])
    return TextScaling(mean, (directions[kept].T * sign / spread).astype(np.float32))


@dataclass(frozen=True)
class TextEnsemble:
    """Trained text models whose mean is the report's risk.

    Attributes:
        scaling: applied to statements first.
        branch: the models, in evaluation mode.
        centres: float64 (n_models,), each model's mean over its own training cases.
    """

    scaling: TextScaling
    branch: TextBranch
    centres: NDArray[np.float64]

    def log_hazard(self, statements: NDArray[np.float32]) -> float:
        """Log hazard of one report relative to the training cases' mean: (n_statements, n_dimensions) → number."""
        with torch.inference_mode():
            risk = self.branch(pack([self.scaling(statements)])).double().numpy()[0]
        return float((risk - self.centres).mean())


@dataclass(frozen=True)
class ReportTimeTeacher:
    """Late fusion for a case that comes with its report.

    Attributes:
        image: students, each trained without one fold.
        text: text models, or None where there were no reports.
        image_sd: standard deviation of the image branch's out-of-fold log hazards.
        text_sd: standard deviation of the text branch's.
    """

    image: Ensemble
    text: TextEnsemble | None
    image_sd: float
    text_sd: float

    def log_hazard(self, features: NDArray[np.floating], statements: NDArray[np.float32] | None) -> float:
        """r_img / sd + r_text / sd; the image's alone for a case without statements."""
        risk = self.image.log_hazard(features) / self.image_sd
        if self.text is None or statements is None or len(statements) == 0:
            return risk
        return risk + self.text.log_hazard(statements) / self.text_sd

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        named = self.image.arrays("image/") | {"fusion_sd": np.array([self.image_sd, self.text_sd])}
        if self.text is None:
            return named
        text = {name: value.detach().cpu().numpy() for name, value in self.text.branch.state_dict().items()}
        text |= {"mean": self.text.scaling.mean, "components": self.text.scaling.components}
        return named | {f"text/{name}": value for name, value in text.items()} | {"text/centres": self.text.centres}


def load_teacher(model: ModelFile) -> ReportTimeTeacher:
    """Rebuild the teacher from a model file.

    Raises:
        FormatError: an array is missing or of the wrong shape.
    """
    arrays = dict(model.arrays)
    image = load_ensemble(arrays, "image/")
    try:
        image_sd, text_sd = (float(sd) for sd in arrays["fusion_sd"])
        text = None
        if "text/weight" in arrays:
            n_dimensions, n_models, hidden = arrays["text/weight"].shape
            branch = TextBranch(n_dimensions, hidden, n_models)
            names = branch.state_dict().keys()
            branch.load_state_dict({name: torch.tensor(arrays[f"text/{name}"]) for name in names})
            scaling = TextScaling(arrays["text/mean"], arrays["text/components"])
            text = TextEnsemble(scaling, branch.eval(), arrays["text/centres"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise FormatError(f"the model's arrays don't make a teacher ({error}). Train it again.") from error
    return ReportTimeTeacher(image, text, image_sd, text_sd)
