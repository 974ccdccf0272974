"""What timm and the hub call an encoder."""

import re

import timm
from timm.models import get_pretrained_cfg

from wsisurv.embedding.table import TIMM_PREFIX
from wsisurv.errors import SettingsError, WeightsError, did_you_mean
from wsisurv.settings.architectures import BARE_NAME


def hub_files_of(encoder: str) -> tuple[str, tuple[str, ...]]:
    """Hub repository of ``timm:NAME``, and names that its file of weights may have where they are not the usual.

    Raises:
        SettingsError: no such encoder.
        WeightsError: timm has no weights for this architecture, or such as only code of its own reads.
    """
    config = get_pretrained_cfg(timm_name(encoder))
    if config is None or not config.hf_hub_id or config.custom_load:
        raise WeightsError(
            f"{encoder}: timm has no weights for it that are named tensors at the hub. Give some with --weights FILE, "
            "or --random-weights."
        )
    name = str(config.hf_hub_filename or "")
    safe = name.replace("pytorch_model.bin", "model.safetensors")
    return str(config.hf_hub_id), tuple(dict.fromkeys((safe, name))) if name else ()


def timm_name(encoder: str) -> str:
    """NAME of ``timm:NAME``.

    Raises:
        SettingsError: timm has no such architecture or weights; near names are listed.
    """
    name = encoder.removeprefix(TIMM_PREFIX)
    if (
        not re.fullmatch(BARE_NAME, name)
        or not timm.is_model(name)
        or ("." in name and not timm.is_model_pretrained(name))
    ):
        near = did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
        raise SettingsError(
            f'timm has no model {name!r}{near or "."} `python -c "import timm; print(timm.list_models())"` lists all.'
        )
    return name
