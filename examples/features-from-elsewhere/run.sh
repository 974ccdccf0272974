#!/usr/bin/env bash
# From another tool's features to cohorts/crc/risk.csv.
set -euo pipefail
features=${FEATURES:?folder with one .h5 a slide}
encoder=${ENCODER:?name of the encoder that made them}
reports=${REPORTS:?folder of .txt reports, or a CSV or JSONL with case_id,text}
clinical=${CLINICAL:?clinical table}
slide_mpp=${SLIDE_MPP:?µm per pixel of the slides at level 0}
export WSISURV_WORKSPACE=${OUT:-workspace}     # instead of --workspace in each command

# TRIDENT and CLAM need more words: --tile-mpp 0.5, and for CLAM --tile-px 224 too.
wsisurv import "$features" --encoder "$encoder" --slide-mpp "$slide_mpp" ${IMPORT_OPTIONS:-}
wsisurv extract-report "$reports" --backend "${BACKEND:-ollama}" ${MODEL:+--model "$MODEL"}
wsisurv train-teacher --cohort crc --clinical "$clinical" --encoder "$encoder" \
    --time "${TIME:-os_days}" --event "${EVENT:-os_event}"
wsisurv distill --cohort crc
wsisurv predict --cohort crc
