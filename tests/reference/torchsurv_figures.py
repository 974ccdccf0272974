"""Makes torchsurv_figures.json: Cox likelihoods with gradients, Uno's concordance, AUC and Brier score by torchsurv.

Times of events and of censorings are never shared here, since torchsurv and wsisurv mean different weights there.
torchsurv computes in float32, so its figures hold to about six digits.

Run: python tests/reference/torchsurv_figures.py (torchsurv 0.2)
"""

import json
from pathlib import Path

import numpy as np
import torch
from torchsurv.loss.cox import baseline_survival_function, neg_partial_log_likelihood, survival_function_cox
from torchsurv.metrics.auc import Auc
from torchsurv.metrics.brier_score import BrierScore
from torchsurv.metrics.cindex import ConcordanceIndex
from torchsurv.stats.ipcw import get_ipcw


def cox(risk, time, event, ties):
    eta = torch.tensor(risk, dtype=torch.float64, requires_grad=True)
    value = neg_partial_log_likelihood(eta, event, time, ties_method=ties, reduction="sum")
    value.backward()
    return {"log_likelihood": -value.item(), "gradient": (-eta.grad).tolist()}


def main():
    rng = np.random.default_rng(0)
    cases = []
    for n, distinct, levels in [(30, 1000, 1000), (80, 12, 7), (150, 30, 12)]:
        risk = np.round(rng.normal(0, 1, n) * levels / 4) / (levels / 4)
        event = rng.random(n) < 0.5
        # even times for events, odd ones for censorings: ties within a kind only
        time = 2.0 * np.ceil(rng.exponential(np.exp(-risk)) * distinct / 4) + ~event
        horizons = np.quantile(time, [0.2, 0.4, 0.6, 0.8]) + 0.25
        survival = 1 - rng.random((n, 1)) * np.linspace(0.2, 0.9, 4)
        t, e, at = torch.tensor(time), torch.tensor(event), torch.tensor(horizons)
        eta = torch.tensor(risk)
        weight, weight_at = get_ipcw(e, t).double(), get_ipcw(e, t, at).double()
        auc, brier = Auc(), BrierScore()
        auc_at = auc(eta, e, t, weight=weight, new_time=at, weight_new_time=weight_at)
        brier_at = brier(torch.tensor(survival), e, t, new_time=at, weight=weight, weight_new_time=weight_at)
        baseline = baseline_survival_function(eta, e, t)
        cases.append(
            {
                "log_hazard": risk.tolist(),
                "time": time.tolist(),
                "event": event.tolist(),
                "horizons": horizons.tolist(),
                "predicted": survival.tolist(),
                "weight": weight.tolist(),
                "efron": cox(risk, t, e, "efron"),
                "breslow": cox(risk, t, e, "breslow"),
                "uno": [ConcordanceIndex()(eta, e, t, weight=weight, tmax=tmax).item() for tmax in at],
                "auc": auc_at.tolist(),
                "mean_auc": auc.integral().item(),
                "brier": brier_at.tolist(),
                "integrated_brier": brier.integral().item(),
                "survival": survival_function_cox(baseline, eta, at).tolist(),
            }
        )
    Path(__file__).with_suffix(".json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
