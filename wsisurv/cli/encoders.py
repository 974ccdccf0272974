"""``wsisurv encoders``."""

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsisurv.cli.console import out, progress_bar
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, WorkspaceOption
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.embedding.encoder_row import EncoderSpec


def encoders(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of encoders; all if none is given.", metavar="[NAME]…")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check what is missing to use them, and say how to get it.")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download the weights from the hub, e.g. for a machine without a network.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            help="Commit to fetch, 40 hex digits, e.g. the one that a student names.", show_default="the newest"
        ),
    ] = None,
    commercial: Annotated[
        bool,
        typer.Option(
            "--commercial", help="List only those whose licence, as far as is known, lets a company use them."
        ),
    ] = False,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Say how well features tell the hospital of a cohort's cases, against how well they tell risk.",
        ),
    ] = False,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the encoders of `embed`: tiles, features, licence, and whether the weights are here.

    The list reads the local cache of the Hugging Face hub, and no network. --check asks the hub about what is
    not in the cache, unless HF_HUB_OFFLINE is set, and ends with exit code 1 if anything is missing. --fetch downloads
    into the cache and prints its folder; copy that to a machine without network, set HF_HUB_CACHE to the copy and
    HF_HUB_OFFLINE=1. --robustness reads the features in a workspace (NAME: their folders, all if none is given) of a
    cohort made with --site: where hospitals are told well, a model may learn scanners and stains instead of disease.

    Any other model of timm is timm:NAME; one of your own is `embed --weights FILE --encoder-spec FILE.toml`.
    """
    if robustness:
        _measure(names or [], Workspace(workspace), cohort, as_json=as_json)
        return
    if (check or fetch) and not names:
        raise typer.BadParameter("which? e.g. `wsisurv encoders --check uni2-h`", param_hint="NAME")
    if check and fetch:
        raise typer.BadParameter("--check and --fetch exclude each other.", param_hint="--check")
    if revision and not (fetch and re.fullmatch("[0-9a-f]{40}", revision)):
        raise typer.BadParameter("a commit of 40 hex digits, with --fetch", param_hint="--revision")
    if check or fetch:
        _each(names or [], fetch=fetch, revision=revision, as_json=as_json)
        return
    rows = [row for row in _rows(names) if not commercial or row["commercial"] == "yes"]
    if as_json:
        out.print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _show(rows)


def _measure(names: list[str], workspace: Workspace, cohort: str | None, *, as_json: bool) -> None:
    from wsisurv.experiments.robustness import encoder_robustness

    with progress_bar("read") as progress:
        found = encoder_robustness(workspace, workspace.the_cohort(cohort), names, progress=progress)
    if as_json:
        out.print(json.dumps([vars(one) for one in found], indent=2))
    else:
        for one in found:
            out.print(one.sentence)


def _each(names: list[str], *, fetch: bool, revision: str | None, as_json: bool) -> None:
    from wsisurv.embedding.hub import EncoderCheck, cache_folder, check_encoder, fetch_encoder
    from wsisurv.embedding.table import find_spec
    from wsisurv.errors import WeightsError

    for name in names:
        find_spec(name)  # a name that is wrong is said before the hub is asked for another
    checks = []
    for name in names:
        try:
            checks.append(EncoderCheck(name, True, fetch_encoder(name, revision)) if fetch else check_encoder(name))
        except WeightsError as error:
            checks.append(EncoderCheck(name, False, str(error).removeprefix(f"{name}: ")))
    if as_json:
        out.print(json.dumps([vars(each) for each in checks], indent=2, ensure_ascii=False))
    else:
        for each in checks:
            out.print(f"{each.encoder}: {each.message}", style=None if each.ready else "red")
        if fetch and any(each.ready for each in checks):
            out.print(
                f"in {cache_folder()}; where there is no network, set HF_HUB_OFFLINE=1 and HF_HUB_CACHE to a copy of it"
            )
    if not all(each.ready for each in checks):
        raise typer.Exit(1)


def _rows(names: list[str] | None) -> list[dict[str, Any]]:
    from wsisurv.embedding.encoder import HistomicsEncoder
    from wsisurv.embedding.packaged import packaged_weights, tile_size
    from wsisurv.embedding.table import ENCODERS, HISTOMICS, find_spec, packaged_names

    rows: list[dict[str, Any]] = []
    for name in names or [HISTOMICS, *ENCODERS, *packaged_names()]:
        spec = find_spec(name)
        if spec is not None:
            rows.append(_row(spec))
        elif name in packaged_names():
            px, mpp = tile_size(name) or (None, None)
            kept = {"name": name, "needs": "nothing", "weights_here": True, "features": None, "tile_px": px}
            rows.append(
                {
                    **kept,
                    "tile_mpp": mpp,
                    "access": packaged_weights(name),
                    "licence": "see its package",
                    "commercial": "ask",
                }
            )
        elif name == HISTOMICS:
            rows.append(
                {
                    "name": name,
                    "needs": "nothing",
                    "weights_here": True,
                    "features": HistomicsEncoder.n_features,
                    "tile_px": None,
                    "tile_mpp": None,
                    "access": "embedded",
                    "licence": "Apache-2.0",
                    "commercial": "yes",
                }
            )
        else:
            raise typer.BadParameter(f"{name}: use --check; timm's own models are not listed.", param_hint="NAME")
    return rows


def _row(spec: "EncoderSpec") -> dict[str, Any]:
    from wsisurv.embedding.hub import find_needs

    needs = find_needs(spec.name)
    here = needs is not None and needs.here
    return {
        "name": spec.name,
        "needs": "a token" if spec.access == "gated" else "a network",
        "weights_here": here,
        "features": spec.n_features,
        "tile_px": spec.tile_px,
        "tile_mpp": spec.tile_mpp,
        "mpp_range": list(spec.mpp_range),
        "parameters_m": spec.params_m,
        "precision": spec.precision,
        "pooling": spec.pooling,
        "access": spec.access,
        "licence": spec.licence,
        "commercial": spec.commercial,
        "paper": spec.paper,
        "hub_id": spec.hub_id,
        "weights_file": spec.weights_file,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    lines = [("name", "features", "tiles", "weights", "without them it needs", "commercial", "licence")]
    for row in rows:
        size = f"{row['tile_px']} px {row['tile_mpp']:g} µm/px" if row["tile_px"] else "any"
        here = "here" if row["weights_here"] else "not here"
        lines.append(
            (
                row["name"],
                str(row["features"] or "its own"),
                size,
                here,
                row["needs"],
                row["commercial"],
                row["licence"],
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        out.print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    out.print(
        "A file of weights (--weights FILE) does for each; `--check NAME` says which. timm:NAME is any architecture"
    )
    out.print("of timm; --weights FILE --encoder-spec FILE.toml is a model of your own.")
