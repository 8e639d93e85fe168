"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

from . import _check as check
from .optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`.

    The formula is at `fastdl.kernels.numpy.sgd_step`.

    Args:
        params: parameters, or dicts of parameters and options (see `Optimizer`).
        lr: learning rate, at least 0.
        momentum: at least 0; 0 keeps no buffer.
        dampening: what share of a gradient does not enter the momentum buffer.
        weight_decay: L2 penalty, at least 0.
        nesterov: look ahead along the momentum; needs a momentum and no dampening.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range; see `Optimizer` for params.

    >>> optimizer = fd.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    """

    _STATES = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ):
        options = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)
        super().__init__(params, self._checked(options))

    def _checked(self, group: dict) -> dict:
        options = {
            "lr": check.number("SGD", "lr", group["lr"]),
            "momentum": check.number("SGD", "momentum", group["momentum"], 0),
            "dampening": check.number("SGD", "dampening", group["dampening"]),
            "weight_decay": check.number("SGD", "weight_decay", group["weight_decay"], 0),
            "nesterov": check.flag("SGD", "nesterov", group["nesterov"]),
        }
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov must have a momentum above 0 and dampening 0, "
                f"got momentum {options['momentum']:g}, dampening {options['dampening']:g}"
            )
        return options

    def _state_names(self, group: dict) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _update(self, kernel, group, param, grad, state, step, rounded) -> None:
        kernel.sgd_step(
            param, grad, state.get("momentum_buffer"), group["lr"], group["momentum"],
            group["dampening"], group["weight_decay"], group["nesterov"], step, rounded,
        )  # fmt: skip
