"""What the viewer shows of one cohort, read from the workspace when it is asked for; nothing is written."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from wsisurv.cohort import Case, read_cohort
from wsisurv.embedding.columns import COLUMNS
from wsisurv.errors import InputError, MissingArtifactError, SlideError, StaleError, did_you_mean
from wsisurv.formats.risks import Risk, read_risks, read_source
from wsisurv.formats.statements import ReportRecord, read_statements
from wsisurv.formats.tiles import read_tiles
from wsisurv.pages.predicted import OUT_OF_FOLD, CasePredictions, predicted_by_table
from wsisurv.prediction.explained import CaseFiles, ExplainedCase, explain_case
from wsisurv.prediction.explainer import Explainer, open_explainer
from wsisurv.prediction.finding_map import ScoredFinding, score_finding
from wsisurv.prediction.findings import OpenHeads, heads_folds, open_heads, require_same_features
from wsisurv.prediction.rows import OddSlide, why_unfamiliar
from wsisurv.slides.facts import Bounds
from wsisurv.viewer.slide_pool import SlideFile, SlidePool
from wsisurv.workspace.freshness import Condition, Freshness, require_fresh
from wsisurv.workspace.paths import Workspace

_KEPT_CASES = 4
"""Cases whose tiles stay in memory, features and all."""


class Study:
    """A cohort that is looked at.

    Args:
        workspace: holds its files.
        name: of the cohort.
        student: the student's file; None for the cohort's own.
        slides: slide_id → file, before where it was when it was tiled.

    Attributes:
        cohort: the cases.
        pool: their slides.
        running: held while the student is asked, which is one thread's at a time.

    Raises:
        MissingArtifactError, FormatError: as ``read_cohort``.
    """

    def __init__(
        self, workspace: Workspace, name: str, *, student: Path | None = None, slides: Mapping[str, Path] | None = None
    ) -> None:
        self.workspace, self.home, self._slides = workspace, workspace.cohort(name), dict(slides or {})
        self._student = student or self.home / "student.h5"
        self.cohort, _ = read_cohort(self.home)
        self.pool, self.running = SlidePool(), threading.RLock()
        self._by_id = {str(case.case_id): case for case in self.cohort.cases}
        self._owner = {str(slide): str(case.case_id) for case in self.cohort.cases for slide in case.slide_ids}
        self._explained: OrderedDict[str, ExplainedCase] = OrderedDict()
        self._files: dict[str, SlideFile] = {}

    def case(self, case_id: str) -> Case:
        """A case by its id.

        Raises:
            InputError: there is none; near names are listed.
        """
        if case_id not in self._by_id:
            near = did_you_mean(case_id, self._by_id) or "."
            raise InputError(f"no case {case_id!r} in cohort {self.cohort.name}{near}")
        return self._by_id[case_id]

    @property
    def explainer(self) -> Explainer:
        """The student.

        Raises:
            MissingArtifactError, FormatError, StaleError: as ``open_explainer``.
        """
        with self.running:
            return self._open_explainer

    @cached_property
    def _open_explainer(self) -> Explainer:
        return open_explainer(self._student, self.home / "guidance.h5")

    @cached_property
    def meanings(self) -> Mapping[str, tuple[str, str]]:
        """Unit and definition of named features, by name."""
        return {column.name: (column.unit, column.definition) for column in COLUMNS}

    @cached_property
    def risks(self) -> Mapping[str, Risk]:
        """Rows of risk.csv by case.

        Raises:
            MissingArtifactError: there is none.
            StaleError: it is of another student than the one whose tiles are shown.
        """
        table = self.home / "risk.csv"
        again = f"Run `wsisurv predict --cohort {self.cohort.name}`."
        if not table.exists():
            raise MissingArtifactError(f"{table}: not there, so neither risk groups nor survival are known. {again}")
        rows = read_risks(table)
        if read_source(table).student != self.explainer.scale.fingerprint:
            require_fresh({table: Freshness(Condition.STALE, ("another student",))}, remedy=again)
        return {row.case_id: row for row in rows}

    @cached_property
    def predicted(self) -> CasePredictions | None:
        """Predictions out of fold, by risk.csv; raises as ``risks``."""
        return predicted_by_table(self.cohort, list(self.risks.values()), OUT_OF_FOLD)

    @cached_property
    def statements(self) -> Mapping[str, ReportRecord]:
        """What reports state, by case; raises as ``read_statements``."""
        return read_statements(self.workspace.statements)

    @cached_property
    def heads(self) -> OpenHeads:
        """Heads of findings; raises as ``open_heads`` and ``require_same_features``."""
        path = self.home / "findings.h5"
        if not path.exists():
            again = f"Run `wsisurv findings --cohort {self.cohort.name}`."
            raise MissingArtifactError(f"{path}: not there, so nothing is told of findings. {again}")
        heads = open_heads(path)
        require_same_features(heads, self.explainer.scale.card, self._student)
        return heads

    def fold_of_heads(self, case_id: str) -> int | None:
        """Fold of a case that heads of findings were fitted on; None of another; raises as ``heads_folds``."""
        return self._folds_of_heads.get(case_id)

    @cached_property
    def _folds_of_heads(self) -> Mapping[str, int]:
        return heads_folds(self.heads) if self.heads.card.cohort == self.cohort.name else {}

    def slide_file(self, slide_id: str) -> SlideFile:
        """Where a slide of the cohort lies.

        Raises:
            InputError: the cohort has no such slide.
            FormatError: its tiles are damaged.
        """
        if slide_id not in self._owner:
            raise InputError(f"no slide {slide_id!r} in cohort {self.cohort.name}.")
        if slide_id not in self._files:
            known, path = self.workspace.tiles(slide_id), self._slides.get(slide_id)
            file = SlideFile(slide_id, path)
            if known.exists():
                tiles, header = read_tiles(known)
                left, top = tiles.bounds_x, tiles.bounds_y
                scanned = Bounds(left, top, tiles.level0_width - left, tiles.level0_height - top)
                path = path or tiles.slide_path
                file = SlideFile(slide_id, path, header.inputs.get("slide"), tiles.mpp, scanned)
            self._files[slide_id] = file
        return self._files[slide_id]

    def explained(self, case_id: str) -> ExplainedCase:
        """What each tile of a case did; kept for the last few cases.

        Raises:
            InputError: there is no such case, or it has no slide.
            ArtifactError: the student or the features are missing, damaged or outdated.
        """
        case = self.case(case_id)
        if not case.slide_ids:
            raise InputError(f"{case_id}: no slide of this case is in the cohort, so there are no tiles to show.")
        with self.running:
            if case_id not in self._explained:
                files = CaseFiles(case_id, tuple(map(str, case.slide_ids)), self.workspace)
                self._explained[case_id] = explain_case(self.explainer, files, self._slides)
            self._explained.move_to_end(case_id)
            while len(self._explained) > _KEPT_CASES:
                self._explained.popitem(last=False)
            return self._explained[case_id]

    def unfamiliar(self, case_id: str) -> str:
        """Why the student does not know a case, by its row of risk.csv, else by its tiles; empty where it does."""
        try:
            return "" if (row := self.risks[case_id]).risk_group != "unfamiliar" else row.warning
        except (KeyError, MissingArtifactError, StaleError):
            pass
        seen = self.explained(case_id)
        if not len(seen.tiles.values):
            return ""
        with self.running:
            states = self.explainer.ensemble.states(seen.tiles.values)
        return why_unfamiliar(self.explainer.scale, states, list[OddSlide](), fold=self.explainer.fold_of.get(case_id))

    def finding(self, case_id: str, name: str) -> ScoredFinding:
        """What each tile of a case says of a finding.

        Raises:
            InputError: as ``explained``.
            SettingsError: there is no head of the finding.
            ArtifactError: heads or features are missing or damaged.
        """
        places = self.explained(case_id).places
        return score_finding(self.heads, name, case_id, places, self.fold_of_heads(case_id))

    def bounds(self, slide_id: str) -> tuple[Bounds, str]:
        """What was scanned of a slide, and why its pixels are not there, or empty.

        Raises:
            InputError, ArtifactError: as ``slide_file``, and where its size is not known otherwise as ``explained``.
        """
        file = self.slide_file(slide_id)
        try:
            return self.pool.zoom(file).bounds, ""
        except SlideError as error:
            if file.bounds is not None:
                return file.bounds, str(error)
            places = self.explained(self._owner[slide_id]).places
            return Bounds(*next(one.bounds for one in places if one.features.slide_id == slide_id)), str(error)

    def tile_number(self, case_id: str, number: int) -> int:
        """A number of a tile of a case that there is.

        Raises:
            InputError: there is none of that number.
            ArtifactError: as ``explained``.
        """
        if not 0 <= number < len(self.explained(case_id).tiles.values):
            raise InputError(f"{case_id}: no tile {number}.")
        return number
