"""Where everything of a workspace lies, and claims on single items."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from wsisurv.errors import ArtifactError, InputError
from wsisurv.formats.atomic import explain_storage


@dataclass(frozen=True)
class Workspace:
    """The folder that holds a project's artifacts."""

    root: Path

    def tiles(self, slide_id: str) -> Path:
        """Tiles of a slide."""
        return self.root / "tiles" / f"{slide_id}.h5"

    def tiled_slides(self) -> list[str]:
        """Ids of all tiled slides, sorted."""
        return _stems(self.root / "tiles")

    def preview(self, slide_id: str) -> Path:
        """Preview picture of a slide."""
        return self.root / "preview" / f"{slide_id}.jpg"

    def outlines(self, slide_id: str) -> Path:
        """Outlines of a slide's tissue, as QuPath opens them."""
        return self.root / "geojson" / f"{slide_id}.geojson"

    @property
    def contact_sheet(self) -> Path:
        """Page of all previews."""
        return self.root / "preview" / "index.html"

    def features(self, encoder: str, slide_id: str) -> Path:
        """Features of a slide by an encoder (``EmbedSettings.folder``)."""
        return self.root / "features" / encoder / f"{slide_id}.h5"

    def embedded_slides(self, encoder: str) -> list[str]:
        """Ids of all slides with features of an encoder, sorted."""
        return _stems(self.root / "features" / encoder)

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
        """Folder of a cohort: cohort.csv, audit.json, teacher.h5, guidance.h5, student.h5, risk.csv and others."""
        return self.root / "cohorts" / name

    def cohorts(self) -> list[str]:
        """Names of the cohorts, sorted."""
        return sorted(file.parent.name for file in (self.root / "cohorts").glob("*/cohort.csv"))

    def the_cohort(self, name: str | None) -> str:
        """``name``, or the only cohort there is.

        Raises:
            InputError: no name was given and there is not exactly one cohort, or there is none of that name.
        """
        names = self.cohorts()
        if name is None and len(names) == 1:
            return names[0]
        if name in names:
            return str(name)
        known = f"cohorts here: {', '.join(names)}" if names else "no cohort here yet"
        wanted = "--cohort NAME is needed" if name is None else f"no cohort {name!r}"
        raise InputError(
            f"{self.root}: {wanted}; {known}. `wsisurv train-teacher --cohort NAME --clinical FILE` makes one."
        )

    def failures(self, step: str) -> Path:
        """Ledger of a step's failures."""
        return self.root / "failures" / f"{step}.jsonl"

    @contextmanager
    def claim(self, step: str, item: str) -> Iterator[bool]:
        """Claim an item for this process; gives False when a living process holds it.

        The lock is the kernel's, so it ends with its process, however that dies.
        """
        path = self.root / ".claims" / step / f"{item}.lock"
        with explain_storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0, thread_local=False)  # one thread may claim and another let go
            try:
                lock.acquire()
            except Timeout:
                yield False
                return
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def claim_alone(self, step: str, item: str, what: str) -> Iterator[None]:
        """Claim an item whose work can't be shared; ``what`` says what another process would be doing with it.

        Raises:
            ArtifactError: a living process holds it.
        """
        with self.claim(step, item) as claimed:
            if not claimed:
                raise ArtifactError(f"{self.root}: another process is {what}. Wait for it to end.")
            yield


def _stems(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.h5") if not file.name.startswith("."))
