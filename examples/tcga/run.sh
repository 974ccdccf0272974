#!/usr/bin/env bash
# From features that the hub offers, and a follow-up table, to a cross-validated page. Run it again and only what is missing is done.
set -euo pipefail
features=${FEATURES:?folder with one .h5 a slide, TCGA-XX-XXXX-01Z-00-DX1….h5}
clinical=${CLINICAL:?follow-up: a row a case, CSV or the data_clinical_patient.txt of cBioPortal}
name=${NAME:-tcga}
encoder=${ENCODER:-uni2-h}
columns=(--case "${CASE:-PATIENT_ID}" --time "${TIME:-OS_MONTHS}" --event "${EVENT:-OS_STATUS}" --time-unit "${UNIT:-months}"
    --covariates "${COVARIATES:-AGE,AJCC_PATHOLOGIC_TUMOR_STAGE}" --drop-incomplete)
if [ -n "${EVENT_VALUES-0:LIVING,1:DECEASED}" ]; then columns+=(--event-values "${EVENT_VALUES-0:LIVING,1:DECEASED}"); fi
if [ -n "${SITE:-}" ]; then columns+=(--site "$SITE"); fi
export WSISURV_WORKSPACE=${OUT:-workspace}     # instead of --workspace in each command

# 256 px at 20x of TRIDENT are 0.5 µm/px; of the slides' own resolution the files say nothing, so no heatmaps.
wsisurv import "$features" --encoder "$encoder" ${IMPORT_OPTIONS:---tile-px 256 --tile-mpp 0.5 --unknown-resolution}
if [ -n "${REPORTS:-}" ]; then                 # the upgrade: the reports of TCGA-Reports, as JSONL or CSV with case_id,text
    wsisurv extract-report "$REPORTS" --backend "${BACKEND:-ollama}" ${MODEL:+--model "$MODEL"}
fi
wsisurv cohort "$name" --clinical "$clinical" --encoder "$encoder" "${columns[@]}"
wsisurv train-teacher --cohort "$name" --encoder "$encoder"
wsisurv distill --cohort "$name"
wsisurv crossval --cohort "$name" --folds "${FOLDS:-5}" --repeats "${REPEATS:-3}"
wsisurv predict --cohort "$name"
wsisurv report --cohort "$name"
