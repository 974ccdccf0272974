"""Version of wsisurv, and of what computes its figures."""

__version__ = "0.2.0"


def versions() -> dict[str, str]:
    """Versions that figures depend on."""
    import platform
    from importlib.metadata import version

    computing = {name: version(name) for name in ("torch", "lifelines", "numpy")}
    return {"wsisurv": __version__, "python": platform.python_version(), **computing}
