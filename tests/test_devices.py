import pytest
import torch

from wsisurv.engine.devices import choose_device
from wsisurv.errors import SettingsError


def test_a_device_that_is_not_here_is_explained() -> None:
    assert choose_device("cpu").type == "cpu"
    for name in ("gpu", "cuda:99"):
        with pytest.raises(SettingsError, match=name):
            choose_device(name)


def test_auto_takes_no_accelerator_that_it_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto", ("cuda",)).type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
