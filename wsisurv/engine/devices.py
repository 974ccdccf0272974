"""Where torch computes."""

from collections.abc import Sequence

import torch

from wsisurv.errors import SettingsError


def choose_device(wanted: str, accelerators: Sequence[str] = ("cuda", "mps")) -> torch.device:
    """The device that ``--device`` names.

    Args:
        wanted: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` …; ``auto`` is the first accelerator that is here, else the CPU.
        accelerators: what ``auto`` may take.

    Returns:
        The device, a GPU with its number.

    Raises:
        SettingsError: torch knows no such device, or there is none here.
    """
    if wanted == "auto":
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        wanted = next((name for name in accelerators if here[name]), "cpu")
    try:
        return torch.empty(0, device=torch.device(wanted)).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch asserts that it was built with CUDA
        why = str(error).splitlines()[0].partition(". ")[0]
        raise SettingsError(
            f"--device {wanted}: {why}. Use auto, cpu, or one that is here (cuda, cuda:1, mps)."
        ) from error
