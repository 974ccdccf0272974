"""The demo runs its commands as a person does: a process each."""

import pytest

from wsisurv.demo.run import _run
from wsisurv.errors import BackendError
from wsisurv.version import __version__


def test_a_command_is_a_process_of_its_own_and_one_that_fails_is_named(tmp_path, capfd):
    _run(["wsisurv", "--version"])
    assert capfd.readouterr().out == f"wsisurv {__version__}\n"
    with pytest.raises(BackendError, match=r"wsisurv show .*none.* exit code 1"):
        _run(["wsisurv", "show", str(tmp_path / "none")])
