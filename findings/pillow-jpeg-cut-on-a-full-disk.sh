#!/usr/bin/env bash
# Pillow 13.0.0: saving a JPEG to a path on a disk that fills up raises nothing, and leaves the front part of the picture.
# Expected: OSError, as from PNG, and as Python's own file objects do: write() may take less than it is given, the rest is tried again.
# Seen: an encoder's buffer is written by the file's number once, and how much of it was taken isn't looked at. A JPEG up to 64
# KiB is one such write; TIFF shows the same for its last bytes. A file size limit stands for the full disk here: both take
# a part of the last write. A BytesIO in between, written by Python, raises as it should.
# Why it matters: previews and contact sheets of thousands of slides are small JPEGs, saved into a quota; half of a picture counts as done.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT
python3 -m venv "$T/v" && "$T/v/bin/pip" install -q --disable-pip-version-check pillow==13.0.0
cd "$T"; "$T/v/bin/python" - <<'P'
import io, os, random, resource, signal
from PIL import Image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)              # so that a write beyond the limit is an error, as ENOSPC is
picture = Image.frombytes("RGB", (128, 128), random.Random(0).randbytes(3 * 128 * 128))
def save(kind, where, room):
    """Save with so much room; gives the error or None."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        picture.save(where, format=kind) if isinstance(where, str) else open("by-python", "wb").write(where.getbuffer())
    except OSError as error:
        return error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert save("JPEG", "whole", resource.RLIM_INFINITY) is None
whole = os.path.getsize("whole")
memory = io.BytesIO(); picture.save(memory, format="JPEG")
silent = save("JPEG", "half", whole // 2)
print(f"JPEG of {whole} bytes, room for {whole // 2}: error {silent}, left {os.path.exists('half') and os.path.getsize('half')} bytes")
print("PNG:", save("PNG", "png", whole // 2)); print("the JPEG by way of BytesIO:", save("JPEG", memory, whole // 2))
assert silent is None and os.path.getsize("half") == whole // 2, "changed: a short write is an error now"
try:
    Image.open("half").load(); raise SystemExit("changed: half a JPEG opens")
except OSError as error:
    print("reading it back:", error)
print("stands: half a JPEG was saved without an error")
P
