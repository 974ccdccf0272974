"""Step 1 as command line and Python run it: tiles, and the contact sheet on which they are looked over."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec

from wsisurv.pages.contact_sheet import update_contact_sheet
from wsisurv.tiling import step
from wsisurv.workspace.ledger import Summary

_All = ParamSpec("_All")


def _with_contact_sheet(run: Callable[_All, Summary]) -> Callable[_All, Summary]:
    """The step, and after it ``preview/index.html``; a step without previews writes none."""

    @wraps(run)
    def tile(*args: _All.args, **named: _All.kwargs) -> Summary:
        summary = run(*args, **named)
        given = signature(run).bind(*args, **named).arguments
        if given.get("preview", True):
            update_contact_sheet(given["workspace"])
        return summary

    return tile


tile = _with_contact_sheet(step.tile)
