"""Write the pages that are tables of the code: ``python docs/tables.py``. A test holds the pages against the code."""

from pathlib import Path

from wsisurv.embedding.columns import COLUMNS
from wsisurv.embedding.slide_encoders import SLIDE_ENCODERS
from wsisurv.embedding.table import ENCODERS

HERE = Path(__file__).parent

HISTOMICS = """\
# The columns of histomics

The embedded encoder: {n} numbers a tile, each with a name, a unit and a definition, which are in every features file
too (root attributes `names`, `units`, `definitions`). OD is optical density.

| column | unit | what it measures |
|---|---|---|
{rows}
"""

ENCODER_PAGE = """\
# Encoders

`wsisurv embed --encoder NAME`: [histomics](histomics.md), which is embedded and needs nothing; a published model of the
table; `timm:NAME`, any architecture of timm with its published weights; or [a model of your own](#a-model-of-your-own).

## Published encoders

Tiles of the size and resolution named are made by `wsisurv tile --for NAME`; `embed` refuses others, unless
`--allow-mismatch`, which is written into the file. Licences as known when this was written; the model's page at the hub
decides. `commercial` says whether a company may use it: `yes`, `no`, or `ask` where sources differ or say nothing;
`wsisurv encoders --commercial` lists those with `yes`.

| name | hub | features | pooling | tile | µm/px | precision | access | licence | commercial | paper |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}

`class` is the class token, `class+mean` that and the mean of the patch tokens without registers. A tile of another size
than the table's is resampled (bicubic, bilinear for crown, conch-v1.5 and genbio-pathfm; antialiased); the model sees
the centre of 224 px (of 448 px: conch-v1 and conch-v1.5; of 384 px: musk). conch-v1 and conch-v1.5 pool all tokens by a
query that was learnt. conch-v1's features are those before its projection to the space of words; conch-v1.5 is the file
pytorch_model_vision.bin, and its features are what FEATHER, TITAN and CARE take. musk is the image branch of its file,
the class token before the head, one scale, not brought to length 1 (as TRIDENT runs it). genbio-pathfm sees red, green
and blue one after the other, and its features are the three class tokens. TRIDENT cuts tiles of 512 px for conch-v1 and
brings them to 448; here its tiles are 448 px, `--allow-mismatch` takes others. kaiko's, midnight and virchow2 serve
0.25 to 2 µm/px. mettle's class token goes through its head; keep's through its projection, and it and mascaret's are
scaled to length 1. crown was trained on cytology. TRIDENT runs UNI on tiles of 128 µm (256 px at 0.5, the centre of 224
seen); here tiles are 112 µm: features of the two are of different tissue.

Files of DINOv2's own code and of the transformers package name their tensors otherwise; they are renamed by rules
that are data (`embedding/checkpoint_layouts.py`), and loaded strictly: a file that lacks a tensor, or has one more,
is refused by name. Checked on small networks against a plain forward pass, for transformers' DINOv2 against
transformers 5.24 itself, bit by bit; the published weights themselves were not at hand.

Which first? `h0-mini`: a twelfth of the parameters of H-optimus-0, which it was distilled from (arXiv:2501.16239),
and close to it in a large comparison (arXiv:2604.24679, which found second-generation encoders ahead, `h-optimus-1`
best, and differences modest); not for commercial use. Of those a company may use, `wsisurv encoders --commercial`.

conch-v1 and musk are networks of timm with their files' names translated and, for conch-v1, its pooler written anew;
genbio-pathfm is a small network of our own (`embedding/channelwise.py`) that rounds to bf16 where the published code
does. Small files of the same names compute what a plain forward pass does; the published weights were not at hand.

Not in the table: RudolfV-2, -B and -S. What is known of them (patches of 8 px, positions by rotation, 8 registers;
class and mean) does not say how positions turn, and their network is published only as code that the hub runs. No
`--encoder-spec` makes them. Make features with slide2vec or LazySlide, which run that code, and bring them in with
`wsisurv import FOLDER --encoder rudolfv-2`; or add the model by an [entry point](extending.md) of a package of yours.
CTransPath and CHIEF are under the GPL and AGPL: by import alone. Of H-optimus-2, Virchow2G, SEAL, EXAONE Path 2.5,
PLUTO-4, Atlas 2 and THREADS no public loader was found.

## Encoders of whole slides

`wsisurv pool --encoder NAME --tiles ENCODER` makes one row of a slide's tiles, features/NAME-ENCODER/SLIDE.h5, which
`crossval`, `distill` and `predict` of a cohort take like any features (`mean_pool` of `crossval` is then a ridge Cox
regression on the embeddings, the standing baseline). `predict` and `evaluate` of such a student tile, embed and pool
new slides as its own were: `--weights` is then the tiles' encoder's file, and `--pool-weights` the slide encoder's,
where it has one. Rows that another package made can't be made here: import those of the new slides, and predict with
`--student` and without slides. A heatmap needs features of tiles.

| name | takes tiles of | columns | how |
|---|---|---|---|
| `mean` | any | as the tiles | computed here, no weights |
{slide_rows}

FEATHER (Shao et al. 2025, arXiv:2506.09022; CC BY-NC-ND 4.0) is gated attention of 0.9 million parameters; it is
written anew here and compared with a plain forward pass on random weights, its own weights were not at hand. Embeddings
that another package made come in by `wsisurv import FOLDER --encoder NAME`.

## Weights

`wsisurv encoders` lists all of them and says whose weights are here, without asking any network.
`wsisurv encoders --check NAME…` says before the first slide what is missing and the ways out, and ends with code 1 if
anything is. There are two ways:

- **A token.** Accept the licence at the model's page at the hub and set `HF_TOKEN` (or run `hf auth login`); `embed`
  then fetches the weights by itself. Where the compute node has no network, run `wsisurv encoders --fetch NAME…` on
  one that has, copy the folder that it names, and set `HF_HUB_CACHE` to the copy and `HF_HUB_OFFLINE=1`.
  The commit that is fetched goes into the settings (`hub:ID@COMMIT`); `--revision COMMIT` asks for another. `predict`
  with a student of anybody asks no network: what its card names must be in the cache, at that commit.
- **A file.** Fetch the file that `--check` names by any means and give it with `embed --weights FILE`.

Files are read without running code in them: `.safetensors`, or `.bin`, `.pt`, `.pth` with torch's `weights_only`.

## How robust is it on your slides?

`wsisurv encoders [NAME…] --robustness --cohort NAME` says how well the mean tile of a case tells its hospital (ridge
classifier, out of fold; mean over hospitals of ten cases or more of the share told right) against how well it tells
risk (ridge Cox, hospitals left out whole where they can be). An encoder that tells hospitals well sees scanners, stains
and preparation; what a model learns from it should be validated elsewhere (`evaluate`). Patients of hospitals differ
too, so no encoder need be at guessing. `embed --augment-stain` measures how features move with the stains alone.

## A model of your own

`wsisurv embed --weights FILE --encoder-spec FILE.toml`. The whole file goes into the features and their fingerprint,
and from there into the models trained on them: `predict` on new slides wants only `--weights`. `architecture` is a bare
name, and `arguments` are those of a network's shape (sizes, depths, switches); others, which could make timm load
something, are refused.

```toml
{example}```

## Stains

`--stain macenko` or `--stain reinhard` brings each slide to the colours of a reference before it is encoded; the
features have a folder of their own (`uni2-h-macenko`). The stains are estimated once a slide, in 32 tiles spread over
it, and not in each tile: a tile of fat or lumen would get colours of its own. A slide that shows too little stain, or
one stain only, is left as it is; the run and its file say so. What was estimated and the reference are in the file.
`--stain-reference FILE` takes a picture of H&E tissue as reference. Built in are the references that the field's
libraries carry: for macenko that of the method's published code, for reinhard TCGA-A2-A3XS-DX1 (Amgad et al. 2019).

macenko follows the published code: pixels below 0.15 in any colour's optical density are left out, so pale eosin
counts little. The directions of the stains are those that torchstain finds; so are their strengths where it is given
stained pixels only. The published code counts all pixels there, and with them how much lumen and fat a slide has.
reinhard leaves glass as it is. Foundation models were trained on many stains as they are; whether a reference helps
them is not known beforehand, so compare with `--stain none`.

torchstain itself is not used: it can't apply what it found in a slide to one of its tiles (each call estimates anew),
stops with an error of linear algebra on a blank tile, and makes something of a picture of one colour.

`--augment-stain` also writes how far features move when haematoxylin and eosin are each 15 % weaker or stronger, beside
their spread between tiles ([keys](formats.md)), so that it can be reported how robust an encoder is on your slides.
"""


def pages() -> dict[str, str]:
    """Each page's name and text."""
    columns = "\n".join(f"| `{column.name}` | {column.unit} | {column.definition} |" for column in COLUMNS)
    encoders = "\n".join(
        f"| `{spec.name}` | {spec.hub_id} | {spec.n_features} | {spec.pooling} | {spec.tile_px} px "
        f"| {spec.tile_mpp:g} | {spec.precision} | {spec.access} | {spec.licence} | {spec.commercial} | {spec.paper} |"
        for spec in ENCODERS.values()
    )
    slide_rows = "\n".join(
        f"| `{name}` | {', '.join(row.tile_encoders)} | {row.n_features} "
        f"| {f'imported: {row.elsewhere}' if row.elsewhere else 'computed here, `--weights FILE`'} |"
        for name, row in SLIDE_ENCODERS.items()
    )
    return {
        "histomics.md": HISTOMICS.format(n=len(COLUMNS), rows=columns),
        "encoders.md": ENCODER_PAGE.format(
            rows=encoders, slide_rows=slide_rows, example=(HERE / "encoder-spec.toml").read_text(encoding="utf-8")
        ),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
