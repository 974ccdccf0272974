"""Ctrl-C that can't get lost: Python drops a KeyboardInterrupt that strikes inside a destructor or a weak reference.

SIGTERM, by which a scheduler announces that a job must end, is the same.
"""

import signal
import threading
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""
_pressed = threading.Event()


def remember_interrupts() -> None:
    """Remember every Ctrl-C and SIGTERM from now on; what the parent process has ignored (``nohup``) stays ignored."""
    _pressed.clear()
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) == usual:
            signal.signal(number, _press)


def pressed() -> bool:
    """Whether it was: processes that the same signal ended are then no error of their own."""
    return _pressed.is_set()


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
