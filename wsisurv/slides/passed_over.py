"""Files in a user's folder that are taken for no slide: counted and named, so that none is missed in silence."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsisurv.errors import some
from wsisurv.slides.find import is_taken, known_endings
from wsisurv.slides.readers.by_fastslide import FORMATS as FASTSLIDES
from wsisurv.slides.readers.by_fastslide import INSTALL


def passed_over(sources: Sequence[Path]) -> list[str]:
    """A note for each folder among ``sources`` that holds files whose ending is of no slide; hidden ones are left out.

    Companions of MIRAX and VSI slides, in the folder of the slide's name, are no files of their own.
    """
    notes = []
    for source in sources:
        if names := sorted(_others(source)):
            unread = sorted({ending for name in names if (ending := Path(name).suffix.lower()) in FASTSLIDES})
            install = f" {', '.join(unread)}: after `{INSTALL}` they are slides." if unread else ""
            notes.append(
                f"{len(names)} files of {source} were passed over, their endings are not those of slides: "
                f"{some(names)}. A file that is named itself is opened whatever its ending.{install}"
            )
    return notes


def _others(top: Path) -> Iterator[str]:
    """Paths within a folder; links to folders are followed, each folder once, as slides are looked for."""
    endings, visited = known_endings(), set()
    for folder, folders, files in os.walk(top, followlinks=True):
        visited.add(os.path.realpath(folder))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and f"{name}.mrxs" not in files
            and f"{name.strip('_')}.vsi" not in files
            and os.path.realpath(os.path.join(folder, name)) not in visited
        ]
        for name in files:
            if not name.startswith(".") and not is_taken(Path(folder, name), endings):
                yield str(Path(folder, name).relative_to(top))
