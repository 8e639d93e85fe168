"""RMSProp."""

from __future__ import annotations

from collections.abc import Iterable

from . import _check as check
from .optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSProp, as `torch.optim.RMSprop`; the formula is at `kernels.numpy.rmsprop_step`.

    Args:
        params: parameters, or dicts of parameters and options (see `Optimizer`).
        lr: learning rate, at least 0.
        alpha: smoothing of the squared gradient, in [0, 1].
        eps: added to the root, at least 0.
        weight_decay: L2 penalty, at least 0.
        momentum: at least 0; 0 keeps no buffer.
        centered: divide by the standard deviation of the gradient instead of its root mean square.

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range; see `Optimizer` for params.

    >>> optimizer = fd.optim.RMSprop(model.parameters(), lr=0.01)
    """

    _STATES = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
    ):
        options = dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered)
        super().__init__(params, self._checked(options))

    def _checked(self, group: dict) -> dict:
        return {
            "lr": check.number("RMSprop", "lr", group["lr"]),
            "alpha": check.number("RMSprop", "alpha", group["alpha"], 0, 1),
            "eps": check.number("RMSprop", "eps", group["eps"], 0),
            "weight_decay": check.number("RMSprop", "weight_decay", group["weight_decay"], 0),
            "momentum": check.number("RMSprop", "momentum", group["momentum"], 0),
            "centered": check.flag("RMSprop", "centered", group["centered"]),
        }

    def _state_names(self, group: dict) -> tuple[str, ...]:
        names = ("square_avg",)
        names += ("grad_avg",) if group["centered"] else ()
        return names + (("momentum_buffer",) if group["momentum"] else ())

    def _update(self, kernel, group, param, grad, state, step, rounded) -> None:
        kernel.rmsprop_step(
            param, grad, state["square_avg"], state.get("grad_avg"), state.get("momentum_buffer"),
            group["lr"], group["alpha"], group["eps"], group["weight_decay"], group["momentum"], rounded,
        )  # fmt: skip
