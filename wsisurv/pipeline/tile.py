"""Step 1 as command line and Python run it: tiles, and the contact sheet on which they are looked over."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec

from wsisurv.pages.contact_sheet import update_contact_sheet
from wsisurv.slides.find import find_slides
from wsisurv.tiling import step
from wsisurv.units import shown_name
from wsisurv.workspace.ledger import Summary, read_failures
from wsisurv.workspace.paths import Workspace

_All = ParamSpec("_All")


def _with_contact_sheet(run: Callable[_All, Summary]) -> Callable[_All, Summary]:
    """The step, and after it ``preview/index.html``; one without previews writes none, of shares the last to end."""

    @wraps(run)
    def tile(*args: _All.args, **named: _All.kwargs) -> Summary:
        summary = run(*args, **named)
        given = signature(run).bind(*args, **named).arguments
        if given.get("preview", True) and not (given.get("shard") and _left(given["workspace"], given["sources"])):
            update_contact_sheet(given["workspace"])
        return summary

    return tile


def _left(workspace: Workspace, sources: Sequence[Path]) -> bool:
    """Whether slides are neither tiled nor failed."""
    failed = {failure.id for failure in read_failures(workspace, step.STEP)}
    return bool({shown_name(slide_id) for slide_id in find_slides(sources)} - failed - {*workspace.tiled_slides()})


tile = _with_contact_sheet(step.tile)
