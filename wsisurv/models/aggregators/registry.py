"""From the states of tiles to the state of a case, by name."""

from collections.abc import Callable

from wsisurv.errors import FormatError
from wsisurv.models.aggregators.abmil import Abmil
from wsisurv.models.aggregators.mean import MeanPool
from wsisurv.models.aggregators.pooling import Aggregator
from wsisurv.models.aggregators.selfattention import Transmil

_KINDS: dict[str, Callable[[int], Aggregator]] = {
    "mean": lambda _width: MeanPool(),
    "abmil": Abmil,
    "transmil": Transmil,
}


def make_aggregator(name: str, width: int) -> Aggregator:
    """Aggregator of this name, with new weights.

    Raises:
        FormatError: no such aggregator.
    """
    if name not in _KINDS:
        raise FormatError(f"aggregator {name!r}: known are {', '.join(_KINDS)}. Was the model made by a newer wsisurv?")
    return _KINDS[name](width)
