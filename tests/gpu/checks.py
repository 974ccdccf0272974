"""Run the parts one after the other, each in a process of its own, and put their figures into one file.

A part that fails, or takes too long, leaves its traceback and what it found, and the next goes on. The file is written
anew after each part. Start it with ``run.sh``, which finds packages first.
"""

import argparse
import json
import os
import platform
import runpy
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from parts import DRY, HELPERS, ROOT, Sizes, words_for

HERE = Path(__file__).parent
WHOLE_S = 480.0
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "h5py", "openslide-bin", "simplejpeg", "imagecodecs")


@dataclass(frozen=True)
class Part:
    """One file of this folder.

    Attributes:
        name: of the part; its file is ``part_<name>.py``.
        limit_s: seconds after which it is stopped.
        beside: runs beside the others from the start, and is waited for last.
    """

    name: str
    limit_s: float
    beside: bool = False


PARTS = (
    Part("cpu", 460, beside=True),
    Part("suite", 100),
    Part("embed", 220),
    Part("training", 150),
    Part("agreement", 120),
)
DRY_PATIENCE = 10
"""Times longer a part may take in a dry run, where a machine may do other work."""


class Forked:
    """A part in a process forked from this one, for dry runs: to import torch for each takes longer than they do."""

    def __init__(self, script: Path, words: str, environment: dict[str, str], into: int) -> None:
        self.pid, self._code = os.fork(), None
        if self.pid:
            return
        code: Any = 1
        try:
            os.setsid()
            os.chdir(ROOT)
            os.environ.update(environment)
            for number in (1, 2):
                os.dup2(into, number)
            sys.argv = [str(script), words]
            sys.path[:0] = [str(script.parent), *(str(ROOT / folder) for folder in HELPERS)]
            runpy.run_path(str(script), run_name="__main__")
            code = 0
        except SystemExit as ended:
            code = ended.code
        except BaseException:  # noqa: BLE001  # as the interpreter would
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else int(bool(code)))

    def poll(self) -> int | None:
        """Exit code; None while it runs."""
        if self._code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if ended else None
        return self._code

    def wait(self) -> None:
        """Wait for its end."""
        while self.poll() is None:
            time.sleep(0.05)


@dataclass
class Running:
    """A part at work."""

    part: Part
    process: "subprocess.Popen[str] | Forked"
    figures: Path
    log: Path
    started: float


def start(part: Part, sizes: Sizes, scratch: Path) -> Running:
    """Start a part; what it prints goes to the screen, or to a file where it runs beside others."""
    figures, log = scratch / f"{part.name}.json", scratch / f"{part.name}.log"
    helpers = os.pathsep.join(str(ROOT / folder) for folder in HELPERS)
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', ROOT)}{os.pathsep}{helpers}"}
    environment["OMP_WAIT_POLICY"] = "passive"  # as the command line has it
    if sizes == DRY:
        environment["OMP_NUM_THREADS"] = "1"
    if part.beside:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(max(1, min(4, (os.cpu_count() or 2) // 2)))}
    script, words = HERE / f"part_{part.name}.py", words_for(sizes, figures, scratch)
    process: subprocess.Popen[str] | Forked
    with log.open("w", encoding="utf-8") as into:
        if sizes == DRY and part.name != "suite":
            process = Forked(script, words, environment, into.fileno())
        else:
            process = subprocess.Popen(
                [sys.executable, str(script), words],
                cwd=ROOT,
                env=environment,
                stdout=into,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
    return Running(part, process, figures, log, time.time())


def end(running: Running, seconds: float) -> dict[str, Any]:
    """Wait for a part, printing what it prints; what it found, and how it ended."""
    deadline = time.time() + seconds
    shown = 0
    while True:
        code = running.process.poll()
        said = running.log.read_text(encoding="utf-8", errors="replace")
        print(said[shown:], end="", flush=True)
        shown = len(said)
        if code is not None or time.time() > deadline:
            break
        time.sleep(0.2)
    ended = {0: "done", None: f"stopped after {seconds:.0f} s"}.get(code, f"failed with {code}")
    if code is None:
        stop(running)
    found = json.loads(running.figures.read_text(encoding="utf-8")) if running.figures.exists() else {}
    result = {"ended": ended, "seconds": round(time.time() - running.started, 1), **found}
    if code != 0:
        result["error"] = said[-4000:]
    return result


def stop(running: Running) -> None:
    """End a part and what it started."""
    try:
        os.killpg(running.process.pid, 9)
    except ProcessLookupError:
        pass
    running.process.wait()


def describe() -> dict[str, Any]:
    """The machine, its card and the versions."""
    import torch

    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "?"
    machine: dict[str, Any] = {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "versions": versions,
        "cuda": torch.version.cuda,
        "card": None,
    }
    if torch.cuda.is_available():
        of_card = torch.cuda.get_device_properties(0)
        machine |= {
            "card": of_card.name,
            "card_gib": round(of_card.total_memory / 2**30, 1),
            "capability": f"{of_card.major}.{of_card.minor}",
            "cudnn": torch.backends.cudnn.version(),
        }
    return machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="every way on the CPU, tiny")
    parser.add_argument("--parts", default=",".join(part.name for part in PARTS))
    parser.add_argument("--seconds", type=float, default=WHOLE_S, help="for all together")
    parser.add_argument("--started", type=float, default=time.time())
    parser.add_argument("--scratch", type=Path, required=True)
    options = parser.parse_args()
    sizes = DRY if options.dry else Sizes()
    patience = DRY_PATIENCE if options.dry else 1
    until = options.started + patience * options.seconds - 5
    into = Path(os.environ["OUT"]) / "gpu.json"
    result: dict[str, Any] = {"dry": options.dry, "machine": describe(), "sizes": sizes.__dict__, "parts": {}}
    print(json.dumps(result["machine"]))
    if not options.dry and result["machine"]["card"] is None:
        print("no CUDA here; --dry goes every way on the CPU")
        return 2
    if options.dry:  # what parts import, once
        import lifelines  # noqa: F401

        import wsisurv.cli.app
        import wsisurv.embedding.encoders
        import wsisurv.pipeline.predict
        import wsisurv.training.distill  # noqa: F401
    wanted = options.parts.split(",")
    beside = [start(part, sizes, options.scratch) for part in PARTS if part.beside and part.name in wanted]
    first = time.time()

    def note(name: str, found: dict[str, Any]) -> None:
        result["parts"][name] = found
        result["seconds"] = round(time.time() - options.started, 1)
        into.write_text(json.dumps(result, indent=1), encoding="utf-8")
        print(f"== {name}: {found['ended']}, {found['seconds']} s", flush=True)

    try:
        for part in PARTS:
            left = until - time.time()
            if part.beside or part.name not in wanted:
                continue
            if left < 5:
                note(part.name, {"ended": "no time left", "seconds": 0.0})
                continue
            print(f"== {part.name} ({time.time() - options.started:.0f} s)", flush=True)
            note(part.name, end(start(part, sizes, options.scratch), min(patience * part.limit_s, left)))
        for running in beside:
            print(f"== {running.part.name}, which ran beside ({time.time() - options.started:.0f} s)", flush=True)
            left = min(first + patience * running.part.limit_s, until) - time.time()
            note(running.part.name, end(running, max(1.0, left)))
    finally:
        for running in beside:
            stop(running)
    compare(result["parts"])
    failed = [
        f"{name}: {check}"
        for name, part in result["parts"].items()
        for check, seen in part.get("checks", {}).items()
        if not seen["passed"]
    ] + [f"{name}: {part['ended']}" for name, part in result["parts"].items() if part["ended"] != "done"]
    result["failed"] = failed
    into.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps(result, indent=1))
    print(f"written to {into}; " + (f"NOT as it should be: {'; '.join(failed)}" if failed else "all as it should be"))
    return 1 if failed else 0


def compare(parts: dict[str, Any]) -> None:
    """The card beside the CPU, where both were timed."""
    card, cpu = parts.get("training", {}), parts.get("cpu", {})
    beside = {
        name: round(cpu[name] / card[name], 2)
        for name in ("teacher_s", "distill_s", "teacher_epoch_s")
        if cpu.get(name) and card.get(name)
    }
    if beside:
        parts["training"]["times_faster_than_cpu"] = beside


if __name__ == "__main__":
    sys.exit(main())
