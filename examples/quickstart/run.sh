#!/usr/bin/env bash
# The demo cohort through the six steps. Run it again and only what is missing is done.
set -euo pipefail
out=${OUT:-quickstart}
cases=${CASES:-60}

wsisurv demo "$out" --cases "$cases" --draw-only          # slides, reports and follow-up of invented patients
data=$out/data
export WSISURV_WORKSPACE=$out/workspace                   # instead of --workspace in each command

wsisurv tile "$data/slides"
wsisurv embed
wsisurv extract-report "$data/reports" --backend rules
wsisurv train-teacher --cohort demo --clinical "$data/clinical.csv" --time days --event event \
    --site hospital --covariates age,stage
wsisurv distill
wsisurv predict "$data/heldout/slides" --slide-map "$data/heldout/slide_map.csv" -o "$out/risk.csv"
