"""Tables of a page as CSV and LaTeX: the page's own numbers, and no letter that a reader takes for something else."""

import csv
import html
import io
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsisurv.pages.tables import file_name, latex_text, read_tables, write_tables

PAGE = """<table><tr><td>no name</td></tr></table>
<table data-name="a/b"><thead><tr><th>who</th><th class="n">C <i>x</i></th><th class="n">95 %</th></tr></thead><tbody>
<tr><td>=cmd()</td><td class="n" data-sort="0.123456789">0.123</td>
<td class="n" data-low="0.1" data-high="0.2">0.10 to 0.20</td></tr>
<tr><td>[50 % &amp; 2_x]</td><td class="n" data-sort="-1e300">–</td>
<td class="n" data-low="" data-high="nan">–</td></tr>
</tbody></table>
<table data-name="pairs"><tbody><tr><th scope="row">unit</th><td>–</td></tr></tbody></table>"""


def test_csv_has_the_numbers_behind_the_page_both_ends_of_an_interval_and_no_formula() -> None:
    first, pairs = read_tables(PAGE)
    assert list(csv.reader(io.StringIO(first.as_csv()))) == [
        ["who", "C x", "95 % low", "95 % high"],
        ["'=cmd()", "0.123456789", "0.1", "0.2"],
        ["[50 % & 2_x]", "", "", ""],
    ]
    assert pairs.as_csv() == "unit,\n"


def test_latex_has_the_rules_of_booktabs_and_sets_words_as_words() -> None:
    text = read_tables(PAGE)[0].as_latex()
    assert r"\begin{tabular}{lrr}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"who & C x & 95 \% \\" in text
    assert r"{[}50 \% \& 2\_x{]} & -- & -- \\" in text  # a bare [ after \\ is a length


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_word_has_a_letter_left_that_latex_acts_on(words: str) -> None:
    text = latex_text(words)
    commands = r"\\(?:text\w+|dots|char34)\{\}|\\[{}$&#%_]|\$[^$]*\$|\{[\[\]*]\}|-\{\}"
    left = re.sub(commands, "", text)
    assert not set(left) & set('\\{}$&#%_^~<>|"`[]*')
    assert "\n" not in text
    assert "-{}-" in latex_text("a--b")
    assert latex_text("a-b") == "a-b"


def test_files_stay_in_their_folder_and_those_of_an_earlier_page_go(tmp_path) -> None:
    assert file_name("../x") == "x" or "/" not in file_name("../x")
    assert file_name("a" * 300) != file_name("a" * 301)
    assert max(len(file_name("é" * n).encode()) for n in (10, 300)) < 200
    written = write_tables(tmp_path, PAGE)
    assert {path.name for path in written} == {"a.b.csv", "a.b.tex", "pairs.csv", "pairs.tex"}
    (tmp_path / "mine.tex").write_text("mine")
    (tmp_path / "mine.csv").write_text("mine")
    write_tables(tmp_path, PAGE.replace("a/b", "c"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "c.csv", "c.tex", "pairs.csv", "pairs.tex", "mine.tex", "mine.csv",
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_takes_it(tmp_path) -> None:
    words = "".join(map(chr, range(32, 127))) + "−–χ²±≥≤µ×…" + "--"
    cell = html.escape(f"[b] {words}")
    table = read_tables(
        f'<table data-name="x"><tr><td>*a</td><td>{cell}</td></tr><tr><td>[1]</td><td></td></tr></table>'
    )[0]
    rules = "".join(rf"\newcommand{{\{rule}}}{{\hline}}" for rule in ("toprule", "midrule", "bottomrule"))
    (tmp_path / "x.tex").write_text(
        rf"\documentclass{{article}}{rules}\begin{{document}}{table.as_latex()}\end{{document}}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
