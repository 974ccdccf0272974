#!/usr/bin/env bash
# Expected: a LocalCluster, whose scheduler listens on 127.0.0.1, is to be reached from this machine alone; dashboard_address=None makes no server.
# Seen: the scheduler is, but its HTTP server listens on all interfaces (0.0.0.0:8787), without a password, and tells the names of the tasks at work,
# also without Bokeh, when there is no dashboard to see. With dashboard_address=None it listens all the same, on 127.0.0.1.
# Versions: distributed 2026.8.0.
# Why it matters: names of tasks often hold case numbers; on a shared node everyone in the network reads them.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q distributed==2026.8.0
cd "$folder"
cat > look.py <<'P'
import sys
import time
import urllib.parse
import urllib.request

import psutil
from distributed import Client, LocalCluster


def look(**how):
    with LocalCluster(n_workers=1, **how) as cluster, Client(cluster, set_as_default=False) as client:
        running = client.submit(time.sleep, 3, key="case-4711")
        (worker,) = client.nthreads()
        time.sleep(1)
        port = cluster.scheduler.http_server.port
        page = f"http://127.0.0.1:{port}/info/worker/{urllib.parse.quote(worker, safe='')}.html"
        told = "case-4711" in urllib.request.urlopen(page).read().decode()
        ends = [one.laddr for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        (place,) = {end.ip for end in ends if end.port == port}
        running.result()
        print(f"{how or 'usual'}: scheduler {cluster.scheduler_address}, HTTP on {place}:{port}, tells the task's name: {told}")
        return place, told


if __name__ == "__main__":
    usual, none = look(), look(dashboard_address=None)
    if usual != ("0.0.0.0", True):
        sys.exit("Changed: it doesn't answer on all interfaces, or doesn't tell what is at work.")
P
venv/bin/python look.py
