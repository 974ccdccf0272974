"""What would stop the steps of a run, found before any of them begins; nothing is written."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsisurv.cohort import Audit, Cohort
from wsisurv.cohort.files import require_unchanged
from wsisurv.errors import WsisurvError, some
from wsisurv.experiments.fold_settings import named_covariates
from wsisurv.formats import guidance
from wsisurv.formats.atomic import read_json
from wsisurv.formats.header import read_header
from wsisurv.formats.models import model_format
from wsisurv.pipeline.status import status
from wsisurv.settings.base import Settings, changes_between
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.reports import ReportSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.freshness import Condition, Planned
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

_REDO = "`wsisurv run … --redo` makes it anew; the old settings keep it"
_FREE_SHARE = 0.95


@dataclass
class Blockers:
    """What stands in the way of each step, as it is found.

    Attributes:
        workspace: where the run works.
        redo: stale files are to be made anew, and stop nothing.
        found: problems by step, in words.
        notes: what stops nothing: slides that would fail, and which are left out.
        slides_left: slides that are still to be tiled, and did not fail before; None where that is not known.
        space: bytes that are still to be written, as far as is known.
    """

    workspace: Workspace
    redo: bool
    found: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    slides_left: int | None = None
    space: int = 0

    def add(self, step: str, *problems: str) -> None:
        """Note problems of a step, each once."""
        there = self.found.setdefault(step, [])
        there.extend(one for one in dict.fromkeys(problems) if one not in there)

    def attempt(self, step: str, look: Callable[..., Any], *of: Any) -> Any:
        """What a look gives; where it is refused, None, and the refusal is a problem of the step."""
        try:
            return look(*of)
        except WsisurvError as error:
            self.add(step, str(error))
            return None

    def _stale(self, step: str, plan: Sequence[Planned]) -> None:
        stale = [one for one in plan if one.condition is Condition.STALE]
        if stale and not self.redo:
            changes = "; ".join(sorted({change for one in stale for change in one.changes}))
            self.add(step, f"{len(stale)} were made with other settings or from other inputs ({changes}). {_REDO}")
        self.add(step, *(str(one.changes[0]) for one in plan if one.condition is Condition.NEWER))

    def tiles(self, sources: Sequence[Path], settings: TileSettings, **how: Any) -> None:
        """Slides that can't be found or read, and tiles that were made otherwise; headers are read."""
        from wsisurv.tiling.plan import plan_tile

        plan = self.attempt("tile", lambda: plan_tile(self.workspace, sources, settings, **how))
        if plan is None:
            return
        self.notes += [f"{one.id} would fail, and the others go on: {one.problem}" for one in plan if one.problem]
        if plan and all(one.problem for one in plan):
            self.add("tile", "no slide can be tiled")
        self._stale("tile", plan)
        failed = {one.id for one in read_failures(self.workspace, "tile")}
        todo = [one for one in plan if not one.problem and one.condition is not Condition.DONE]
        self.slides_left = sum(one.id not in failed for one in todo)
        self.space += sum(one.bytes or 0 for one in todo)

    def features(
        self,
        settings: EmbedSettings,
        tiles: TileSettings,
        *,
        allow_mismatch: bool,
        weights_file: Path | None,
        device: str,
    ) -> None:
        """An encoder whose weights can't be had, tiles that it was not trained on, features made otherwise."""
        from wsisurv.embedding.plan import check_tile_size, plan_embed

        self.attempt("embed", check_tile_size, settings, tiles, allow_mismatch)
        if (settings.weights or "").startswith("hub:") and weights_file is None:
            from wsisurv.embedding.hub import check_encoder, find_needs

            needs = self.attempt("embed", find_needs, settings.encoder)
            if needs is not None and needs.find(settings.hub_commit) is None:
                ready = check_encoder(settings.encoder)
                self.add("embed", *([] if ready.ready else [f"{settings.encoder}: {ready.message}"]))
        if device not in ("auto", "cpu"):
            from wsisurv.engine.devices import choose_device

            for name in device.split(","):
                self.attempt("embed", choose_device, name.strip())
        if self.workspace.tiled_slides():
            plan = self.attempt("embed", lambda: plan_embed(self.workspace, settings, allow_mismatch=allow_mismatch))
            self._stale("embed", plan or ())
            todo = [one for one in plan or () if not one.problem and one.condition is not Condition.DONE]
            failed = {one.id for one in read_failures(self.workspace, "embed")}
            self.space += sum(one.bytes or 0 for one in todo)
            if self.slides_left is not None:
                self.slides_left += sum(one.id not in failed for one in todo)

    def reports(self, source: Path, settings: ReportSettings, **how: Any) -> None:
        """Reports that can't be read, no server or model, statements that were made otherwise."""
        from wsisurv.reports.step import check_extract

        self.add("extract-report", *check_extract(self.workspace, source, settings, redo=self.redo, **how))

    def cohort(self, make: Callable[[], Sequence[tuple[Cohort, Audit]]]) -> list[Cohort]:
        """A table that can't be used, and a cohort of the name that was made otherwise.

        Args:
            make: makes the cohorts of all endpoints, and writes nothing.
        """
        made = [cohort for cohort, _ in self.attempt("cohort", make) or ()]
        for cohort in made if self.slides_left == 0 and not self.redo else ():
            self.attempt("train-teacher", require_unchanged, self.workspace.cohort(cohort.name), cohort)
        return made

    def _own(self, name: str) -> list[str]:
        """The cohort of that name, or its endpoints, as far as they are there."""
        return [one for one in self.workspace.cohorts() if one.partition("/")[0] == name]

    def covariates(self, cohorts: Sequence[Cohort], covariates: Sequence[str] | None) -> None:
        """Covariates of the cross-validation that the cohort has not."""
        for cohort in cohorts:
            self.attempt("crossval", named_covariates, cohort, covariates)

    def models(self, name: str, teacher: Settings, student: Settings | None) -> None:
        """Models that were made otherwise, as far as their headers tell.

        Args:
            name: of the cohort.
            teacher: settings of the teacher.
            student: settings of the students; None where none are to be trained.
        """
        if self.redo:
            return
        wanted = (
            ("train-teacher", "guidance.h5", guidance.FORMAT, teacher),
            ("distill", "student.h5", model_format("student"), student),
        )
        own = self._own(name)
        parts = {one.name: one.parts for one in status(self.workspace).cohorts} if own else {}
        for one in own:
            for step, file, kind, settings in wanted:
                path = self.workspace.cohort(one) / file
                if settings is None or not path.exists():
                    continue
                header = self.attempt(step, read_header, path, kind, step)
                if header is None:
                    continue
                changes = changes_between(header.settings, settings.model_dump(mode="json"))
                state = parts.get(one, {}).get(step, "")
                if changes:
                    self.add(step, f"{path}: made from other settings than now ({'; '.join(changes)}). {_REDO}")
                elif state.startswith("stale"):
                    self.add(step, f"{path}: {state.removeprefix('stale: ')}. {_REDO}")

    def folds(self, name: str, settings: CrossvalSettings) -> None:
        """Folds of the cohort of that name that were drawn otherwise."""
        wanted = {key: getattr(settings, key) for key in ("folds", "repeats", "seed")}
        for one in self._own(name) if not self.redo else ():
            path = self.workspace.cohort(one) / "evaluation" / "metrics.json"
            record = self.attempt("crossval", read_json, path) if path.exists() else None
            made = (record or {}).get("settings")
            made = made.get("crossval") if isinstance(made, dict) else None
            if record is None or record.get("splits") != "drawn" or not isinstance(made, dict):
                continue
            if changes := changes_between({key: made.get(key) for key in wanted}, wanted):
                self.add("crossval", f"{path}: made from other settings than now ({'; '.join(changes)}). {_REDO}")

    def storage(self) -> None:
        """A workspace that can't be written to, or has less room than tiles and features need."""
        there = next(one for one in (self.workspace.root, *self.workspace.root.absolute().parents) if one.exists())
        if not there.is_dir():
            self.add("check", f"{there}: a file, where the workspace's folder should be. Name another workspace")
        elif not os.access(there, os.W_OK | os.X_OK):
            self.add("check", f"{there}: no permission to write the workspace there. Name another workspace")
        elif (free := shutil.disk_usage(there).free) * _FREE_SHARE < self.space:
            self.add(
                "check",
                f"{there}: {free / 1e9:.1f} GB free, and tiles and features take up to {self.space / 1e9:.1f} GB. Make "
                "room, or name a workspace on another disk",
            )


def told(blockers: Blockers, steps: Sequence[str]) -> list[str]:
    """Problems of the steps that are to be run, a line each, in their order."""
    return [f"{step}: {one}" for step in steps for one in blockers.found.get(step, ())]


def first_few(notes: Sequence[str]) -> list[str]:
    """Notes for a person: the first twenty, and how many more there are."""
    more = [f"and {len(notes) - 20} more: {some([one.split()[0] for one in notes[20:]])}"] if len(notes) > 20 else []
    return [*notes[:20], *more]
