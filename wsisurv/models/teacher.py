"""The teacher at report time: its image branch and its text branch fused late, or a model of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.models import ModelFile
from wsisurv.models.ensemble import Ensemble, load_ensemble
from wsisurv.models.joint import JointEnsemble, load_joint
from wsisurv.models.text_branch import TextModel, load_text


@dataclass(frozen=True)
class ReportTimeTeacher:
    """Risk of a case that comes with its report."""

    image: Ensemble  # students, each trained without one fold
    text: TextModel | None  # text models, or None where there were no reports
    image_sd: float  # standard deviation of the image branch's out-of-fold log hazards
    text_sd: float  # standard deviation of the text branch's
    # models of tiles and statements, each trained without one fold; None for late fusion
    joint: JointEnsemble | None = None
    joint_sd: float = 1.0  # standard deviation of their out-of-fold log hazards

    def log_hazard(self, features: NDArray[np.floating], statements: NDArray[np.float32] | None) -> float:
        """r_img / sd + r_text / sd, or r_joint / sd; r_img / sd for a case without statements."""
        said = statements if statements is not None and len(statements) else None
        if self.joint is not None and said is not None:
            return self.joint.log_hazard(features, said) / self.joint_sd
        risk = self.image.log_hazard(features) / self.image_sd
        if self.text is None or said is None:
            return risk
        return risk + self.text.log_hazard(said) / self.text_sd

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        named = self.image.arrays("image/") | {"fusion_sd": np.array([self.image_sd, self.text_sd])}
        if self.text is not None:
            named |= {f"text/{name}": value for name, value in self.text.arrays().items()}
        if self.joint is not None:
            named |= self.joint.arrays("joint/") | {"joint_sd": np.array([self.joint_sd])}
        return named


def load_teacher(model: ModelFile[Any]) -> ReportTimeTeacher:
    """Rebuild the teacher from a model file.

    Raises:
        FormatError: an array is missing or of the wrong shape.
    """
    arrays: Mapping[str, NDArray[Any]] = dict(model.arrays)
    image = load_ensemble(arrays, "image/")
    try:
        image_sd, text_sd = (float(sd) for sd in arrays["fusion_sd"])
        text = load_text(
            {name.removeprefix("text/"): value for name, value in arrays.items() if name.startswith("text/")}
        )
        if "joint_sd" not in arrays:
            return ReportTimeTeacher(image, text, image_sd, text_sd)
        joint_sd = float(arrays["joint_sd"][0])
        return ReportTimeTeacher(image, text, image_sd, text_sd, load_joint(arrays, "joint/"), joint_sd)
    except (KeyError, ValueError, RuntimeError) as error:
        raise FormatError(f"the model's arrays don't make a teacher ({error}). Train it again.") from error
