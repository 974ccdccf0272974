"""One HTML page of an extraction, to be read by a person: each report with its statements marked in place.

The file stands alone: no script, font or picture from elsewhere, and a content policy that forbids them, so it opens
from a folder and sends nothing anywhere. All that comes from a report is escaped. It holds the reports' whole text and
is as confidential as they are.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import get_args

from wsisurv.errors import ReportError
from wsisurv.formats.atomic import write_text
from wsisurv.formats.statements import Category, RejectedRecord, ReportRecord, Statement
from wsisurv.reports.evaluation import ReportScores
from wsisurv.reports.sections import LEFT_OUT_KINDS, find_sentences

_CATEGORIES = get_args(Category)
_HUES = {category: round(360 * index / len(_CATEGORIES)) for index, category in enumerate(_CATEGORIES)}

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.6 system-ui, sans-serif; }
body { max-width: 76rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.05rem; margin: 1.2rem 0 .3rem; }
.note { opacity: .75; max-width: 60rem; }
nav { position: sticky; top: 0; background: Canvas; padding: .6rem 0; display: flex; gap: .8rem; flex-wrap: wrap;
  align-items: center; border-bottom: 1px solid #8886; z-index: 1; }
nav input { flex: 1 1 16rem; } input, select, button { font: inherit; padding: .25rem .5rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; }
.figures td:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums; }
details.report { border: 1px solid #8886; border-radius: 6px; margin: .6rem 0; padding: .3rem .8rem;
  content-visibility: auto; contain-intrinsic-size: auto 2.4rem; }
summary { cursor: pointer; } summary b { margin-right: .8rem; } summary span { opacity: .75; margin-right: .8rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid #8884; padding-left: .8rem; }
mark { background: hsl(var(--hue) 75% 84%); color: #111; border-radius: 3px; padding: 0 .1em; }
mark.absent { text-decoration: underline dashed 2px; text-underline-offset: 3px; }
mark.uncertain { text-decoration: underline dotted 2px; text-underline-offset: 3px; }
mark[data-label]::after { content: attr(data-label); font-size: .66em; vertical-align: super; margin-left: .25em;
  opacity: .8; }
.out { opacity: .5; } .out[data-label]::before { content: "[" attr(data-label) "] "; font-size: .75em; }
.legend mark { margin-right: .5rem; white-space: nowrap; display: inline-block; }
.statements { font-size: .88rem; width: 100%; } .statements mark { white-space: nowrap; }
.rejected td:last-child { color: #c33; }
[hidden] { display: none; }
"""

_SCRIPT = """
const list = document.getElementById("reports");
const reports = Array.from(list.children);
const shown = document.getElementById("shown");
function look() {
  const wanted = document.getElementById("search").value.toLowerCase();
  let count = 0;
  for (const report of reports) {
    report.hidden = wanted !== "" && !report.textContent.toLowerCase().includes(wanted);
    if (!report.hidden) count += 1;
  }
  shown.textContent = count + " of " + reports.length + " reports";
}
function order() {
  const key = document.getElementById("sort").value;
  const sorted = reports.slice().sort((a, b) => key === "case"
    ? a.dataset.case.localeCompare(b.dataset.case, undefined, { numeric: true })
    : Number(b.dataset[key]) - Number(a.dataset[key]));
  list.replaceChildren(...sorted);
}
function openAll(open) { for (const report of reports) if (!report.hidden) report.open = open; }
document.getElementById("search").addEventListener("input", look);
document.getElementById("sort").addEventListener("change", order);
document.getElementById("open").addEventListener("click", () => openAll(true));
document.getElementById("close").addEventListener("click", () => openAll(false));
look();
"""


def write_page(
    path: Path,
    records: Mapping[str, ReportRecord],
    reports: Mapping[str, str],
    rejected: Iterable[RejectedRecord] = (),
    scores: ReportScores | None = None,
) -> None:
    """Write the page of an extraction, whole or not at all.

    Args:
        path: the HTML file.
        records: what the extraction gave, by case_id.
        reports: the text of each report, by case_id.
        rejected: findings that could not be proved.
        scores: figures for the top of the page.

    Raises:
        ReportError: a case has no report.
        StorageError: no room or no permission.
    """
    write_text(path, render_page(records, reports, rejected, scores))


def render_page(
    records: Mapping[str, ReportRecord],
    reports: Mapping[str, str],
    rejected: Iterable[RejectedRecord] = (),
    scores: ReportScores | None = None,
) -> str:
    """Give the page as text; arguments and errors as ``write_page``."""
    missing = sorted(records.keys() - reports.keys())
    if missing:
        raise ReportError(f"no report for {missing[0]!r} and {len(missing) - 1} more; are these the right reports?")
    refused: dict[str, list[RejectedRecord]] = {}
    for record in rejected:
        refused.setdefault(record.case_id, []).append(record)
    articles = [_article(records[case], reports[case], refused.get(case, [])) for case in sorted(records)]
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    legend = "".join(f'<mark style="--hue:{_HUES[category]}">{_named(category)}</mark>' for category in _CATEGORIES)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Statements in {len(records)} reports</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Statements in {len(records)} reports</h1>
<p class="note">This page holds the whole text of the reports: keep it where they are kept. Marked is what was kept;
dashed underlined what the report denies, dotted what it doubts. Pale is what a slide can't show, as the embedded
rules tell it by headings and words, whichever backend read the report.</p>
{_figures(scores) if scores else ""}
<p class="legend">{legend}</p>
<nav>
<input id="search" type="search" placeholder="Search in cases, reports and statements" aria-label="Search">
<label>Sort by <select id="sort"><option value="case">case</option><option value="statements">statements</option>
<option value="rejected">rejected</option><option value="length">length</option></select></label>
<button id="open" type="button">Open all</button><button id="close" type="button">Close all</button>
<span id="shown" role="status"></span>
</nav>
<main id="reports">
{"".join(articles)}</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _figures(scores: ReportScores) -> str:
    gold = scores.against_gold
    rows = [
        ("Reports", str(scores.reports), f"{scores.with_statements} give a statement"),
        ("Statements", str(scores.statements), ""),
        ("Proved", _share(scores.proved_share), _counted(scores.unproved)),
        ("Coverage", _share(scores.coverage), f"of {scores.sentences} sentences that a slide can show"),
        ("Leakage", _share(scores.leakage_share), _counted(scores.leakage)),
    ]
    if gold is not None:
        rows += [
            ("Precision", _share(gold.precision), f"{gold.supported} of {gold.statements} supported by the gold"),
            ("Relevance", _share(gold.relevance), f"{gold.found} of {gold.gold} gold statements found"),
            ("Polarity errors", str(gold.polarity_errors), ""),
            ("Number errors", str(gold.number_errors), ""),
        ]
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="figures">{body}</table>'


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _article(record: ReportRecord, text: str, rejected: Sequence[RejectedRecord]) -> str:
    left_out = ", ".join(f"{record.left_out[kind]} {kind}" for kind in LEFT_OUT_KINDS if record.left_out.get(kind))
    kept = "".join(
        f"<tr><td>{escape(s.statement_id.rsplit('/', 1)[-1])}</td><td>{_tag(s)}</td><td>{s.polarity}</td>"
        f"<td>{escape(s.text)}</td><td>{escape(s.evidence)}</td><td>{s.match}</td></tr>"
        for s in record.statements
    )
    refused = "".join(
        f"<tr><td>{escape(_named(r.category))}</td><td>{escape(r.text)}</td><td>{escape(r.evidence)}</td>"
        f"<td>{escape(r.reason)}</td></tr>"
        for r in rejected
    )
    return f"""<details class="report" data-case="{escape(record.case_id)}" data-statements="{len(record.statements)}"
 data-rejected="{len(rejected)}" data-length="{len(text)}">
<summary><b>{escape(record.case_id)}</b><span>{len(record.statements)} statements</span>
<span>{len(rejected)} rejected</span><span>{f"left out: {left_out}" if left_out else ""}</span></summary>
<div class="text">{_marked(text, record.statements)}</div>
{_table("Statements", ("", "category", "polarity", "statement", "evidence", "match"), kept, "statements")}
{_table("Rejected", ("category", "statement", "evidence", "why"), refused, "statements rejected")}
</details>
"""


def _table(title: str, columns: Sequence[str], body: str, css: str) -> str:
    if not body:
        return ""
    head = "".join(f"<th>{column}</th>" for column in columns)
    return f'<h2>{title}</h2><table class="{css}"><tr>{head}</tr>{body}</table>'


def _named(category: str) -> str:
    return category.replace("_", " ")


def _tag(statement: Statement) -> str:
    return f'<mark style="--hue:{_HUES[statement.category]}">{_named(statement.category)}</mark>'


def _marked(text: str, statements: Sequence[Statement]) -> str:
    """The report's text, escaped, cut wherever a statement or a part left out starts or ends.

    Where statements overlap, the mark has the colour of the one that starts last and names them all.
    """
    left_out = [part for part in find_sentences(text) if part.kind != "microscopic"]
    cuts = {0, len(text)} | {place for s in statements for place in (s.start, s.end)}
    cuts |= {place for part in left_out for place in (part.start, part.end)}
    edges = sorted(cut for cut in cuts if 0 <= cut <= len(text))
    pieces: list[str] = []
    kind_before = None
    for start, end in zip(edges, edges[1:], strict=False):
        piece = escape(text[start:end])
        here = [s for s in statements if s.start <= start and end <= s.end]
        kind = next((part.kind for part in left_out if part.start <= start and end <= part.end), None)
        if here:
            pieces.append(_mark(piece, here, ends=[s for s in here if s.end == end]))
        elif kind is not None:
            label = f' data-label="{kind}"' if kind != kind_before else ""
            pieces.append(f'<span class="out {kind}"{label} title="left out: {kind}">{piece}</span>')
        else:
            pieces.append(piece)
        if any(letter.isalnum() for letter in piece):
            kind_before = kind
    return "".join(pieces)


def _mark(piece: str, here: Sequence[Statement], ends: Sequence[Statement]) -> str:
    top = max(here, key=lambda s: s.start)
    title = escape("; ".join(f"{_named(s.category)}, {s.polarity}: {s.text} ({s.match})" for s in here))
    names = ", ".join(dict.fromkeys(_named(s.category) for s in ends))
    label = f' data-label="{names}"' if ends else ""
    return f'<mark class="{top.polarity}" style="--hue:{_HUES[top.category]}" title="{title}"{label}>{piece}</mark>'
