"""Processor time until a command begins its work: the help, `show`, and what trainings and predictions import.

Run: ``python tests/bench/starts.py [--runs 5]``. Each is a process of its own, in turns; the medians are printed beside
the import of torch alone, below which none of the last three can be. Never fails on a time.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_OPTIMISER = "import torch; from wsisurv.training.adamw import AdamW; AdamW([], learning_rate=1, weight_decay=0)"
_COMMAND = "import sys; from wsisurv.cli.app import main; sys.argv = ['wsisurv', *sys.argv[1:]]; main()"


def seconds(code: str, *words: str) -> float:
    """Processor time of a Python process, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with TemporaryDirectory() as folder:
        table = Path(folder, "risk.csv")
        table.write_text("case_id,log_hazard,risk_group\na,0.1,low\n")
        works: dict[str, tuple[str, ...]] = {
            "wsisurv --help": (_COMMAND, "--help"),
            "wsisurv show FILE": (_COMMAND, "show", str(table)),
            "wsisurv tile --help": (_COMMAND, "tile", "--help"),
            "torch alone": ("import torch",),
            "train-teacher": (f"import wsisurv.training.teacher; {_OPTIMISER}",),
            "distill": (f"import wsisurv.training.distill; {_OPTIMISER}",),
            "predict": ("import wsisurv.pipeline.predict",),
        }
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(runs):
            for name, words in works.items():
                taken[name].append(seconds(*words))
    for name, each in taken.items():
        print(f"{name:24} {statistics.median(each):6.2f} s")


if __name__ == "__main__":
    main()
