"""A thousand faults over all commands: kills, truncations, bit flips, exchanges of files, and commands run in pairs.

    python tests/faults/campaign.py [--trials 1000] [--seed 0] [--commands tile,embed] [--only 17]

Each trial takes a command with all that it reads as an undisturbed run left it, and does one thing to it:

- kill: the process dies before some operation on a file, in the middle of a write, or at some moment; at times twice.
  The same command again must end as the undisturbed one did.
- truncate, flip, exchange: a file of ours, or a slide that was tiled, is cut, has a bit turned over, or changes places
  with another of its kind. The command must say so by the file's name, or end as if nothing was. Files that no step has
  read yet (the table, the reports) may be anything: there only ``stuck`` and ``traceback`` count.
- pair: the command runs twice at once, or beside one with another setting, one of the two killed at times. Each is
  right or ends with exit code 3; run again, everything is there once.

What is wrong is counted: ``lost`` or ``doubled`` files and lines; ``quiet``, another result without a word;
``unnamed``, refused without the file's name; ``stuck``; ``traceback``. A trial is known by its number under one seed.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from results import Difference, compare, content
from runs import Death, Ended, Run, draw_death, run
from world import COMMANDS, Command, draw_inputs, prepare

KINDS = ("kill", "truncate", "flip", "exchange", "pair")
WRONG = ("lost", "doubled", "quiet", "unnamed", "stuck", "traceback")
LOGS = {"history.jsonl", "commands.jsonl", "rejected.jsonl"}
"""Grow line by line while commands run: one that was cut is as one of a run that was stopped; no result rests on it."""
_WAYS_OUT = ("made from other settings or inputs", "another process")


@dataclass
class Reference:
    """A command undisturbed.

    Attributes:
        before: folder as it was.
        after: folder as it left it; as it was where the command refuses to write over what is there.
        ended: how it ended.
        again: exit code of the same again: not 0 where it refuses to write over what is there.
        said: lines that it, and the same again, printed or wrote into pages.
        files: content that it left.
        unlike: content that it left with its other setting.
    """

    before: Path
    after: Path
    ended: Ended
    again: int
    said: set[str]
    files: dict[str, Any]
    unlike: dict[str, Any] | None = None


@dataclass
class Trial:
    """One trial, and what was wrong: class → in words."""

    number: int
    command: str
    kind: str
    done: str = ""
    wrong: dict[str, str] = field(default_factory=dict)

    def judge(self, ended: Ended) -> None:
        """What no run may do."""
        if ended.stuck:
            self.wrong["stuck"] = "had to be killed"
        if "Traceback" in ended.err or ended.code in {70, -11, -6}:
            self.wrong["traceback"] = ended.err[-1500:] or f"signal {-ended.code}"

    def differs(self, difference: Difference) -> None:
        """Note how a result is not the undisturbed one's."""
        for name, what in (("lost", difference.lost), ("doubled", difference.doubled), ("quiet", difference.other)):
            if what:
                self.wrong[name] = ", ".join(what[:6])


class Campaign:
    """Undisturbed runs of all commands, and trials on copies of what they found.

    Args:
        place: an empty folder.
        seed: of all trials.
        commands: those to try.
    """

    def __init__(self, place: Path, seed: int, commands: list[str]) -> None:
        self._place, self._seed, self._commands = place, seed, commands
        self._here = place / "here"  # all runs are in one place: files tell the whole path of what they were made from
        self.references: dict[str, Reference] = {}

    def run_undisturbed(self) -> None:
        """Run the commands one after the other, as far as the last that is tried."""
        self._here.mkdir(parents=True)
        draw_inputs(self._here / "data")
        for name in list(COMMANDS)[: 1 + max(map(list(COMMANDS).index, self._commands))]:
            before, after = (self._place / f"{when} {name}" for when in ("before", "after"))
            self._copy(self._here, before)
            ended = run(COMMANDS[name].words, self._here)
            if ended.code:
                raise SystemExit(f"undisturbed {name} ended with {ended.code}: {ended.err}")
            for module in ended.modules - sys.modules.keys():  # so that later runs are forked with all of it
                with suppress(Exception):
                    importlib.import_module(module)
            files = content(self._here)
            self._copy(self._here, after)
            again = run(COMMANDS[name].words, self._here)
            if compare(content(self._here), files):
                raise SystemExit(f"{name} run twice: {again.err} {compare(content(self._here), files)}")
            said = _said(ended, self._here) | _said(again, self._here)
            self.references[name] = Reference(before, before if again.code else after, ended, again.code, said, files)
            if name == "demo":
                shutil.rmtree(self._here / "drawn")

    def _copy(self, folder: Path, there: Path) -> None:
        """Copy a folder; slides, which are never written into, are linked."""
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(
            folder, there, copy_function=lambda a, b: (os.link if a.endswith(".tiff") else shutil.copy)(a, b)
        )

    def try_one(self, number: int) -> Trial:
        """Trial of this number: commands take turns; what befalls one is drawn from the number and the seed alone."""
        chance = random.Random(f"{self._seed} {number}")
        turns = [name for name in self._commands for _ in range(COMMANDS[name].share)]
        name = turns[number % len(turns)]
        kind = chance.choices(KINDS, (4, 2, 3, 2, 3))[0]
        trial = Trial(number, name, kind)
        reference, command = self.references[name], COMMANDS[name]
        done = kind in {"truncate", "flip", "exchange"} and chance.random() < 0.4  # what it made may be spoilt, too
        self._copy(reference.after if done else reference.before, self._here)
        do = {"kill": self._kill, "pair": self._pair}.get(kind, self._spoil)
        do(trial, command, reference, self._here, chance)
        return trial

    def _kill(self, trial: Trial, command: Command, reference: Reference, here: Path, chance: random.Random) -> None:
        largest = max(path.stat().st_size for path in here.rglob("*") if path.is_file())
        for _ in range(1 if chance.random() < 0.7 else 2):
            death = draw_death(chance, reference.ended, largest)
            trial.done += f"{death} "
            trial.judge(run(command.words, here, death))
        self._finish(trial, command, reference, here)

    def _finish(self, trial: Trial, command: Command, reference: Reference, here: Path) -> None:
        """The same command again, with nothing that disturbs it."""
        again = run(command.words, here)
        trial.judge(again)
        if again.code not in {reference.ended.code, reference.again}:
            trial.wrong.setdefault("lost", f"ends with exit code {again.code} for good: {again.err[-600:]}")
        trial.differs(compare(content(here), reference.files))

    def _spoil(self, trial: Trial, command: Command, reference: Reference, here: Path, chance: random.Random) -> None:
        choices = _spoilable(here, trial.kind)
        if not choices:
            trial.done = "there is no file to spoil"
            return
        spoilt = chance.choice(chance.choice(choices))
        whole = {path: path.read_bytes() for path in spoilt}
        trial.done = ", ".join(str(path.relative_to(here)) for path in spoilt)
        before = content(here)
        for path, raw in _spoil(trial.kind, whole, chance):
            path.unlink()  # slides are linked
            path.write_bytes(raw)
        fault = content(here)
        anybodys = any(_is_anybodys(path, here) for path in spoilt)
        ended = run(command.words, here)
        trial.judge(ended)
        if trial.wrong or anybodys:
            return
        new = "\n".join(sorted(_said(ended, here) - reference.said))
        told = any(_names(path, new) for path in spoilt)
        if ended.code:
            if not told:
                trial.wrong["unnamed"] = new[-600:]
            for path, raw in whole.items():
                path.write_bytes(raw)
            self._finish(trial, command, reference, here)
        elif not told and not (trial.kind == "truncate" and all(path.name in LOGS for path in spoilt)):
            difference = compare(_undo(content(here), fault, before), reference.files)
            if difference:
                trial.wrong["quiet"] = ", ".join([*difference.lost, *difference.doubled, *difference.other][:6])

    def _pair(self, trial: Trial, command: Command, reference: Reference, here: Path, chance: random.Random) -> None:
        unlike = bool(command.unlike) and chance.random() < 0.5
        words = [command.words, (*command.words, *command.unlike) if unlike else command.words]
        deaths = [Death(), Death()]
        if chance.random() < 0.25:
            deaths[chance.randrange(2)] = Death(moment=chance.random() * reference.ended.seconds)
        chance.shuffle(words)
        trial.done = f"{words} {deaths}"
        both = [Run(one, here, death, f"run{n}") for n, (one, death) in enumerate(zip(words, deaths, strict=True))]
        ended = [one.end() for one in both]
        for one in ended:
            trial.judge(one)
        for one, death in zip(ended, deaths, strict=True):
            later = unlike and one.code == 1 and any(words in one.err for words in _WAYS_OUT)
            killed = death.moment is not None and one.code < 0
            if one.code not in {0, 3} and not later and not killed:
                trial.wrong["lost"] = f"exit code {one.code}: {one.err[-800:]}"
        if trial.wrong:
            return
        if not unlike:
            if ended[0].code == ended[1].code == 0:
                trial.differs(compare(content(here), reference.files))
            self._finish(trial, command, reference, here)
            return
        self._finish_unlike(trial, command, reference, here, words, ended)

    def _finish_unlike(
        self,
        trial: Trial,
        command: Command,
        reference: Reference,
        here: Path,
        words: list[tuple[str, ...]],
        ended: list[Ended],
    ) -> None:
        """What either left must be one of the two results, whole; with --redo where there is one, either can follow."""
        if reference.unlike is None:
            kept = self._here.with_name("kept")
            self._here.rename(kept)
            self._copy(reference.before, self._here)
            run((*command.words, *command.unlike), self._here)
            reference.unlike = content(self._here)
            shutil.rmtree(self._here)
            kept.rename(self._here)
        winners = [one for one, how in zip(words, ended, strict=True) if how.code == 0]
        if not winners:  # the one that was killed had it, or each gave way
            again = run(words[0], here)
            trial.judge(again)
            if again.code:
                return  # what the other had done by then is told to be of other settings
            winners = [words[0]]
        differences = [
            compare(content(here), reference.files if one == command.words else reference.unlike) for one in winners
        ]
        if all(differences):
            trial.differs(differences[0])


def _link_or_copy(one: str, other: str) -> None:
    (os.link if one.endswith(".tiff") else shutil.copy)(one, other)


def _said(ended: Ended, here: Path) -> set[str]:
    """Lines that a person sees: of the terminal, and of the pages that are there."""
    pages = [path.read_text(errors="replace") for path in here.rglob("*.html")]
    return {line for text in (ended.err, ended.out, *pages) for line in text.splitlines()}


def _names(path: Path, said: str) -> bool:
    """Whether a file is named, by itself or as one of those in its folder that belong together."""
    of_folder = path.name in {"cohort.csv", "audit.json"} and path.parent.name in said
    return of_folder or path.name in said or path.stem in said


def _is_anybodys(path: Path, here: Path) -> bool:
    """Whether it is a file of a person's that no step has taken down yet: nothing can be known of it."""
    if path.relative_to(here).parts[0] != "data":
        return False
    return path.suffix != ".tiff" or not list((here / "workspace").rglob(f"tiles/{path.stem}.h5"))


def _undo(seen: dict[str, Any], fault: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A content without the fault itself, where the command left that as it was."""
    undone = dict(seen)
    for name in fault:
        if fault[name] == before[name] or name not in seen:
            continue
        if seen[name] == fault[name]:
            undone[name] = before[name]
        elif isinstance(seen[name], list):  # it has added lines
            added = seen[name][len(fault[name]) :]
            undone[name] = before[name] + added if seen[name][: len(fault[name])] == fault[name] else seen[name]
    return undone


def _spoilable(here: Path, kind: str) -> list[list[tuple[Path, ...]]]:
    """Files of a sort, or pairs that may change places, by sort: a folder of many is no likelier than a single file."""
    sorts: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(here.rglob("*")):
        if path.is_file() and ".claims" not in path.parts:
            place = str(path.parent.relative_to(here))
            sorts.setdefault((place if path.suffix == ".h5" or kind != "exchange" else "", path.suffix), []).append(
                path
            )
    if kind != "exchange":
        return [
            sort
            for (place, _), files in sorts.items()
            for sort in ([[(path,) for path in files]] if len(files) > 12 else [[(path,)] for path in files])
        ]
    pairs = [[*zip(files, files[1:] + files[:1], strict=True)] for files in sorts.values() if len(files) > 1]
    unlike = [[(one, two) for one, two in some if one.read_bytes() != two.read_bytes()] for some in pairs]
    return [some for some in unlike if some]


def _spoil(kind: str, whole: dict[Path, bytes], chance: random.Random) -> Iterator[tuple[Path, bytes]]:
    if kind == "exchange":
        (one, first), (two, second) = whole.items()
        yield one, second
        yield two, first
        return
    [(path, raw)] = whole.items()
    if kind == "truncate":
        yield path, raw[: chance.randrange(max(1, len(raw)))]
        return
    data = bytearray(raw)
    for _ in range(1 if chance.random() < 0.7 else 8):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    yield path, bytes(data)


def work(place: Path, seed: int, commands: list[str], numbers: list[int], jobs: int) -> list[Trial]:
    """Run trials in so many processes; each sends its trials as lines."""
    files = []
    children = []
    for job in range(jobs):
        files.append(place / f"trials.{job}")
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        try:
            campaign = Campaign(place / str(job), seed, commands)
            campaign.run_undisturbed()
            with files[-1].open("w") as file:
                for number in numbers[job::jobs]:
                    trial = campaign.try_one(number)
                    file.write(json.dumps(vars(trial)) + "\n")
                    file.flush()
                    if trial.wrong:
                        print(f"\ntrial {number}: {trial.command}, {trial.kind}: {trial.done}", flush=True)
                        for name, what in trial.wrong.items():
                            print(f"  {name}: {what}", flush=True)
            code = 0
        except SystemExit as ended:
            print(ended)
        finally:
            sys.stdout.flush()
            os._exit(code)
    for child in children:
        if os.waitpid(child, 0)[1]:
            raise SystemExit("the campaign itself failed")
    return [Trial(**json.loads(line)) for file in files for line in file.read_text().splitlines()]


def table(trials: list[Trial], commands: list[str]) -> str:
    """Trials by command and kind, and what was wrong."""
    rows = [["command", *KINDS, "trials", *WRONG]]
    for name in [*(one for one in commands if any(one == trial.command for trial in trials)), "all"]:
        mine = [trial for trial in trials if name in {trial.command, "all"}]
        kinds = Counter(trial.kind for trial in mine)
        wrong = Counter(one for trial in mine for one in trial.wrong)
        rows.append([name, *(str(kinds[k]) for k in KINDS), str(len(mine)), *(str(wrong[one]) for one in WRONG)])
    return "\n".join("".join(f"{cell:>10}" if n else f"{cell:<18}" for n, cell in enumerate(row)) for row in rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print its table; gives 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one trial to repeat")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args(arguments)
    numbers = list(range(chosen.first, chosen.first + chosen.trials)) if chosen.only is None else [chosen.only]
    commands = chosen.commands.split(",")
    prepare()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory if memory.is_dir() else None) as folder:
        trials = work(Path(folder).resolve(), chosen.seed, commands, numbers, min(chosen.jobs, len(numbers)))
    print(table(trials, commands))
    failed = [trial for trial in trials if trial.wrong]
    for trial in failed:
        which = f" --commands {chosen.commands}" if commands != list(COMMANDS) else ""
        print(f"again: python tests/faults/campaign.py --seed {chosen.seed} --only {trial.number}{which}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
