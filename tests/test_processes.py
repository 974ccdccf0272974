import signal
import subprocess
import sys

import pytest

from wsisurv.engine.processes import interrupts_held

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks here")
_ASK = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


def blocked() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def blocked_in_a_new_process() -> bool:
    return subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True).stdout == "True\n"


def test_processes_that_start_meanwhile_never_hear_of_ctrl_c_and_their_parent_does_again() -> None:
    with interrupts_held():
        inside = blocked_in_a_new_process()
    assert inside
    assert not blocked()
    assert not blocked_in_a_new_process()


def test_a_parent_that_held_it_back_itself_still_does() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with interrupts_held():
            pass
        assert blocked()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_press_inside_is_heard_at_the_end() -> None:
    went_on = []

    def press() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            went_on.append(True)

    with pytest.raises(KeyboardInterrupt):
        press()
    assert went_on
