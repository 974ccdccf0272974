"""What timm and the hub call an encoder."""

import difflib

import timm
from timm.models import get_pretrained_cfg

from wsisurv.embedding.table import TIMM_PREFIX, find_spec
from wsisurv.errors import SettingsError, WeightsError


def hub_id_of(encoder: str) -> str:
    """Hub repository of an encoder of the table or of ``timm:NAME``.

    Raises:
        SettingsError: no such encoder.
        WeightsError: timm has no weights for this architecture.
    """
    spec = find_spec(encoder)
    if spec is not None:
        return spec.hub_id
    config = get_pretrained_cfg(timm_name(encoder))
    if config is None or not config.hf_hub_id:
        raise WeightsError(
            f"{encoder}: timm has no weights for it. Give some with --weights FILE, or --random-weights."
        )
    return str(config.hf_hub_id)


def timm_name(encoder: str) -> str:
    """NAME of ``timm:NAME``.

    Raises:
        SettingsError: timm has no such architecture or weights; near names are listed.
    """
    name = encoder.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name) or ("." in name and not timm.is_model_pretrained(name)):
        known = [*timm.list_models(), *timm.list_pretrained()]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise SettingsError(
            f"timm has no model {name!r}"
            + (f"; there is {', '.join(near)}" if near else "")
            + '. `python -c "import timm; print(timm.list_models())"` lists all.'
        )
    return name
