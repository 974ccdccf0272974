#!/usr/bin/env bash
# lifelines 0.30.3: CoxPHFitter pairs Efron's coefficients with Breslow's baseline hazard.
# Expected: the baseline takes the step that belongs to the ties of the fit, as R's survfit of a coxph with Efron's ties does.
# Seen: each time of d events adds d / sum(exp(eta)), as if all of them were at risk until the last is gone.
# Why it matters: follow-up in months or years has many ties; predicted survival is then too long, by points, in a model without fault.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/v" && "$T/v/bin/pip" install -q --disable-pip-version-check lifelines==0.30.3
"$T/v/bin/python" - <<'P'
import numpy as np, pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
rng = np.random.default_rng(0); n = 600
x = rng.normal(size=n) * 1e-3                                     # of no effect: survival is that of all cases
death, end = rng.exponential(2, n), rng.uniform(.5, 6, n)
table = pd.DataFrame(dict(x=x, time=np.ceil(np.minimum(death, end)), event=death <= end))   # in whole years
fit = CoxPHFitter(penalizer=1e3).fit(table, "time", "event")      # coefficient 0
predicted = float(fit.predict_survival_function(pd.DataFrame(dict(x=[0.0])), times=[1.0]).iloc[0, 0])
kaplan_meier = float(KaplanMeierFitter().fit(table.time, table.event).predict(1.0))
died = int(((table.time == 1) & table.event).sum())
efron = float(np.exp(-(1 / (n - np.arange(died))).sum()))
breslow = float(np.exp(-died / n))
print(f"survival to one year: Kaplan-Meier {kaplan_meier:.3f}; Efron's step {efron:.3f}, Breslow's {breslow:.3f}; predicted {predicted:.3f}")
assert abs(efron - kaplan_meier) < .005 and breslow - kaplan_meier > .02, "input no longer tells the two apart"
assert abs(predicted - breslow) < .002, "changed: the baseline is no longer Breslow's"
print("stands: lifelines 0.30.3 predicts with Breslow's baseline, too long a survival under ties")
P
