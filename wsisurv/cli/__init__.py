"""The command line: parse, call one function, print.

Threads that wait for each other sleep here instead of spinning, and small decompositions get one thread: where other
processes hold the cores, spinning made a cross-validation take ten times the time. Libraries read these when they are
loaded, so they are set before any is; what the user has set stays.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
