"""What the site needs beside docs/: README.md as its first page, and files that are not in it named without a link."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]


def on_files(files: Any, config: Any) -> Any:
    """Put README.md in front, its links as seen from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Take links off files of the repository that are no pages; one that leads nowhere stays, and fails the build."""
    first = page.file.src_uri == "index.md"

    def plain(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link[2]))
        outside = files.get_file_from_path(target) is None and (ROOT / ("." if first else "docs") / target).exists()
        return link[1] if outside else link[0]

    return re.sub(r"\[([^\[\]]+)\]\(([\w./-]+)(?:#[\w-]*)?\)", plain, markdown)
