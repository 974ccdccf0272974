#!/usr/bin/env bash
# lifelines 0.30.3: AalenJohansenFitter jitters tied times at random, but only where an event is the only one of its kind at its time.
# Expected: at a tied time events come before censorings, as in Kaplan-Meier.
# Seen: right while each tied time holds none or several of each kind; one lone competing death, and all event times are moved
# before or after the censorings of their year: the incidence is off by more than a point and depends on the seed.
# Why it matters: competing risks are what disease-specific endpoints need, and registries give months.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/v" && "$T/v/bin/pip" install -q --disable-pip-version-check lifelines==0.30.3
"$T/v/bin/python" - <<'P'
import warnings; warnings.simplefilter("ignore")
import numpy as np
from lifelines import AalenJohansenFitter
rng = np.random.default_rng(0); n = 200
first, other, end = rng.exponential(6, n), rng.exponential(12, n), rng.uniform(1, 6, n)
exact = np.minimum(np.minimum(first, other), end)
code = np.where(end <= exact, 0, np.where(first < other, 1, 2)); time = np.ceil(exact)
def by_hand(at):                                           # events before censorings at a tied time
    alive, incidence = 1.0, 0.0
    for t in np.unique(time[time <= at]):
        n_at_risk = (time >= t).sum()
        incidence += alive * ((time == t) & (code == 1)).sum() / n_at_risk
        alive *= 1 - ((time == t) & (code > 0)).sum() / n_at_risk
    return incidence
right = by_hand(4)
fit = lambda code, seed: float(AalenJohansenFitter(seed=seed).fit(time, code, event_of_interest=1).predict(4.5))
many = [fit(code, seed) for seed in range(8)]
print(f"many of each kind a year: by hand {by_hand(4):.4f}, by seed {min(many):.4f} to {max(many):.4f}")
assert max(abs(value - by_hand(4)) for value in many) < 1e-9, "changed: jittered here too"
lone = np.flatnonzero((code == 2) & (time == 2))[1:]       # one death of the other kind is left in the second year
code[lone] = 0
one = [fit(code, seed) for seed in range(8)]
print(f"one of the other kind in one year: by hand {by_hand(4):.4f}, by seed {min(one):.4f} to {max(one):.4f}")
assert max(abs(value - by_hand(4)) for value in one) > .01, "changed: ties are handled now"
print("stands: tied times are jittered as soon as one event is the only one of its kind at its time")
P
