#!/usr/bin/env bash
# Dask: a LocalCluster drops a worker for good that dies again about 15 s after it died before.
#
# Expected: each worker of a LocalCluster has a nanny, which begins it anew whenever it dies (for want of memory, say), so that the
# number of workers stays what was asked for.
# Seen: 15 s after each death (distributed.deploy.lost-worker-timeout) the cluster looks whether a worker of that name is registered at
# that moment. Where it isn't, because it came back and has just died once more, it is closed and never begun again, without a word.
# With slides that take more memory than a worker has, all of them are gone after a while, and a run waits for ever.
# The nanny would have begun it within a second or two: with the look put off, the same deaths leave all workers in place.
# Version: distributed 2026.8.0.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "distributed==2026.8.0" "dask==2026.8.0"
cat > "$place/deaths.py" <<'PYTHON'
import os
import signal
import sys
import time

import dask
from distributed import LocalCluster, Status


def workers_left(wait: str) -> int:
    """Let the one worker of a cluster die, come back, and die again as the cluster looks after the first death."""
    dask.config.set({"distributed.deploy.lost-worker-timeout": wait})
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:
        died = []

        def die() -> None:
            while True:
                worker = next(iter(cluster.workers.values())).process
                if worker and worker.status is Status.running and worker.pid not in died:
                    if worker.worker_address in cluster.scheduler.workers:
                        os.kill(worker.pid, signal.SIGKILL)
                        died.append(worker.pid)
                        return
                time.sleep(0.02)

        die()
        began = time.monotonic()
        time.sleep(14.8 - (time.monotonic() - began))  # it is back by now
        die()
        time.sleep(10)
        return len(cluster.scheduler.workers)


if __name__ == "__main__":
    default, put_off = workers_left("15s"), workers_left("1 day")
    print(f"workers left after two deaths: {default} as it comes, {put_off} where the look is put off")
    sys.exit(0 if (default, put_off) == (0, 1) else "the behaviour has changed")
PYTHON
"$place/venv/bin/python" "$place/deaths.py"
