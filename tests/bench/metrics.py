"""Seconds that the figures take of up to 100,000 cases, beside lifelines and torchsurv.

Run: python tests/bench/metrics.py
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from lifelines.utils import concordance_index
from numpy.typing import NDArray
from torchsurv.metrics.cindex import ConcordanceIndex

from wsisurv.survival.baseline import baseline_hazard
from wsisurv.survival.calibration import brier, d_calibration
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.dynamic import dynamic_auc
from wsisurv.survival.metrics import bootstrap, concordance, resample_concordance
from wsisurv.survival.stratified import FoldScores, uno_within


def drawn(n: int) -> dict[str, NDArray[np.float64]]:
    """Follow-up with a true signal, half of it censored."""
    random = np.random.default_rng(n)
    risk = random.normal(size=n)
    death, end = random.exponential(np.exp(-risk)), random.exponential(1.0, n)
    return {"log_hazard": risk, "time": np.minimum(death, end) + 1e-6, "event": death <= end}


def tell(what: str, work: Callable[[], object]) -> None:
    """Print how long it takes."""
    start = time.perf_counter()
    work()
    print(f"{what:62s} {time.perf_counter() - start:7.2f} s", flush=True)


def main() -> None:
    """Print a line a figure."""
    many, few = drawn(100_000), drawn(1000)
    follow_up = {name: many[name] for name in ("time", "event")}
    horizons = np.quantile(many["time"], np.linspace(0.1, 0.9, 9))
    concordance(**few)  # imports are not counted
    tell("100,000 cases: Harrell's concordance", lambda: concordance(**many))
    tell("100,000 cases: AUC over time, 9 horizons", lambda: dynamic_auc(**many, horizons=horizons))
    baseline = baseline_hazard(**many)
    survival = baseline.survival_at(log_hazard=many["log_hazard"], horizons=horizons)
    own = baseline.survival_of(log_hazard=many["log_hazard"], time=many["time"])
    tell("100,000 cases: Brier score, 9 horizons", lambda: brier(survival=survival, horizons=horizons, **follow_up))
    tell("100,000 cases: D-calibration", lambda: d_calibration(survival=own, event=many["event"]))
    tell("100,000 cases: calibration slope", lambda: cox_slope(**many))
    models = np.stack([few["log_hazard"], np.round(few["log_hazard"])])
    tell(
        "1,000 paired bootstraps of 1,000 cases: Harrell's",
        lambda: resample_concordance(**{**few, "log_hazard": models}).difference(0, 1),
    )
    fold = [FoldScores(0, np.arange(1000), models, 1000)]
    tell(
        "1,000 paired bootstraps of 1,000 cases: Uno's",
        lambda: uno_within(fold, time=few["time"], event=few["event"]).whole.difference(0, 1),
    )
    some = drawn(10_000)
    tell("1,000 bootstraps of 10,000 cases: Harrell's", lambda: bootstrap(**some))
    draws = np.random.default_rng(0).integers(1000, size=(100, 1000))
    tell(
        "(lifelines, 100 bootstraps of 1,000 cases: Harrell's)",
        lambda: [concordance_index(few["time"][i], -few["log_hazard"][i], few["event"][i]) for i in draws],
    )
    tensors = [torch.from_numpy(np.asarray(few[name])) for name in ("log_hazard", "event", "time")]
    tell(
        "(torchsurv, 10 bootstraps of 1,000 cases: Harrell's)",
        lambda: [ConcordanceIndex()(*(one[torch.from_numpy(i)] for one in tensors)) for i in draws[:10]],
    )


if __name__ == "__main__":
    main()
