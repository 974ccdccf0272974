#!/usr/bin/env bash
# From slides, reports and follow-up to cohorts/crc/risk.csv. Run it again and only what is missing is done.
set -euo pipefail
slides=${SLIDES:?folder of slides}
reports=${REPORTS:?folder of .txt reports, or a CSV or JSONL with case_id,text}
clinical=${CLINICAL:?clinical table}
model=${MODEL:-qwen3:8b}                       # of the Ollama server on this machine; no text leaves it
backend=${BACKEND:-ollama}                     # rules: the embedded baseline, no model needed
time=${TIME:-os_days}
event=${EVENT:-os_event}
site=${SITE:-site}
export WSISURV_WORKSPACE=${OUT:-workspace}     # instead of --workspace in each command

wsisurv tile "$slides"
wsisurv embed                                  # for a foundation model: --encoder uni2-h, virchow2 …
if [ "$backend" = rules ]; then
    wsisurv extract-report "$reports" --backend rules
else
    wsisurv extract-report "$reports" --model "$model"
fi
cohort=(--cohort crc --clinical "$clinical" --time "$time" --event "$event" --time-unit days
    --site "$site" --covariates age,stage)
wsisurv train-teacher "${cohort[@]}" --audit-only
wsisurv train-teacher "${cohort[@]}"
wsisurv distill --cohort crc
wsisurv predict --cohort crc                   # the cohort's own cases, each by models that did not see it
