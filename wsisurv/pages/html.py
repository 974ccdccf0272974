"""Pieces of a page that stands alone: escaped text, tables that scroll by themselves, pictures inside the file."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

STYLE = """
:root { color-scheme: light dark; font: 15px/1.55 system-ui, sans-serif; }
body { max-width: 64rem; margin: 0 auto; padding: 1rem 1.1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .4rem 0; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; scroll-margin-top: 4rem; }
h3 { font-size: 1rem; margin: 1.3rem 0 .3rem; scroll-margin-top: 4rem; }
nav { position: sticky; top: 0; background: Canvas; padding: .5rem 0; border-bottom: 1px solid #8886; z-index: 1;
  display: flex; gap: .1rem .9rem; overflow-x: auto; white-space: nowrap; }
.note { opacity: .8; } .missing { border-left: 4px solid #e69f00; padding: .2rem .8rem; }
.verdict { border-left: 4px solid #0072b2; padding: .2rem .8rem; margin: .6rem 0; } .verdict p { margin: .3rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0; overflow-wrap: normal; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #8883; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th button { font: inherit; font-weight: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-decoration: underline dotted; color: inherit; }
figure { margin: .8rem 0 1.2rem; } figure img { max-width: 100%; height: auto; background: #fff; display: block; }
figcaption { font-size: .88rem; opacity: .85; max-width: 46rem; } .pair { display: flex; flex-wrap: wrap; gap: 1rem; }
.pair figure { flex: 1 1 22rem; min-width: 0; } pre { white-space: pre-wrap; font-size: .85rem; }
@media (min-width: 50rem) { nav { flex-wrap: wrap; } }
input { font: inherit; padding: .25rem .5rem; max-width: 100%; box-sizing: border-box; } [hidden] { display: none; }
code { font-size: .92em; } #case-table td { white-space: nowrap; }
"""

SCRIPT = """
const table = document.getElementById("case-table");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const search = document.getElementById("search");
  const look = () => {
    const wanted = search.value.toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      if (!row.hidden) count += 1;
    }
    document.getElementById("shown").textContent = count + " of " + rows.length + " cases";
  };
  let last = -1, up = true;
  table.tHead.querySelectorAll("button").forEach((button, column) => button.addEventListener("click", () => {
    up = column === last ? !up : true;
    last = column;
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const order = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true });
    const number = (row) => Number(row.cells[column].dataset.sort);
    const sorted = rows.slice().sort((a, b) =>
      (isNaN(number(a)) || isNaN(number(b)) ? order(a, b) : number(a) - number(b)) * (up ? 1 : -1));
    body.replaceChildren(...sorted);
  }));
  search.addEventListener("input", look);
  look();
}
"""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: for links.
        title: of it.
        html: its content.
    """

    id: str
    title: str
    html: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        html: its content.
        number: whether it is set as a number.
        sort: what it is sorted by, where that is not its text.
    """

    html: str
    number: bool = False
    sort: float | None = None


def text(words: object) -> Cell:
    """A cell of plain words."""
    return Cell(escape(str(words)))


def number(value: float | None, form: str = ".3f") -> Cell:
    """A cell of a number, a dash where there is none."""
    if value is None:
        return Cell("–", number=True, sort=-1e300)
    return Cell(format(value, form).replace("-", "−"), number=True, sort=float(value))


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], *, id: str = "") -> str:
    """A table that scrolls by itself where the page is narrow; with an id its columns can be sorted by the script."""
    listed = list(rows)
    numeric = [bool(listed) and all(row[column].number for row in listed) for column in range(len(head))]
    heads = "".join(_head(name, is_number, bool(id)) for name, is_number in zip(head, numeric, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in listed)
    named = f' id="{id}"' if id else ""
    return f'<div class="scroll"><table{named}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _head(name: str, is_number: bool, sortable: bool) -> str:
    css = ' class="n"' if is_number else ""
    words = f'<button type="button">{escape(name)}</button>' if sortable else escape(name)
    return f"<th{css}>{words}</th>"


def _cell(cell: Cell) -> str:
    css = ' class="n"' if cell.number else ""
    sort = f' data-sort="{cell.sort:.9g}"' if cell.sort is not None else ""
    return f"<td{css}{sort}>{cell.html}</td>"


def pairs(values: Mapping[str, object]) -> str:
    """A table of names and values."""
    return table(("", ""), [(text(name), text(value)) for name, value in values.items()])


def paragraph(words: str, css: str = "") -> str:
    """A paragraph of plain words; ``code`` in back quotes."""
    parts = escape(words).split("`")
    inner = "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    return f'<p class="{css}">{inner}</p>' if css else f"<p>{inner}</p>"


def verdict(lines: Iterable[str]) -> str:
    """A box of plain words, a paragraph a line."""
    return f'<div class="verdict">{"".join(map(paragraph, lines))}</div>'


def picture(data: bytes, kind: str, alt: str, caption: str = "") -> str:
    """A picture inside the page.

    Args:
        data: the file.
        kind: ``svg+xml``, ``png`` or ``jpeg``.
        alt: what it shows, for those who don't see it.
        caption: HTML below it.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt)}">{below}</figure>'


def link(target: str, words: str) -> str:
    """A link to a file beside the page."""
    return f'<a href="{escape(quote(target, safe="/.#"))}">{escape(words)}</a>'


def render(title: str, top: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    nav = "".join(f'<a href="#{section.id}">{escape(section.title)}</a>' for section in sections)
    body = "".join(
        f'<section><h2 id="{section.id}">{escape(section.title)}</h2>\n{section.html}\n</section>\n'
        for section in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{top}
<nav>{nav}</nav>
<main>
{body}</main>
<script>{SCRIPT}</script>
</body>
</html>
"""
