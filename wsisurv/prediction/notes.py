"""``risk.json``: what a reviewer asks about a risk table and a table can't hold."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wsisurv.formats.header import Header
from wsisurv.formats.models import read_model
from wsisurv.formats.risks import survival_column
from wsisurv.prediction.card import RiskScale, read_scale
from wsisurv.prediction.step import Prediction
from wsisurv.settings.base import file_sha256
from wsisurv.survival.prognosis import FEW_FOLLOWED
from wsisurv.version import __version__

_COLUMNS = {
    "log_hazard": "mean of the members, relative to the training cohort's mean; higher is worse. It orders the cases; "
    "times calibration.slope it is a log hazard ratio",
    "risk_percentile": "share of training cases with a lower log hazard, by members that had not seen them, brought to "
    "the spread of the members' mean",
    "risk_group": "by the cut-offs, fixed in training; unfamiliar: the student does not know such cases, for the "
    "reason in warning, so log_hazard and risk_percentile are what it computes and are not to be believed",
    "survival_…y": "probability of outliving so many years, calibrated on training cases out of fold; empty where "
    "fewer than ten training cases were followed so long, and of an unfamiliar case",
    "median_survival": "time by which survival is half; empty where survival to it would be",
    "risk_low, risk_high": "lowest and highest log hazard among the members; not a confidence interval",
    "familiarity": "share of cases like the training's that look this odd to the student, or odder: 0.01 is very odd",
    "warning": "what should be known before the row is believed; empty where nothing",
}

_ABSOLUTE = {
    "survival_…y": "probability of outliving so many years without the event were there no competing events; else as "
    "risk_…y",
    "risk_…y": "probability of the event by so many years, competing events being as frequent as in training: "
    "Aalen and Johansen's sum over both causes' hazards, and not 1 - survival_…y, which is higher; empty where "
    "fewer than ten training cases were followed so long, and of an unfamiliar case",
}


def make_notes(
    student: Path,
    prediction: Prediction,
    *,
    horizons: Sequence[float],
    training_cases: Mapping[str, int],
    command: str,
    force_unfamiliar: bool = False,
) -> dict[str, Any]:
    """What made a risk table, as a JSON object.

    Args:
        student: the student's file.
        prediction: what came out.
        horizons: years to which survival was wanted.
        training_cases: fold of each case that the student was trained on.
        command: what was typed.
        force_unfamiliar: whether unfamiliar cases have group and survival.

    Raises:
        MissingArtifactError, FormatError: as ``read_scale``.
    """
    scale, (_, header) = read_scale(student), read_model(student, "student")
    card = scale.card
    risks = prediction.risks
    return {
        "command": command,
        "student": _student(student, scale, header),
        "encoder": {"name": card.embed_settings.get("encoder", card.encoder), **card.embed_settings},
        "tiles": dict(card.tile_settings),
        "mpp": card.tile_settings.get("tile_mpp"),
        "time_unit": card.cohort.time_unit,
        "cut_offs": card.cut_offs.model_dump(),
        "calibration": {
            "slope": scale.prognosis.slope,
            "slope_of_one": scale.prognosis.slope_of_one,
            "fitted_on": "training cases, out of fold",
            "meaning": "below 1 log hazards are too extreme by themselves; survival and median_survival are computed "
            "from log_hazard times this slope (a training case, which one member alone speaks of: slope_of_one, from "
            "the mean of its fold)",
        },
        "reference": card.reference,
        "familiarity": {"threshold": scale.familiarity.threshold, "few_tiles": card.cohort.tiles_a_case.few},
        "force_unfamiliar": force_unfamiliar,
        "horizons": [_horizon(scale, years) for years in horizons],
        "columns": _COLUMNS if scale.prognosis.competing is None else {**_COLUMNS, **_ABSOLUTE},
        "cases": {
            "predicted": len(risks),
            "by_group": dict(sorted(Counter(risk.risk_group for risk in risks).items())),
            "with_warning": sum(bool(risk.warning) for risk in risks),
            "of_the_training_cohort": sum(risk.case_id in training_cases for risk in risks),
            "failed": [{"case_id": failure.id, "why": failure.message} for failure in prediction.failed],
        },
        "versions": {
            "wsisurv": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "h5py")},
        },
    }


def _student(path: Path, scale: RiskScale, header: Header) -> dict[str, Any]:
    return {
        "id": scale.fingerprint[:12],
        "file": str(path),
        "fingerprint": scale.fingerprint,
        "sha256": file_sha256(path),
        "wsisurv_version": header.wsisurv_version,
        "members": len(scale.card.member_folds),
        "cohort": scale.card.cohort.model_dump(),
    }


def _horizon(scale: RiskScale, years: float) -> dict[str, Any]:
    """What survival to a horizon rests on, and why it is not given where it is not."""
    time = scale.in_unit(years)
    followed, until = scale.prognosis.followed_to(time), scale.prognosis.baseline.followed_until
    found = {
        "years": years,
        "column": survival_column(years),
        "time": time,
        "training_cases_followed": followed,
        "given": scale.prognosis.supports(time),
        "reason": "",
    }
    if time > until:
        found["reason"] = f"the training cohort was followed for {until:g} {scale.card.cohort.time_unit} at most"
    elif not found["given"]:
        found["reason"] = f"{followed} training cases were followed so long, and {FEW_FOLLOWED} are needed"
    return found
