"""Write the pages that are tables of the code: ``python docs/tables.py``. A test holds the pages against the code."""

from pathlib import Path

from wsisurv.embedding.histomics import COLUMNS
from wsisurv.embedding.table import ENCODERS

HERE = Path(__file__).parent

HISTOMICS = """\
# The columns of histomics

The embedded encoder: {n} numbers a tile, each with a name, a unit and a definition. OD is optical density.

| column | unit | what it measures |
|---|---|---|
{rows}
"""

ENCODER_PAGE = """\
# Published encoders

`wsisurv embed --encoder NAME`. Tiles of the size and resolution named are made by
`wsisurv tile --for NAME`. Licences as known when this was written; the model's page at the hub decides, and several
forbid commercial use.

| name | hub | features | tile | µm/px | precision | access | licence |
|---|---|---|---|---|---|---|---|
{rows}
"""


def pages() -> dict[str, str]:
    """Each page's name and text."""
    columns = "\n".join(f"| `{column.name}` | {column.unit} | {column.definition} |" for column in COLUMNS)
    encoders = "\n".join(
        f"| `{spec.name}` | {spec.hub_id} | {spec.n_features} | {spec.tile_px} px | {spec.tile_mpp:g} "
        f"| {spec.precision} | {spec.access} | {spec.licence} |"
        for spec in ENCODERS.values()
    )
    return {
        "histomics.md": HISTOMICS.format(n=len(COLUMNS), rows=columns),
        "encoders.md": ENCODER_PAGE.format(rows=encoders),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
