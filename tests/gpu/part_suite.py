"""Part 1: the tests of the suite that need a card."""

import re
import subprocess
import sys

from parts import ROOT, begin

sizes, figures, scratch = begin()
files = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "tests").rglob("test_*.py")
    if "cuda.is_available" in path.read_text(encoding="utf-8") and path.name != "test_dry.py"
)
figures.add(files=files)
# another machine's versions may warn of this and that, which is not asked here
options = [
    "-q",
    "-p",
    "no:cacheprovider",
    "--override-ini=filterwarnings=default",
    "-k",
    "gpu or cuda",
    "--durations=5",
]
done = subprocess.run([sys.executable, "-m", "pytest", *options, *files], cwd=ROOT, text=True, capture_output=True)
print(done.stdout[-6000:], done.stderr[-2000:])
counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", done.stdout)}
figures.add(pytest=counts, exit_status=done.returncode)
wanted = "skipped" if sizes.device == "cpu" else "passed"
if done.returncode:
    figures.add(said=done.stdout[-6000:] + done.stderr[-1000:])
figures.check("tests that need a card", passed=done.returncode == 0 and counts.get(wanted, 0) >= 5, seen=counts)
