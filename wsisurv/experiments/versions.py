"""Versions of what computes figures."""

import platform
from importlib.metadata import version

from wsisurv.version import __version__


def versions() -> dict[str, str]:
    """Versions that figures depend on."""
    return {
        "wsisurv": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "lifelines", "numpy")},
    }
