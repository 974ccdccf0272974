"""Makes cox_lifelines.json: partial log likelihoods by lifelines at fixed coefficients, with ties and weights.

Run: python tests/reference/cox_lifelines.py
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter


def log_likelihood(risk, time, event, weight):
    """Efron's partial log likelihood of lifelines with the coefficient held at 1: no step of Newton is taken."""
    table = pd.DataFrame({"risk": risk, "time": time, "event": event, "weight": weight})
    fitter = CoxPHFitter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lifelines says that it did not converge, as it was told not to
        fitter.fit(
            table,
            "time",
            "event",
            weights_col="weight",
            robust=True,
            initial_point=np.array([np.std(risk, ddof=1)]),
            fit_options={"max_steps": 1, "step_size": 1e-12},
        )
    return fitter.log_likelihood_


def main():
    rng = np.random.default_rng(0)
    cases = []
    for n, n_times, weighted in [(12, 100, False), (60, 15, False), (60, 15, True), (200, 40, True), (40, 2, False)]:
        risk = rng.normal(0, 1, n)
        time = rng.integers(1, n_times + 1, n).astype(float)
        event = rng.random(n) < 0.5
        weight = rng.uniform(0.2, 3, n) if weighted else np.ones(n)
        value = log_likelihood(risk, time, event, weight)
        cases.append(
            {
                "risk": risk.tolist(),
                "time": time.tolist(),
                "event": event.tolist(),
                "weight": weight.tolist(),
                "efron": value,
            }
        )
    Path(__file__).with_suffix(".json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
