"""Where everything of a workspace lies, and claims on items, on settings, and on what all runs write."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsisurv.errors import BusyError, InputError, did_you_mean
from wsisurv.formats.atomic import process_name, sweep
from wsisurv.settings.base import changes_between
from wsisurv.units import name_problem, shown_name
from wsisurv.workspace.claims import ItemClaim

_DOOR = "door"
"""Held while the settings of other runs are looked at."""

_MADE_BY, _TRAINED_BY = "wsisurv cohort NAME --clinical FILE", "wsisurv train-teacher --cohort NAME --clinical FILE"


@dataclass(frozen=True)
class Workspace:
    """The folder that holds a project's artifacts."""

    root: Path

    def require(self, then: str = "") -> None:
        """Refuse a workspace that is not there.

        Args:
            then: what makes one, for the message.

        Raises:
            InputError: there is no such folder; names one beside it that is called alike.
        """
        if self.root.is_dir():
            return
        beside = [one.name for one in self.root.absolute().parent.glob("*") if one.is_dir()]
        near = did_you_mean(self.root.name, beside) or "."
        raise InputError(
            f"{self.root}: no such workspace{near} Name one with --workspace, or set WSISURV_WORKSPACE{then}."
        )

    def tiles(self, slide_id: str) -> Path:
        """Tiles of a slide."""
        return self.root.joinpath("tiles", f"{_inside(slide_id)}.h5")

    def tiled_slides(self) -> list[str]:
        """Ids of all tiled slides, sorted."""
        return _stems(self.root / "tiles")

    def preview(self, slide_id: str) -> Path:
        """Preview picture of a slide."""
        return self.root / "preview" / f"{_inside(slide_id)}.jpg"

    def thumbnail(self, slide_id: str) -> Path:
        """Preview picture of a slide as the contact sheet shows it."""
        return self.root / "preview" / "thumbnails" / f"{_inside(slide_id)}.jpg"

    def outlines(self, slide_id: str) -> Path:
        """Outlines of a slide's tissue, as QuPath opens them."""
        return self.root / "geojson" / f"{_inside(slide_id)}.geojson"

    @property
    def contact_sheet(self) -> Path:
        """Page of all previews."""
        return self.root / "preview" / "index.html"

    def features(self, encoder: str, slide_id: str) -> Path:
        """Features of a slide by an encoder (``EmbedSettings.folder``)."""
        return self.root.joinpath("features", _named("encoder", encoder), f"{_inside(slide_id)}.h5")

    def embedded_slides(self, encoder: str) -> list[str]:
        """Ids of all slides with features of an encoder, sorted."""
        return _stems(self.root / "features" / _named("encoder", encoder))

    def encoders(self) -> list[str]:
        """Folder names of the encoders that have features here, sorted."""
        return sorted(folder.name for folder in (self.root / "features").glob("*") if folder.is_dir())

    @property
    def statements(self) -> Path:
        """Statements of all reports."""
        return self.root / "reports" / "statements.jsonl"

    @property
    def rejected(self) -> Path:
        """Findings that could not be proved."""
        return self.root / "reports" / "rejected.jsonl"

    def vectors(self, text_encoder: str) -> Path:
        """Vectors of the statements by a text encoder; ``ollama:some/model`` becomes ``ollama-some-model.h5``."""
        return self.root / "reports" / "vectors" / f"{text_encoder.replace(':', '-').replace('/', '-')}.h5"

    def cohort(self, name: str) -> Path:
        """Folder of a cohort, of one of its endpoints (``NAME/ENDPOINT``), or of the models of one of its folds."""
        return self.root.joinpath("cohorts", *(_named("cohort", part) for part in name.split("/")))

    def cohorts(self) -> list[str]:
        """Names of the cohorts, sorted; one with several endpoints is named once for each, ``NAME/ENDPOINT``."""
        place = self.root / "cohorts"
        return sorted(
            file.parent.relative_to(place).as_posix()
            for pattern in ("*/cohort.csv", "*/*/cohort.csv")
            for file in place.glob(pattern)
        )

    def the_cohorts(self, name: str | None, *, having: str = "cohort.csv", made_by: str | None = None) -> list[str]:
        """``name``, or each endpoint of the cohort of that name.

        Args:
            name: of the cohort; None for the only one with a certain file, or the only one but for those of external
                validations.
            having: file that is needed of it, so that another cohort without it is not meant.
            made_by: command that makes a cohort, for the message; None for one that makes it with what is needed.

        Raises:
            InputError: no name was given and there is not exactly one such cohort, or there is none of that name.
        """
        made_by = made_by or (_MADE_BY if having == "cohort.csv" else _TRAINED_BY)
        self.require(f"; `{made_by}` makes a cohort in one")
        names = self.cohorts()
        if name is None:
            able = [one for one in names if (self.cohort(one) / having).exists()]
            own = [one for one in able or names if not self._only_evaluated(one)]
            for found in (able, own):
                if len({one.partition("/")[0] for one in found}) == 1:
                    return found
        elif found := [one for one in names if one == name or one.startswith(f"{name}/")]:
            return found
        known = f"cohorts here: {', '.join(names)}" if names else "no cohort here yet"
        wanted = "--cohort NAME is needed" if name is None else f"no cohort {name!r}"
        near = did_you_mean(name or "", names)
        raise InputError(f"{self.root}: {wanted}; {known}{near or '.'} `{made_by}` makes one.")

    def the_cohort(self, name: str | None, *, having: str = "cohort.csv", made_by: str | None = None) -> str:
        """``name``, or the only cohort, see ``the_cohorts``, which must have one endpoint.

        Raises:
            InputError: as ``the_cohorts``; or it has several endpoints.
        """
        found = self.the_cohorts(name, having=having, made_by=made_by)
        if len(found) > 1:
            raise InputError(
                f"{self.root}: the cohort has several endpoints, and this is done for one of them: --cohort "
                f"{' or --cohort '.join(found)}"
            )
        return found[0]

    def _only_evaluated(self, name: str) -> bool:
        """Whether another cohort's student was judged on a cohort, and none was trained on it."""
        folder = self.cohort(name)
        return (folder / "evaluation" / "external.json").exists() and not (folder / "guidance.h5").exists()

    def failures(self, step: str) -> Path:
        """Ledger of a step's failures."""
        return self.root / "failures" / f"{step}.jsonl"

    @contextmanager
    def claim(self, step: str, item: str, *, wait: bool = False) -> Iterator[bool]:
        """Claim an item for this process; gives False when a living process holds it.

        Args:
            step: whose item it is.
            item: its name.
            wait: until it is free; then it is always given True.

        Raises:
            StorageError: no room or no permission.
        """
        claim = ItemClaim(self.root / ".claims", f"{step}/{item}")
        if not claim.take(wait=wait):
            yield False
            return
        try:
            yield True
        finally:
            claim.release()

    @contextmanager
    def claim_alone(self, step: str, item: str, what: str, settings: Mapping[str, Any]) -> Iterator[None]:
        """Claim an item whose work can't be shared.

        Args:
            step: whose item it is.
            item: its name.
            what: another process would be doing with it, for the message.
            settings: of this run; the message says which of the other's differ.

        Raises:
            BusyError: a living process holds it.
            StorageError: no room or no permission.
        """
        claim = ItemClaim(self.root / ".claims", f"{step}/{item}")
        if not claim.take(words=settings):
            raise BusyError(
                f"{self.root}: another process is {what}{_where(claim)}{_unlike(claim.holder(), settings)}. Wait for "
                "it to end, then run the same command again."
            )
        try:
            yield
        finally:
            claim.release()

    @contextmanager
    def claim_settings(self, step: str, settings: Mapping[str, Any]) -> Iterator[None]:
        """Hold the settings of a step while it runs: runs with the same share its items, one with others is refused.

        Args:
            step: the step, and what of it (``embed/histomics``).
            settings: of this run.

        Raises:
            BusyError: a living process runs the step with other settings; names which.
            StorageError: no room or no permission.
        """
        folder = self.root / ".claims"
        mine = ItemClaim(folder, f"{step}.settings/{process_name()}-{secrets.token_hex(4)}")
        with self.claim(f"{step}.settings", _DOOR, wait=True):
            sweep(folder)  # of clients of Dask that were killed
            for name in sorted({path.stem for path in (folder / f"{step}.settings").iterdir()} - {_DOOR}):
                other = ItemClaim(folder, f"{step}.settings/{name}")
                if other.take():
                    other.remove()  # of a process that has ended
                elif differs := _unlike(other.holder(), settings):
                    raise BusyError(
                        f"{self.root}: another process is at `{step.partition('/')[0]}` now{_where(other)}{differs}. "
                        "Wait for it to end, use its settings, or another --workspace."
                    )
            mine.take(words=settings)
        try:
            yield
        finally:
            mine.remove()


def _where(claim: ItemClaim) -> str:
    return f" ({where})" if (where := claim.where()) else ""


def _unlike(held: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Settings of another process that differ from these, in brackets; empty where none does, or it said none."""
    changes = changes_between(held, settings) if held else []
    return f" with other settings (its → yours: {'; '.join(changes)})" if changes else ""


def _named(what: str, name: str) -> str:
    """A name of the user's, or of a file of anybody's, that a folder of the workspace can have.

    Raises:
        InputError: it can't: it would lead elsewhere, or can't be shown.
    """
    if problem := name_problem(name):
        raise InputError(f"{what} {shown_name(name)!r}: its name {problem}. Choose another.")
    return name


def _inside(slide_id: str) -> str:
    """A slide_id that leads to no other folder; other odd names fail alone, in the step that meets the slide.

    Raises:
        InputError: it would.
    """
    return _named("slide", slide_id) if "/" in slide_id or slide_id.startswith(".") else slide_id


def _stems(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)  # a hundred thousand, of which pathlib would make objects
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return sorted(name.removesuffix(".h5") for name in names if name.endswith(".h5") and not name.startswith("."))
