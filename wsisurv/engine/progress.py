"""How work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with (items done, items in all, what is being done now)."""


def no_progress(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""
    del done, total, what


def of_step(progress: Progress, name: str) -> Progress:
    """Progress of one of several steps, by whose name it is known."""
    return lambda done, total, what: progress(done, total, f"{name} {what}".rstrip())
