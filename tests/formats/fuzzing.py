"""Spoils files at random and opens them; run as a process of its own, with little memory: HDF5 itself may crash.

python tests/formats/fuzzing.py FOLDER FIRST_SEED COUNT

FOLDER holds files named KIND.h5. Each is spoilt and opened COUNT times. Prints a JSON object: how many were read, how
many refused, and everything else that happened, by seed. FOLDER/at.txt tells what was in hand if the process dies.
"""

import json
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wsisurv.bags.feature_rows import describe_features, read_rows
from wsisurv.errors import WsisurvError
from wsisurv.formats.features import read_features
from wsisurv.formats.foreign import holds_features, read_foreign_features, read_foreign_tiles
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import read_model
from wsisurv.formats.shown import describe
from wsisurv.formats.text_vectors import read_text_vectors
from wsisurv.formats.tiles import read_tiles

MEMORY = 1 << 30
"""What the process may take beyond what it has when all is imported."""
PATIENCE_S = 20
"""Then the kernel ends the process: a file must not hold it for ever."""


def _student(path: Path) -> None:
    if "wsisurv.prediction.card" in sys.modules:
        sys.modules["wsisurv.prediction.card"].open_student(path)
    else:
        read_model(path, "student")


def _rows(path: Path) -> None:
    file = describe_features(path)
    rows = np.arange(min(file.n_tiles, 50))[::-1].copy()
    read_rows(file, rows, np.empty((len(rows), file.n_features), file.dtype))


def _features(path: Path) -> None:
    try:
        read_features(path)
    finally:
        _rows(path)


def _foreign(path: Path) -> None:
    """As `import` does."""
    if holds_features(path):
        read_foreign_features(path)
    else:
        read_foreign_tiles(path)


READERS: dict[str, Callable[[Path], object]] = {
    "tiles": read_tiles,
    "features": _features,
    "guidance": read_guidance,
    "vectors": read_text_vectors,
    "teacher": lambda path: read_model(path, "teacher"),
    "student": _student,
    **dict.fromkeys(("stamp", "trident", "trident-tiles", "clam-tiles", "atlaspatch"), _foreign),
}


def spoil(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with something wrong with it."""
    data = np.frombuffer(content, np.uint8).copy()
    how = rng.integers(6)
    if how == 0:
        return content[: rng.integers(len(content))]
    if how == 1:
        return rng.bytes(int(rng.integers(1, 4096)))
    if how == 2:  # the head, where HDF5 says where all else is
        at = rng.integers(min(len(data), 4096), size=rng.integers(1, 4))
        data[at] = rng.integers(256, size=len(at))
    elif how == 3:
        at = rng.integers(len(data), size=rng.integers(1, 40))
        data[at] ^= (1 << rng.integers(8, size=len(at))).astype(np.uint8)
    elif how == 4:  # lengths and addresses become huge
        start = int(rng.integers(len(data)))
        data[start : start + int(rng.integers(1, 9))] = 0xFF
    else:
        start, other, length = (int(n) for n in rng.integers([len(data), len(data), 256]))
        part = data[start : start + length].copy()
        data[other : other + len(part)] = part[: len(data) - other]
    return data.tobytes()


def main() -> None:
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    originals = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.h5")) if path.stem in READERS}
    if "--open" in sys.argv:
        import wsisurv.prediction.card  # noqa: F401
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen: Counter[str] = Counter()
    leaked = []
    spoilt = folder / "spoilt.bin"
    for seed in range(first, first + count):
        for number, (kind, content) in enumerate(originals.items()):
            (folder / "at.txt").write_text(f"{kind} {seed}")
            spoilt.write_bytes(spoil(content, np.random.default_rng([seed, number])))
            for reader in (describe, READERS[kind]):
                signal.alarm(PATIENCE_S)
                try:
                    reader(spoilt)
                    seen["read"] += 1
                except WsisurvError as error:
                    seen["refused"] += 1
                    # HDF5 asks for as much as a spoilt length says, but finds the file too short before it is used
                    seen["asked HDF5 for too much"] += "memory allocation failed" in str(error)
                    if isinstance(error.__cause__, MemoryError):
                        leaked.append(f"{kind} {seed} {reader.__name__}: {error}")
                except Exception as error:  # noqa: BLE001 - whatever comes is what is looked for
                    leaked.append(f"{kind} {seed} {reader.__name__}: {type(error).__name__}: {error}")
                    print(leaked[-1], file=sys.stderr)
                signal.alarm(0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(json.dumps({**seen, "leaked": leaked, "grown_mib": grown}))


if __name__ == "__main__":
    main()
