"""From the states of tiles to the state of a case, by name."""

from collections.abc import Callable
from functools import cache

import torch

from wsisurv.bags.packed import pack
from wsisurv.errors import FormatError, SettingsError
from wsisurv.extensions import AGGREGATORS, added_names, load_added, origin
from wsisurv.models.aggregators.abmil import Abmil
from wsisurv.models.aggregators.joined import Joined
from wsisurv.models.aggregators.mean import MeanPool
from wsisurv.models.aggregators.pooling import Aggregator
from wsisurv.models.aggregators.selfattention import SelfAttention

KINDS: dict[str, Callable[[int], Aggregator]] = {
    "mean": lambda _width: MeanPool(),
    "abmil": Abmil,
    "selfattention": SelfAttention,
    "transmil": SelfAttention,  # as it was called before
}
_TRIED_WIDTH, _TRIED_TILES = 8, (5, 1, 9)
_TOLERANCE = 1e-4


def make_aggregator(name: str, width: int) -> Aggregator:
    """Aggregator of this name, with new weights.

    Raises:
        FormatError: no such aggregator.
        SettingsError: one that a package adds is not what an aggregator must be.
    """
    if name in KINDS:
        return KINDS[name](width)
    if name.startswith("joined "):
        return Joined(name, width)
    if name not in added_names(AGGREGATORS, KINDS):
        raise FormatError(
            f"aggregator {name!r}: known are {', '.join(KINDS)}. Was the model made by a newer wsisurv, or with a "
            "package that is not installed here?"
        )
    return _added(name)(width)


@cache
def _added(name: str) -> Callable[[int], Aggregator]:
    """What a package adds, tried on a few random tiles: a bag that leaks into another would flatter every figure.

    Raises:
        SettingsError: it fails, or gives a case another state beside other cases, or in another order of its tiles.
    """
    make: Callable[[int], Aggregator] = load_added(AGGREGATORS, name)
    said = origin(AGGREGATORS, name)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        tiles = [torch.randn(n, _TRIED_WIDTH).numpy() for n in _TRIED_TILES]
        try:
            made = make(_TRIED_WIDTH).eval()
            together = pack(tiles)
            pooled = made.pool(together.rows, together)
            alone = torch.cat([made.pool(one.rows, one) for one in (pack([each[::-1].copy()]) for each in tiles)])
            parts = made.parts(together.rows, together)
            exact = made.exact
        except Exception as error:  # noqa: BLE001  # a package of anybody's, which may fail in any way
            raise SettingsError(f"{said} fails on a few tiles ({type(error).__name__}: {error}).") from error
    if not isinstance(made, Aggregator) or not isinstance(exact, bool):
        raise SettingsError(f"{said} gives a {type(made).__name__}, and a wsisurv Aggregator is wanted.")
    if pooled.shape != (len(tiles), _TRIED_WIDTH):
        raise SettingsError(f"{said} pools to {tuple(pooled.shape)}, and (bags, width) is wanted.")
    if not torch.allclose(pooled, alone, atol=_TOLERANCE):
        raise SettingsError(f"{said} gives a case another state beside others, or in another order of its tiles.")
    share = torch.zeros(len(tiles)).index_add(0, together.bag_of_row, parts.share)
    whole = torch.zeros_like(pooled).index_add(0, together.bag_of_row, parts.share.unsqueeze(1) * parts.value)
    if not torch.allclose(share, torch.ones(len(tiles)), atol=_TOLERANCE) or bool((parts.share < 0).any()):
        raise SettingsError(f"{said}: shares of a case's tiles are not at least 0 with a sum of 1.")
    if not torch.allclose(whole, pooled, atol=_TOLERANCE):
        raise SettingsError(f"{said}: its parts don't add up to what it pools.")
    return make
