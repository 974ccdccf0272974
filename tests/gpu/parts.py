"""What the parts of the GPU checks share: sizes, where figures go, and the command line of the product."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
HELPERS = ("tests/bench", "tests/training")
"""Folders of modules that the parts share with benchmarks and tests; the runner puts them on the path."""


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        device: where.
        encoder: the largest of the table.
        agreeing: encoder that also a CPU can compute.
        small: encoder that is faster than any reader of slides.
        slides: to embed.
        slide_px: side of each; 23,000 at 0.5 µm/px have about 5,000 tiles of tissue.
        bare_s: seconds of the bare loop.
        cases: of the cohort to train on.
        tiles: of each case.
        features: of each tile.
        epochs: of every training.
        pack_cases: bags of the exact mode beside the plain way.
        rounds: of that.
        small_cases: of the cohort whose trainings are compared number by number.
        teacher: more options of ``train-teacher``.
        student: more options of ``distill``.
    """

    device: str = "cuda"
    encoder: str = "h-optimus-0"
    agreeing: str = "uni"
    small: str = "timm:vit_small_patch16_224"
    slides: int = 8
    slide_px: int = 23_000
    bare_s: float = 6.0
    cases: int = 200
    tiles: int = 2000
    features: int = 1024
    epochs: int = 150
    pack_cases: int = 60
    rounds: int = 3
    small_cases: int = 80
    teacher: tuple[str, ...] = ()
    student: tuple[str, ...] = ()


DRY = Sizes(
    device="cpu",
    encoder="timm:test_vit",
    agreeing="timm:test_vit",
    small="timm:test_vit",
    slides=2,
    slide_px=1536,
    bare_s=0.2,
    cases=36,
    tiles=20,
    features=32,
    epochs=2,
    pack_cases=3,
    rounds=1,
    small_cases=24,
    teacher=("--folds", "2", "--text-folds", "2", "--repeats", "1"),
    student=("--members", "2", "--pretrain-epochs", "2"),
)


class Figures:
    """Figures of a part, written to its file as soon as each is known: a part that is stopped keeps what it found."""

    def __init__(self, path: Path) -> None:
        self._path, self._values, self._start = path, {}, time.perf_counter()

    def add(self, **values: Any) -> None:
        """Note and print figures."""
        self._values |= {name: _rounded(value) for name, value in values.items()}
        for name, value in values.items():
            self._say(f"{name}: {_rounded(value)}")
        self._write()

    def check(self, name: str, *, passed: bool, seen: Any) -> None:
        """Note whether something holds; the whole run says so in the end."""
        self._values.setdefault("checks", {})[name] = {"passed": bool(passed), "seen": _rounded(seen)}
        self._say(f"{'ok' if passed else 'NOT OK'}: {name} ({_rounded(seen)})")
        self._write()

    def _say(self, what: str) -> None:
        print(f"  [{time.perf_counter() - self._start:6.1f} s] {what}", flush=True)

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._values), encoding="utf-8")
        temporary.replace(self._path)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note the seconds of what is done inside."""
        start = time.perf_counter()
        yield
        self.add(**{f"{name}_s": time.perf_counter() - start})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return value


def wsisurv(*words: object, alone: bool = False) -> str:
    """Run a command of the product; what it said.

    Args:
        words: of the command line.
        alone: in a process of its own, as a user does; otherwise in this one, which has imported everything already.

    Raises:
        RuntimeError: it failed; with all that it said.
    """
    if alone:
        command = [sys.executable, "-m", "wsisurv", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        code, said = done.returncode, done.stdout + done.stderr
    else:
        from wsisurv.cli.app import main

        into = io.StringIO()
        code = 0
        with patch.object(sys, "argv", ["wsisurv", *map(str, words)]), redirect_stdout(into), redirect_stderr(into):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        said = into.getvalue()
    if code:
        raise RuntimeError(f"wsisurv {' '.join(map(str, words))} ended with {code}:\n{said}")
    return said


def begin() -> tuple[Sizes, Figures, Path]:
    """What the runner tells a part: sizes, figures, and the folder that all parts share."""
    told = json.loads(sys.argv[1])
    return Sizes(**told["sizes"]), Figures(Path(told["figures"])), Path(told["scratch"])


def words_for(sizes: Sizes, figures: Path, scratch: Path) -> str:
    """The same, as one word of a command line."""
    return json.dumps({"sizes": asdict(sizes), "figures": str(figures), "scratch": str(scratch)})


def synchronise(device: str) -> None:
    """Wait until a card has done what it was given; nothing on a CPU."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
