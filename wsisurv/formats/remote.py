"""Slides at URLs (``s3://bucket/a.svs``), as paths that can be listed, asked for their size and read through by fsspec.

Which file systems there are, and with which keys they are reached, is fsspec's own matter: its packages (s3fs, gcsfs,
adlfs …), its configuration and theirs.
"""

import os
import re
from collections.abc import Generator
from pathlib import Path, PosixPath
from typing import Any, Self

from wsisurv.errors import SlideError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")


def slide_place(path: str | Path) -> Path:
    """A slide's path as it was given or written down: a ``RemotePath`` where it is a URL."""
    path = Path(path)
    first = path.parts[0] if path.parts else ""
    return RemotePath(path) if _SCHEME.fullmatch(first) and not isinstance(path, RemotePath) else path


class RemotePath(PosixPath):
    """A file or folder at a URL.

    Raises:
        SlideError: by each method that asks for it, where fsspec or one of its packages can't; OSError, as of a file.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """The URL, of which a path keeps one slash."""
        scheme, found, place = super().__str__().partition(":/")
        if not found:
            return scheme
        return f"{scheme}://{'/' * (scheme in ('file', 'local'))}{place.lstrip('/')}"

    def _ask(self, name: str, *given: Any, **how: Any) -> Any:
        import fsspec  # takes a while, and few slides lie at URLs

        try:
            system, place = fsspec.url_to_fs(str(self))
            answer = getattr(system, name)(place, *given, **how)
            if name in ("ls", "find"):
                return [RemotePath(system.unstrip_protocol(one)) for one in answer]
            return answer
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  # of whatever package talks to that server
            raise SlideError(f"{self}: can't be reached ({type(error).__name__}: {error}).") from error

    def exists(self, **_: Any) -> bool:
        """Whether it is there."""
        return bool(self._ask("exists"))

    def is_dir(self, **_: Any) -> bool:
        """Whether there are files below it."""
        return bool(self._ask("isdir"))

    def is_file(self, **_: Any) -> bool:
        """Whether it is a file."""
        return bool(self._ask("isfile"))

    def stat(self, **_: Any) -> os.stat_result:
        """Its size alone."""
        return os.stat_result((0, 0, 0, 0, 0, 0, self._ask("size") or 0, 0, 0, 0))

    def open(self, *_: Any, **__: Any) -> Any:
        """Open it to read bytes."""
        return self._ask("open", "rb")

    def iterdir(self) -> Generator[Self, None, None]:
        """Yield what is in it."""
        yield from self._ask("ls", detail=False)

    def rglob(self, *_: Any, **__: Any) -> Generator[Self, None, None]:
        """Yield all files below it."""
        yield from self._ask("find")

    def absolute(self) -> Self:
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> Self:
        """Itself."""
        del strict
        return self
