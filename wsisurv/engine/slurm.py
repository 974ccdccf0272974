"""A job array of SLURM: its script, and how it is sent.

submitit is not used: it pickles Python functions, and a command with ``--shard`` needs a shell script of a dozen lines.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsisurv.errors import BackendError, SettingsError

_USUAL_MOST = 1001
"""SLURM's own MaxArraySize, where nobody says another."""
_WARNED_S = 120
_TRIES = 3
_SCRIPT = """#!/bin/bash
#SBATCH --job-name=wsisurv-{step}
#SBATCH --array=0-{last}{at_once}
#SBATCH --output={logs}/{step}-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@{warned}
{asked}
# Share {first} and following of {count}. What a share has done is kept: begun again, it goes on.
command=({words} --shard "$((SLURM_ARRAY_TASK_ID + {first}))/{count}")
late= told=
trap 'told=1; late=1; kill -TERM $child' USR1  # {warned} s before the time is up
trap 'told=1; kill -TERM $child' TERM          # cancelled, or pre-empted: then SLURM begins it again by itself
"${{command[@]}}" &
child=$!
wait $child
code=$?
while [ -n "$told" ]; do  # a signal ends wait, and not the child
  told=
  wait $child
  now=$?
  [ $now = 127 ] || code=$now
done
# Where time ran out, or another process still held something, it is begun again in a while, and not for ever.
if [ -n "$late" ] && [ $code -ge 130 ] || [ $code = 3 ]; then
  [ "${{SLURM_RESTART_COUNT:-0}}" -lt {tries} ] && scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
"""


@dataclass(frozen=True)
class JobArray:
    """One job array."""

    script: str  # as sbatch takes it
    tasks: int  # how many


def arrays(
    step: str,
    command: Sequence[str],
    tasks: int,
    *,
    logs: Path,
    options: Sequence[str] = (),
    at_once: int | None = None,
) -> Iterator[JobArray]:
    """Yield the arrays that do a command in shares, each no larger than this SLURM allows.

    Args:
        step: for the job's name.
        command: its words, without ``--shard``.
        tasks: shares in all.
        logs: folder of what tasks print.
        options: of sbatch (``--partition=gpu``).
        at_once: tasks of an array that may run at the same time; None for all.

    Raises:
        SettingsError: an option that would not stand on one line, or that the script has itself; less time than is
            left when a task is warned.
        BackendError: this SLURM takes no arrays.
    """
    for one in options:
        if not one.startswith("-") or "\n" in one or re.match(r"--(array|signal|output)\b|-[ao]", one):
            raise SettingsError(
                f"--sbatch {one!r}: an option of sbatch is needed, and none of --array, --output, --signal"
            )
        if (limit := _time_limit(one)) is not None and limit <= _WARNED_S:
            raise SettingsError(
                f"--sbatch {one!r}: a task is stopped {_WARNED_S} s before its time is up, so that it would be as soon "
                f"as it begins. Give it more time."
            )
    most = max_array_size()
    for first in range(0, tasks, most):
        here = min(most, tasks - first)
        yield JobArray(
            _SCRIPT.format(
                step=step,
                last=here - 1,
                at_once=f"%{at_once}" if at_once else "",
                logs=shlex.quote(str(logs.absolute()).replace("%", "%%")),
                warned=_WARNED_S,
                asked="".join(f"#SBATCH {_as_sbatch_reads(one)}\n" for one in options),
                first=first + 1,
                count=tasks,
                words=shlex.join(command),
                tries=_TRIES,
            ),
            here,
        )


def _time_limit(option: str) -> int | None:
    """Seconds that an option of sbatch gives a task; None where it is another option, or names no time.

    SLURM reads 5 as minutes, 5:0 as minutes and seconds, 1:0:0 as hours, minutes and seconds, and 1-2:0 as days, hours
    and minutes.
    """
    found = re.fullmatch(r"(?:--time=|-t=?)(?:(\d+)-)?(\d+(?::\d+){0,2})", option)
    if found is None:
        return None
    clock = [int(part) for part in found[2].split(":")]
    units = (3600, 60, 1) if found[1] or len(clock) == 3 else (60, 1)
    return int(found[1] or 0) * 86400 + sum(value * unit for value, unit in zip(clock, units, strict=False))


def _as_sbatch_reads(option: str) -> str:
    """An option as it must stand behind ``#SBATCH`` to be what it would be on sbatch's own command line.

    sbatch splits such a line at spaces, takes ``#`` for the begin of a comment, quotes and backslashes as a shell does,
    but backslashes within single quotes too.
    """
    if re.fullmatch(r"[\w@%+=:,./-]+", option):
        return option
    return '"' + re.sub(r'(["\\])', r"\\\1", option) + '"'


def max_array_size() -> int:
    """The largest array that this SLURM takes; SLURM's default where there is none here.

    Raises:
        BackendError: it takes none.
    """
    try:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return _USUAL_MOST
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown.stdout, re.MULTILINE)
    if found and int(found[1]) == 0:
        raise BackendError(
            "this SLURM takes no job arrays (MaxArraySize is 0): send `wsisurv STEP … --shard N/COUNT` one by one."
        )
    return int(found[1]) if found else _USUAL_MOST


def send(array: JobArray) -> str:
    """Send an array; gives the number of its job.

    Raises:
        BackendError: sbatch is not here, or refuses it.
    """
    try:
        sent = subprocess.run(["sbatch", "--parsable"], input=array.script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BackendError(
            "sbatch: not on this machine. Run it where jobs are sent from, or look at the script with --dry-run."
        ) from error
    if sent.returncode:
        raise BackendError(f"sbatch refused the array: {sent.stderr.strip() or sent.stdout.strip()}")
    return sent.stdout.strip().partition(";")[0]
