#!/usr/bin/env bash
# lifelines 0.30.3: CoxPHFitter's printed concordance ignores late entry.
# Expected: a fit with entry_col compares cases only while both are at risk, as its partial likelihood does.
# Seen: concordance_index_ is the same number as without entry times; pairs that were never at risk together are counted.
# Why it matters: biobank and second-opinion cohorts enter late; the figure in the summary is then of another question.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/v" && "$T/v/bin/pip" install -q --disable-pip-version-check lifelines==0.30.3
"$T/v/bin/python" - <<'P'
import numpy as np, pandas as pd
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
rng = np.random.default_rng(0); n = 400
x = rng.normal(size=n); time = rng.exponential(np.exp(-x)) + .05; entry = rng.uniform(0, .95, n) * time
event = rng.random(n) < .7
table = pd.DataFrame(dict(x=x, time=time, event=event, entry=entry))
fit = CoxPHFitter().fit(table, "time", "event", entry_col="entry")
risk = fit.predict_log_partial_hazard(table).to_numpy()
def harrell(with_entry):
    good = pairs = 0.0
    for i in np.flatnonzero(event):
        later = time > time[i]
        if with_entry: later &= entry < time[i]          # at risk together
        pairs += later.sum(); good += (risk[i] > risk[later]).sum() + .5 * (risk[i] == risk[later]).sum()
    return good / pairs
print(f"printed {fit.concordance_index_:.4f}; all pairs {harrell(False):.4f}; pairs at risk together {harrell(True):.4f}")
assert abs(fit.concordance_index_ - concordance_index(time, -risk, event)) < 1e-9, "changed: no longer the figure of all pairs"
assert abs(harrell(True) - harrell(False)) > .005, "input no longer tells the two apart"
assert abs(fit.concordance_index_ - harrell(True)) > .005, "changed: late entry is respected now"
print("stands: lifelines 0.30.3 prints the concordance without entry times")
P
