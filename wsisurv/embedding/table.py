"""The published tile encoders, as data: what each is, what it takes, what it gives. Nothing heavy is imported here."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from wsisurv.embedding.encoder_row import BIOPTIMUS_MEAN, BIOPTIMUS_STD, HALF, EncoderSpec
from wsisurv.embedding.renamed_rows import RENAMED
from wsisurv.errors import SettingsError, did_you_mean
from wsisurv.extensions import ENCODERS as GROUP
from wsisurv.extensions import added_names

_DYNAMIC: dict[str, object] = {"dynamic_img_size": True}
_VIRCHOW = EncoderSpec(
    name="virchow",
    hub_id="paige-ai/Virchow",
    architecture="vit_huge_patch14_224",
    params_m=631.2,
    n_tokens=257,
    n_features=2560,
    kwargs={"init_values": 1e-5, "mlp_ratio": 5.3375, "dynamic_img_size": True},
    swiglu=True,
    pooling="class+mean",
    precision="fp16",
    access="gated",
    licence="Apache-2.0",
    commercial="yes",
    paper="doi:10.1038/s41591-024-03141-0",
)
_H_OPTIMUS_0 = EncoderSpec(
    name="h-optimus-0",
    hub_id="bioptimus/H-optimus-0",
    architecture="vit_giant_patch14_reg4_dinov2",
    params_m=1134.8,
    n_tokens=261,
    n_features=1536,
    kwargs={"img_size": 224, "init_values": 1e-5},
    mean=BIOPTIMUS_MEAN,
    std=BIOPTIMUS_STD,
    precision="fp16",
    access="open",
    licence="Apache-2.0",
    commercial="yes",
    paper="no paper; the model's page",
)
_H0_MINI = EncoderSpec(
    name="h0-mini",
    hub_id="bioptimus/H0-mini",
    architecture="vit_base_patch14_reg4_dinov2",
    params_m=85.7,
    n_tokens=261,
    n_features=768,
    kwargs={"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334, "dynamic_img_size": True},
    swiglu=True,
    mean=BIOPTIMUS_MEAN,
    std=BIOPTIMUS_STD,
    precision="fp16",
    access="gated",
    licence="CC BY-NC-ND 4.0",
    commercial="no",
    paper="arXiv:2501.16239",
    from_hub_config=True,
)


_LUNIT_S8 = EncoderSpec(
    name="lunit-s8",
    hub_id="1aurent/vit_small_patch8_224.lunit_dino",
    architecture="vit_small_patch8_224",
    params_m=21.7,
    n_tokens=785,
    n_features=384,
    kwargs=_DYNAMIC,
    mean=(0.70322989, 0.53606487, 0.66096631),
    std=(0.21716536, 0.26081574, 0.20723464),
    access="open",
    licence="research",
    commercial="no",
    paper="arXiv:2212.04690",
    from_hub_config=True,
)


def _kaiko(short: str, architecture: str, params_m: float, n_tokens: int, n_features: int) -> EncoderSpec:
    return EncoderSpec(
        name=f"kaiko-{short}",
        hub_id=f"1aurent/{architecture}.kaiko_ai_towards_large_pathology_fms",
        architecture=architecture,
        params_m=params_m,
        n_tokens=n_tokens,
        n_features=n_features,
        kwargs=_DYNAMIC,
        mpp_range=(0.25, 2.0),
        mean=HALF,
        std=HALF,
        access="open",
        licence="see the hub",
        commercial="ask",
        paper="arXiv:2404.15217",
        from_hub_config=True,
    )


_SPECS: tuple[EncoderSpec, ...] = (
    EncoderSpec(
        name="uni",
        hub_id="MahmoodLab/UNI",
        architecture="vit_large_patch16_224",
        params_m=303.4,
        n_tokens=197,
        n_features=1024,
        kwargs={"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True},
        precision="fp16",
        access="gated",
        licence="CC BY-NC-ND",
        commercial="no",
        paper="doi:10.1038/s41591-024-02857-3",
        weights_file="pytorch_model.bin",
    ),
    EncoderSpec(
        name="uni2-h",
        hub_id="MahmoodLab/UNI2-h",
        architecture="vit_giant_patch14_224",
        params_m=681.4,
        n_tokens=265,
        n_features=1536,
        kwargs={
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "init_values": 1e-5,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
        },
        swiglu=True,
        precision="bf16",
        access="gated",
        licence="CC BY-NC-ND",
        commercial="no",
        paper="doi:10.1038/s41591-024-02857-3",
    ),
    _VIRCHOW,
    replace(
        _VIRCHOW,
        name="virchow2",
        hub_id="paige-ai/Virchow2",
        n_tokens=261,
        kwargs={**_VIRCHOW.kwargs, "reg_tokens": 4},
        mpp_range=(0.25, 2.0),
        licence="CC BY-NC-ND",
        commercial="no",
        paper="arXiv:2408.00738",
    ),
    _H_OPTIMUS_0,
    replace(
        _H_OPTIMUS_0,
        name="h-optimus-1",
        hub_id="bioptimus/H-optimus-1",
        access="gated",
        licence="CC BY-NC-ND 4.0",
        commercial="no",
    ),
    _H0_MINI,
    replace(_H0_MINI, name="h0-mini-mean", n_features=1536, pooling="class+mean"),
    EncoderSpec(
        name="prov-gigapath",
        hub_id="prov-gigapath/prov-gigapath",
        architecture="vit_giant_patch14_dinov2",
        params_m=1135.0,
        n_tokens=197,
        n_features=1536,
        kwargs={
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
            "init_values": 1e-5,
        },
        tile_px=256,
        precision="fp16",
        access="gated",
        licence="Apache-2.0 with conditions",
        commercial="no",
        paper="doi:10.1038/s41586-024-07441-w",
    ),
    EncoderSpec(
        # By its hub name timm gives it random weights in silence: the file is loaded, strictly
        name="gigapath-flash",
        hub_id="prov-gigapath/prov-gigapath-flash",
        architecture="vit_small_patch16_224",
        params_m=21.7,
        n_tokens=197,
        n_features=384,
        kwargs={"img_size": 224, "init_values": 1e-5, "mlp_ratio": 2048 / 384},
        swiglu=True,
        tile_px=256,
        access="gated",
        licence="Apache-2.0 with conditions",
        commercial="no",
        paper="no paper; the model's page",
        weights_file="pytorch_model.bin",
        hub_file=True,
    ),
    EncoderSpec(
        name="pathorchestra",
        hub_id="AI4Pathology/PathOrchestra",
        architecture="vit_large_patch16_224",
        params_m=303.4,
        n_tokens=197,
        n_features=1024,
        kwargs={"init_values": 1e-5, "dynamic_img_size": True},
        access="gated",
        licence="CC BY-NC-ND 4.0",
        commercial="no",
        paper="arXiv:2503.24345",
        from_hub_config=True,
    ),
    EncoderSpec(
        name="prost40m",
        hub_id="waticlems/Prost40M",
        architecture="vit_small_patch16_224",
        params_m=21.6,
        n_tokens=257,
        n_features=384,
        kwargs={"patch_size": 14, "img_size": 224, "dynamic_img_size": True},
        access="gated",
        licence="Apache-2.0",
        commercial="yes",
        paper="no paper; the model's page",
        from_hub_config=True,
    ),
    EncoderSpec(
        name="gpfm",
        hub_id="majiabo/GPFM",
        architecture="vit_large_patch14_dinov2.lvd142m",
        params_m=303.2,
        n_tokens=257,
        n_features=1024,
        kwargs={"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True},
        access="open",
        licence="CC BY-NC-ND or MIT: sources disagree",
        commercial="ask",
        paper="arXiv:2407.18449",
        weights_file="GPFM.pth",
        hub_file=True,
    ),
    EncoderSpec(
        name="mstar",
        hub_id="Wangyh/mSTAR",
        architecture="vit_large_patch16_224",
        params_m=303.4,
        n_tokens=197,
        n_features=1024,
        kwargs={"init_values": 1e-5, "dynamic_img_size": True},
        access="gated",
        licence="CC BY-NC-ND 4.0",
        commercial="no",
        paper="arXiv:2407.15362",
    ),
    EncoderSpec(
        name="phikon",
        hub_id="1aurent/vit_base_patch16_224.owkin_pancancer",
        architecture="vit_base_patch16_224",
        params_m=85.8,
        n_tokens=197,
        n_features=768,
        access="open",
        licence="non-commercial",
        commercial="no",
        paper="doi:10.1101/2023.07.21.23292757",
        from_hub_config=True,
    ),
    _kaiko("s8", "vit_small_patch8_224", 21.7, 785, 384),
    _kaiko("s16", "vit_small_patch16_224", 21.7, 197, 384),
    _kaiko("b8", "vit_base_patch8_224", 85.8, 785, 768),
    _kaiko("b16", "vit_base_patch16_224", 85.8, 197, 768),
    _kaiko("l14", "vit_large_patch14_reg4_dinov2", 304.4, 261, 1024),
    _LUNIT_S8,
    replace(
        _LUNIT_S8,
        name="lunit-s16",
        hub_id="1aurent/vit_small_patch16_224.lunit_dino",
        architecture="vit_small_patch16_224",
        n_tokens=197,
    ),
    *RENAMED,
)

ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""Every published encoder by its name."""

_HUB_CODE = "its network is published only as code that the hub runs, and no file of yours should run code"
_COPYLEFT = "its code is under the GPL or AGPL"
_NO_LOADER = "no public loader of it was found"
NOT_COMPUTED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("rudolfv-2", "rudolfv-2-b", "rudolfv-2-s"), _HUB_CODE),
        **dict.fromkeys(("ctranspath", "chief"), _COPYLEFT),
        **dict.fromkeys(
            ("h-optimus-2", "virchow2g", "seal", "exaone-path-2.5", "pluto-4", "atlas-2", "threads"), _NO_LOADER
        ),
    }
)
"""Published encoders that are not computed here, and why."""
_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        **{"univ1": "uni", "univ2": "uni2-h", "uni2": "uni2-h", "conch": "conch-v1", "gigapath": "prov-gigapath"},
        **{"midnight12k": "midnight", "lunitvits8": "lunit-s8", "lunitvits16": "lunit-s16"},
        **{f"kaikovit{size}": f"kaiko-{size}" for size in ("s8", "s16", "b8", "b16", "l14")},
    }
)
"""What TRIDENT, slide2vec and others call published encoders, where it is not our name, as ``_bare`` gives it."""
HISTOMICS = "histomics"
TIMM_PREFIX = "timm:"


def packaged_names() -> tuple[str, ...]:
    """Names of the encoders that installed packages add.

    Raises:
        SettingsError: a package takes a name that there is already.
    """
    return added_names(GROUP, (HISTOMICS, *ENCODERS))


def find_spec(name: str) -> EncoderSpec | None:
    """The row of a published encoder; None for ``histomics``, ``timm:NAME`` and a package's, which have none.

    Raises:
        SettingsError: no such encoder; lists those there are.
    """
    if name == HISTOMICS or (name.startswith(TIMM_PREFIX) and name != TIMM_PREFIX):
        return None
    added = packaged_names()
    if name in added:
        return None
    for other, why in NOT_COMPUTED.items():
        if _bare(name) == _bare(other):
            raise SettingsError(
                f"{name} is not computed here: {why}; --encoder-spec takes architectures of timm, which it is none of. "
                f"Make features with a tool that runs it and bring them in with `wsisurv import FOLDER --encoder "
                f"{name}`, or add it by a package of yours (docs/extending.md)."
            )
    if name not in ENCODERS:
        known = (HISTOMICS, *ENCODERS, *added)
        raise SettingsError(
            f"no encoder {name!r}{did_you_mean(name, known) or '.'} There are {', '.join(known)}, and "
            f"{TIMM_PREFIX}NAME for any architecture of timm."
        )
    return ENCODERS[name]


def published(name: str) -> EncoderSpec | None:
    """The row of a published encoder, by our name or by that of another tool; None where it is none that is known."""
    bare = _bare(name)
    return next((row for own, row in ENCODERS.items() if bare in (_bare(own), _bare(row.hub_id))), None) or (
        ENCODERS[_ELSEWHERE[bare]] if bare in _ELSEWHERE else None
    )


def _bare(name: str) -> str:
    """A name without what is written differently: rudolfv-2, RudolfV2."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
