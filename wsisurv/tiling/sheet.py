"""``preview/index.html``: a contact sheet of the cohort, to be looked over before hours are spent on it.

The file stands beside the previews and needs nothing else: no script, font or picture from elsewhere, and a content
policy that forbids them, so it opens from a folder and sends nothing anywhere.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

import numpy as np

from wsisurv.errors import ArtifactError
from wsisurv.formats.atomic import write_text
from wsisurv.formats.tiles import Tiles, read_tiles
from wsisurv.workspace.ledger import exclusive
from wsisurv.workspace.paths import Workspace

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; padding: 1rem 1.25rem 3rem; max-width: 110rem; }
h1 { font-size: 1.4rem; margin: .3rem 0 .8rem; }
nav { position: sticky; top: 0; background: Canvas; padding: .6rem 0; display: flex; gap: 1rem; flex-wrap: wrap;
  align-items: center; border-bottom: 1px solid #8886; z-index: 1; }
nav input[type=search] { flex: 1 1 14rem; } input, select { font: inherit; padding: .25rem .5rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; margin-top: 1rem; }
figure { margin: 0; border: 1px solid #8886; border-radius: 6px; overflow: hidden; display: flex;
  flex-direction: column; }
figure.flagged { border: 2px solid #d55e00; }
figure a { background: #fff; height: 15rem; display: block; } img { width: 100%; height: 100%; object-fit: contain; }
figcaption { padding: .5rem .7rem; font-size: .88rem; overflow-wrap: anywhere; }
figcaption b { display: block; } ul { margin: .3rem 0 0; padding-left: 1.1rem; color: #d55e00; }
[hidden] { display: none; }
"""

_SCRIPT = """
const list = document.getElementById("slides");
const slides = Array.from(list.children);
const search = document.getElementById("search");
const sort = document.getElementById("sort");
const flagged = document.getElementById("flagged");
function look() {
  const wanted = search.value.toLowerCase();
  let count = 0;
  for (const slide of slides) {
    slide.hidden = !slide.textContent.toLowerCase().includes(wanted)
      || (flagged.checked && slide.dataset.flags === "0");
    if (!slide.hidden) count += 1;
  }
  document.getElementById("shown").textContent = count + " of " + slides.length + " slides";
}
function order() {
  const [key, direction] = sort.value.split(" ");
  const byName = (a, b) => a.dataset.slide.localeCompare(b.dataset.slide, undefined, { numeric: true });
  const sorted = slides.slice().sort((a, b) => (key === "slide" ? 0
    : (Number(a.dataset[key]) - Number(b.dataset[key])) * (direction === "up" ? 1 : -1)) || byName(a, b));
  list.replaceChildren(...sorted);
}
for (const image of document.images) {
  const tell = () => image.replaceWith("the preview can't be shown");
  image.addEventListener("error", tell);
}
search.addEventListener("input", look);
flagged.addEventListener("change", look);
sort.addEventListener("change", order);
if (location.hash) { sort.value = decodeURIComponent(location.hash.slice(1)); order(); }
look();
"""

_ORDERS = {
    "slide up": "name",
    "flags down": "flags, most first",
    "tiles up": "tiles, fewest first",
    "tiles down": "tiles, most first",
    "share up": "share of tissue, least first",
    "share down": "share of tissue, most first",
}


@dataclass(frozen=True)
class Entry:
    """A slide on the sheet.

    Attributes:
        slide_id: the slide.
        n_tiles: tiles kept.
        share: tissue in these tiles as a share of the slide, 0 to 1; None where the tiles don't say.
        mpp: µm per pixel at level 0.
        flags: what deserves a look.
        picture: whether there is a preview.
    """

    slide_id: str
    n_tiles: int
    share: float | None
    mpp: float | None
    flags: tuple[str, ...]
    picture: bool


def sheet_is_behind(workspace: Workspace) -> bool:
    """Whether tiles or previews came since the sheet did, by this run or by one that was killed before its sheet."""
    sheet, tiles = workspace.contact_sheet, workspace.root / "tiles"
    if not sheet.exists() or not tiles.exists():
        return tiles.exists()
    written = sheet.stat().st_mtime_ns
    return any(path.stat().st_mtime_ns > written for path in (tiles, *sheet.parent.glob("*.jpg")))


def write_sheet(workspace: Workspace) -> None:
    """Write the sheet of all tiled slides, whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with exclusive(workspace, "sheet"):  # shards may end at the same moment
        entries = [_entry(workspace, slide_id) for slide_id in workspace.tiled_slides()]
        write_text(workspace.contact_sheet, render_sheet(entries))


def _entry(workspace: Workspace, slide_id: str) -> Entry:
    picture = workspace.preview(slide_id).exists()
    try:
        tiles, _ = read_tiles(workspace.tiles(slide_id))
    except ArtifactError as error:
        return Entry(slide_id, 0, None, None, (str(error),), picture)
    flags = tiles.flags or (() if len(tiles.coords) else ("zero tiles",))
    return Entry(slide_id, len(tiles.coords), _share(tiles), tiles.mpp, flags, picture)


def _share(tiles: Tiles) -> float | None:
    """Tissue in the tiles as a share of the slide; what neighbours share is counted once."""
    step = tiles.tile_level0_px * (1 - tiles.overlap_px / tiles.tile_px)
    tissue = float(np.sum(tiles.tissue, dtype=np.float64)) * step**2 / (tiles.level0_width * tiles.level0_height)
    return None if math.isnan(tissue) else min(1.0, tissue)


def render_sheet(entries: Sequence[Entry]) -> str:
    """Give the sheet as text."""
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    orders = "".join(f'<option value="{value}">{text}</option>' for value, text in _ORDERS.items())
    flagged = sum(bool(entry.flags) for entry in entries)
    title = f"{len(entries)} slides, {sum(entry.n_tiles for entry in entries)} tiles, {flagged} slides flagged"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<nav>
<input id="search" type="search" placeholder="Search in names and flags" aria-label="Search">
<label>Sort by <select id="sort">{orders}</select></label>
<label><input id="flagged" type="checkbox"> flagged only</label>
<span id="shown" role="status"></span>
</nav>
<main id="slides">
{"".join(map(_figure, entries))}</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _figure(entry: Entry) -> str:
    name, source = escape(entry.slide_id), quote(f"{entry.slide_id}.jpg")
    image = f'<img src="{source}" alt="preview of {name}" loading="lazy">'
    picture = f'<a href="{source}">{image}</a>' if entry.picture else ""
    figures = [f"{entry.n_tiles} tiles"]
    figures += [] if entry.share is None else [f"tissue in tiles {entry.share:.1%} of the slide"]
    figures += [] if entry.mpp is None else [f"{entry.mpp:.4g} µm/px"]
    flags = "".join(f"<li>{escape(flag)}</li>" for flag in entry.flags)
    return f"""<figure{' class="flagged"' if entry.flags else ""} data-slide="{name}" data-tiles="{entry.n_tiles}" \
data-share="{-1 if entry.share is None else f"{entry.share:.6f}"}" data-flags="{len(entry.flags)}">
{picture}<figcaption><b>{name}</b>{" · ".join(figures)}{f"<ul>{flags}</ul>" if flags else ""}</figcaption></figure>
"""
