#!/usr/bin/env bash
# Expected: importing a library leaves Ctrl-C as it is: KeyboardInterrupt, and an exit code that says so.
# Seen: `import dask_jobqueue` puts a handler of its own in its place, which calls sys.exit(): Ctrl-C then ends the program with exit code 0, as if it had
# done its work, passes `except KeyboardInterrupt`, and replaces a handler that the program had set. In a thread the import fails for it.
# Versions: dask-jobqueue 0.9.0.
# Why it matters: a run over slides that was stopped in the middle looks finished to whatever called it, a workflow or `&&`.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q dask-jobqueue==0.9.0 distributed==2026.8.0
cd "$folder"
code=0
HOME=$folder venv/bin/python -c '
import signal

import dask_jobqueue

signal.raise_signal(signal.SIGINT)
' || code=$?
echo "exit code of a program that imports dask_jobqueue, after Ctrl-C: $code"
if [ "$code" != 0 ]; then
  echo "Changed: Ctrl-C is an interrupt again."
  exit 1
fi
