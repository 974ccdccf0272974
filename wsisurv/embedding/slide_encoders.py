"""Encoders of whole slides: what each needs, and the one small enough to be here. Nothing heavy is imported here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from wsisurv.errors import SettingsError, did_you_mean

MEAN = "mean"


@dataclass(frozen=True)
class SlideEncoderRow:
    """A published encoder of whole slides or patients."""

    n_features: int  # columns of an embedding
    # tile encoders whose features it takes → width of these; the hub's repository of its weights for each is beside it
    tile_encoders: Mapping[str, int]
    hub_ids: Mapping[str, str] = field(default_factory=dict)  # where it is computed here
    elsewhere: str = ""  # why it is not, in words


_BY_ITS_PACKAGE = "its own package computes it"
SLIDE_ENCODERS: Mapping[str, SlideEncoderRow] = {
    "feather": SlideEncoderRow(
        512,
        {"conch-v1.5": 768, "uni2-h": 1536, "uni": 1024},
        {
            "conch-v1.5": "MahmoodLab/abmil.base.conch_v15.pc108-24k",
            "uni2-h": "MahmoodLab/abmil.base.uni_v2.pc108-24k",
            "uni": "MahmoodLab/abmil.base.uni.pc108-24k",
        },
    ),
    "titan": SlideEncoderRow(768, {"conch-v1.5": 768}, elsewhere=_BY_ITS_PACKAGE),
    "care": SlideEncoderRow(512, {"conch-v1.5": 768}, elsewhere=_BY_ITS_PACKAGE),
    "prism": SlideEncoderRow(1280, {"virchow": 2560}, elsewhere=_BY_ITS_PACKAGE),
    "prism2": SlideEncoderRow(2560, {"virchow2": 1280}, elsewhere=f"{_BY_ITS_PACKAGE}, on a GPU of NVIDIA's"),
    "moozy": SlideEncoderRow(768, {"lunit-s8": 384}, elsewhere=_BY_ITS_PACKAGE),
    "gigapath-slide": SlideEncoderRow(
        768, {"prov-gigapath": 1536}, elsewhere=f"{_BY_ITS_PACKAGE}, with flash-attn on a GPU of NVIDIA's"
    ),
    "madeleine": SlideEncoderRow(512, {"conch-v1": 512}, elsewhere=_BY_ITS_PACKAGE),
    "chief": SlideEncoderRow(768, {"ctranspath": 768}, elsewhere="its code is under the AGPL"),
}
"""Every published encoder of slides that is known by name."""


def computed_here() -> tuple[str, ...]:
    """Names that ``pool`` computes."""
    return (MEAN, *(name for name, row in SLIDE_ENCODERS.items() if not row.elsewhere))


def require_slide_encoder(name: str, tile_encoder: str, n_features: int) -> str | None:
    """Check that an encoder of slides is computed here, of features of these tiles.

    Args:
        name: of the encoder of slides.
        tile_encoder: of the tiles' features, as their files say it.
        n_features: columns of these features.

    Returns:
        The hub's repository of its weights; None where it has none.

    Raises:
        SettingsError: no such encoder, one that is computed elsewhere, or one that takes other tiles.
    """
    if name == MEAN:
        return None
    row = SLIDE_ENCODERS.get(name)
    if row is None:
        known = (MEAN, *SLIDE_ENCODERS)
        raise SettingsError(
            f"no slide encoder {name!r}{did_you_mean(name, known) or '.'} Computed here: {', '.join(computed_here())}."
        )
    wanted = ", ".join(row.tile_encoders)
    if row.elsewhere:
        raise SettingsError(
            f"{name} is not computed here: {row.elsewhere}. It takes tiles of {wanted}. Make embeddings with it "
            f"(TRIDENT and slide2vec run most), and bring them in with `wsisurv import FOLDER --encoder {name}`."
        )
    known_as = {_bare(one): one for one in row.tile_encoders}
    taken = known_as.get(_bare(tile_encoder))
    if taken is None or row.tile_encoders[taken] != n_features:
        raise SettingsError(
            f"{name} takes features of {wanted} ({', '.join(map(str, row.tile_encoders.values()))} columns); these are "
            f"{n_features} columns of {tile_encoder}."
        )
    return row.hub_ids[taken]


def _bare(name: str) -> str:
    """A tile encoder's name without what tools write differently: conch-v1.5, conch_v15, CONCHv1_5."""
    return re.sub("[^a-z0-9]", "", name.lower())
