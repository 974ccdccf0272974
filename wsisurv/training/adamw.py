"""AdamW by torch's own functional form: its class, when made, loads torch's compiler, two seconds of every training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_BETAS = (0.9, 0.999)
_EPS = 1e-8


class AdamW:
    """``torch.optim.AdamW`` with its defaults, to the same weights bit by bit.

    Attributes:
        learning_rate: of the next step.
        moments: of each parameter that has moved, by its number: ``step``, ``exp_avg`` and ``exp_avg_sq``.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float, fused: bool = False
    ) -> None:
        """Make an optimiser.

        Args:
            parameters: that move.
            learning_rate: at the start.
            weight_decay: decoupled, times the learning rate.
            fused: one kernel for all of it, for GPUs; on a CPU it rounds otherwise than single operations.
        """
        self.learning_rate = learning_rate
        self.moments: dict[int, dict[str, Tensor]] = {}
        self._parameters = list(parameters)
        self._weight_decay, self._fused = weight_decay, fused

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient.

        Source: Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR 2019.
        """
        moved = [number for number, one in enumerate(self._parameters) if one.grad is not None]
        states = [self._moments(number) for number in moved]
        adamw(
            [self._parameters[number] for number in moved],
            [gradient for number in moved if (gradient := self._parameters[number].grad) is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=self._fused or None,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=self.learning_rate,
            weight_decay=self._weight_decay,
            eps=_EPS,
            maximize=False,
        )

    def load(self, moments: dict[int, dict[str, Tensor]]) -> None:
        """Take up where another left off; its moments may be on another device."""
        self.moments = {
            number: {name: value.to(self._place(number, name)) for name, value in one.items()}
            for number, one in moments.items()
        }

    def _moments(self, number: int) -> dict[str, Tensor]:
        if number not in self.moments:
            parameter = self._parameters[number]
            self.moments[number] = {
                "step": torch.zeros((), device=self._place(number, "step")),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.moments[number]

    def _place(self, number: int, name: str) -> torch.device:
        """Steps of single operations are counted on the CPU, which needs no kernel of a GPU for it."""
        return self._parameters[number].device if self._fused or name != "step" else torch.device("cpu")
