"""From a template and what it shows to a page that stands alone.

Every value is escaped by the template engine, and a name that a template uses but was not given is an error. Style and
script are files beside the templates that the base template takes in whole; nothing is marked as safe.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from wsisurv.formats.atomic import write_text
from wsisurv.pages.numbers import interval, minus, number, p_equals, p_value, share
from wsisurv.pages.tables import file_name


def render(template: str, **shown: object) -> str:
    """Fill in a template; the same values give the same text.

    Args:
        template: name of a file in templates/.
        shown: the names that it uses.

    Raises:
        jinja2.UndefinedError: the template uses a name that was not given: an error of ours.
    """
    return _environment().get_template(template).render(shown)


def write_page(path: Path, template: str, **shown: object) -> str:
    """Write a page, whole or not at all, and give it; arguments as ``render``.

    Raises:
        StorageError: no room or no permission.
    """
    page = render(template, **shown)
    write_text(path, page)
    return page


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("wsisurv.pages"),
        autoescape=True,  # every file, whatever its ending
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "p_value": p_value,
        "p_equals": p_equals,
        "share": share,
        "minus": minus,
        "data_uri": _data_uri,
        "sha256": _sha256,
        "file_name": file_name,
    }
    made.globals["interval"] = interval
    return made


def _data_uri(content: bytes, kind: str) -> str:
    """A picture as an address that holds all of it; ``kind`` is ``svg+xml``, ``png`` or ``jpeg``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _sha256(text: str) -> str:
    """A script's digest as a content policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
