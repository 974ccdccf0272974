#!/usr/bin/env bash
# All that only a graphics card can tell, in one go: `bash tests/gpu/run.sh [--wheels DIR] [--dry] [--parts suite,embed,…]`.
#
# Needs a Python with torch (PYTHON=…, else python3), no network and no installation: with --wheels, packages that this
# Python lacks are laid out in a temporary folder from the wheels in DIR. --dry goes every way on the CPU in tiny sizes.
# Prints what it finds and writes it to $OUT/gpu.json (OUT is ./gpu-out where it is not set). docs/gpu.md explains the
# figures.
set -euo pipefail
started=$(date +%s)
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
wheels=
words=()
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=${2:?--wheels needs a folder}; shift 2 ;;
    *) words+=("$1"); shift ;;
  esac
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch PYTHONUNBUFFERED=1 PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
if [ -n "$wheels" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --target "$scratch/site" "$wheels"/*.whl || {
    echo "pip failed; the wheels are unpacked as they are"
    for wheel in "$wheels"/*.whl; do "$python" -m zipfile -e "$wheel" "$scratch/site"; done
  }
  export PYTHONPATH=$PYTHONPATH:$scratch/site
fi
export OUT=${OUT:-$PWD/gpu-out}
mkdir -p "$OUT"
cd "$root"
"$python" tests/gpu/checks.py --started "$started" --scratch "$scratch" ${words[@]+"${words[@]}"}
