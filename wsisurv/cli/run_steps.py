"""The steps of ``wsisurv run``: the commands that each is, and what would stop them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsisurv.cli.run_file import RunFile
from wsisurv.cli.step_options import look, options_of
from wsisurv.errors import WsisurvError
from wsisurv.pipeline.blockers import Blockers, told
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.workspace.paths import Workspace

_GO_ON = ("check", "tile", "embed", "extract-report", "predict")
"""Steps of many items: exit code 1 says that some of them failed."""
_AS_TILED = ("slide_mpp", "mpp_table", "mpp_from_objective", "overlap_px")
"""Options that check and tile share."""


@dataclass(frozen=True)
class Step:
    """A step of a run."""

    name: str
    commands: tuple[tuple[str, ...], ...]  # words of each command, without ``wsisurv``

    @property
    def goes_on(self) -> bool:
        """Whether the run goes on where some items of the step failed."""
        return self.name in _GO_ON


def steps_of(file: RunFile, *, redo: bool) -> list[Step]:
    """All steps that a file asks for, in order; without reports there is no extract-report."""
    words, place = file.words, ["--workspace", file.workspace]
    named = ["--cohort", file.cohort]
    asked, folder = _encoder(file)
    tiling = list(words["tile"])
    if asked and not any(one in tiling for one in ("--for", "--tile-px", "--tile-mpp")):
        tiling = ["--for", asked, *tiling]
    encoder = [] if folder == EmbedSettings().folder else ["--encoder", folder]
    cohort = ["cohort", file.cohort, "--clinical", file.clinical, *encoder, *words["cohort"], *place]
    anew = ["--redo"] if redo else []
    commands: dict[str, list[list[str]]] = {
        "check": [["check", *file.slides, "--clinical", file.clinical, *_for_check(file, tiling), *words["check"]]],
        "cohort": [[*cohort, "--audit-only"]],
        "tile": [["tile", *file.slides, *tiling, *place, *anew]],
        "embed": [["embed", *words["embed"], *place, *anew]],
        "extract-report": [["extract-report", file.reports or "", *words["extract-report"], *place, *anew]],
        "train-teacher": [
            [*cohort, *anew],
            [
                "train-teacher",
                *named,
                *_unless(encoder, words["train-teacher"]),
                *words["train-teacher"],
                *place,
                *anew,
            ],
        ],
        "distill": [["distill", *named, *words["distill"], *place, *anew]],
        "crossval": [["crossval", *named, *words["crossval"], *place, *anew]],
        "predict": [["predict", *words["predict"], *named, *place, *anew]],
        "report": [["report", *named, *words["report"], *place]],
    }
    if file.reports is None:
        del commands["extract-report"]
    return [Step(name, tuple(tuple(_once(one)) for one in several)) for name, several in commands.items()]


def _once(words: Sequence[str]) -> list[str]:
    """Words with --redo once, where the file says it too."""
    return [word for place, word in enumerate(words) if word != "--redo" or "--redo" not in words[:place]]


def _unless(more: list[str], words: Sequence[str]) -> list[str]:
    """Words that the run adds, where the file does not say the same option."""
    return [] if more and more[0] in words else more


def _encoder(file: RunFile) -> tuple[str | None, str]:
    """The encoder that tiles are cut for, where it has a size of its own, and the folder of its features."""
    from wsisurv.embedding.encoder_spec import read_encoder_spec
    from wsisurv.embedding.packaged import tile_size

    given = look(["embed", *file.words["embed"]])
    asked, encoding = given["asked"], given["encoding"]
    try:
        if encoding.encoder_spec:
            own = read_encoder_spec(encoding.encoder_spec)
            return None, EmbedSettings(encoder=own.name, weights="random" if encoding.random_weights else None).folder
        sized = tile_size(asked.encoder) is not None
    except WsisurvError:
        sized = False  # no such encoder: told among what would stop the step
    name = asked.encoder.replace(":", "-") + ("-random" if encoding.random_weights else "")
    return asked.encoder if sized else None, name if encoding.stain == "none" else f"{name}-{encoding.stain}"


def _for_check(file: RunFile, tiling: Sequence[str]) -> list[str]:
    """Options of check that follow from those of the other steps."""
    given = look(["tile", "slides", *tiling])
    words: list[str] = []
    try:
        settings = given["cutting"].sized(given["settings"])
    except WsisurvError:
        settings = given["settings"]
    values = {
        **{name: getattr(settings, name) for name in ("tile_px", "tile_mpp", *_AS_TILED[-1:], "slide_mpp")},
        "mpp_table": given["resolution"].mpp_table,
        "mpp_from_objective": given["resolution"].mpp_from_objective,
        "case": look(["cohort", "name", "--clinical", "table", *file.words["cohort"]])["columns"].case,
        "slide_map": look(["cohort", "name", "--clinical", "table", *file.words["cohort"]])["making"].slide_map,
        "encoder": look(["embed", *file.words["embed"]])["asked"].encoder,
    }
    defaults = look(["check", "slides"])
    flat = {**defaults, **vars(defaults["resolution"])}
    options = options_of("check")
    for name, value in values.items():
        if value != flat[name] and options[name].flag not in file.words["check"]:
            words += [options[name].flag] if value is True else [options[name].flag, str(value)]
    return words


def find_blockers(file: RunFile, steps: Sequence[Step], *, redo: bool, slides: bool) -> tuple[Blockers, list[str]]:
    """All that would stop a step.

    Args:
        file: what is asked for.
        steps: those that are to be run.
        redo: stale files are to be made anew.
        slides: look into the slides too, which takes a while.
    """
    blockers = Blockers(Workspace(Path(file.workspace)), redo)
    calls = {one[0]: look(one) for step in steps for one in step.commands}
    there = {step.name for step in steps}
    if "tile" in there:
        given = calls["tile"]
        tiles = blockers.attempt("tile", given["cutting"].sized, given["settings"]) or given["settings"]
        if slides:
            how = blockers.attempt(
                "tile", lambda: {"given": given["resolution"].given(), **given["cutting"].arguments()}
            )
            if how is not None:
                blockers.tiles(given["slides"], tiles, **how)
        else:
            for one in given["slides"]:
                if not one.exists():
                    blockers.add("tile", f"{one}: no such file or folder")
        if "embed" in there:
            _of_embed(blockers, calls["embed"], tiles)
    if "extract-report" in there:
        given = calls["extract-report"]
        how = {name: given[name] for name in ("host", "allow_remote", "pull", "text_encoder")}
        blockers.reports(given["reports"], given["settings"], **how)
    if "cohort" in there:
        _of_cohort(blockers, file, calls)
    blockers.storage()
    return blockers, told(blockers, [step.name for step in steps])


def _of_embed(blockers: Blockers, given: dict[str, Any], tiles: Any) -> None:
    settings = blockers.attempt("embed", given["encoding"].settings, given["asked"])
    if settings is not None:
        blockers.features(
            settings,
            tiles,
            allow_mismatch=given["allow_mismatch"],
            weights_file=given["encoding"].weights,
            device=given["device"],
        )


def _of_cohort(blockers: Blockers, file: RunFile, calls: dict[str, dict[str, Any]]) -> None:
    from wsisurv.cohort import make_endpoints
    from wsisurv.settings.cohort import parse_endpoints

    given = calls["cohort"]
    making = given["making"]

    def make() -> Any:
        return make_endpoints(
            blockers.workspace,
            file.cohort,
            given["clinical"],
            parse_endpoints(making.endpoint or ()),
            given["columns"],
            encoder=given["encoder"],
            slide_map=making.slide_map,
            drop_incomplete=making.drop_incomplete,
            save=False,
        )

    cohorts = blockers.cohort(make)
    if "crossval" in calls:
        blockers.covariates(cohorts, calls["crossval"]["settings"].covariates)
        if calls["crossval"]["how"].splits is None:
            blockers.folds(file.cohort, calls["crossval"]["settings"])
    if "train-teacher" in calls:
        student = calls["distill"]["settings"] if "distill" in calls else None
        blockers.models(file.cohort, calls["train-teacher"]["settings"], student)
