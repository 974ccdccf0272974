"""Ctrl-C that can't get lost: Python drops a KeyboardInterrupt that strikes inside a destructor or a weak reference."""

import signal
import threading
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""
_pressed = threading.Event()


def remember_interrupts() -> None:
    """Remember every Ctrl-C from now on; nothing changes where the parent process has it ignored (``nohup``)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _press)


def _press(number: int, frame: FrameType | None) -> None:
    del number, frame
    _pressed.set()
    raise KeyboardInterrupt


def stop_if_pressed() -> None:
    """Stop where Ctrl-C was pressed and did not get through; every line of progress asks.

    Raises:
        KeyboardInterrupt: it was pressed.
    """
    if _pressed.is_set():
        raise KeyboardInterrupt
