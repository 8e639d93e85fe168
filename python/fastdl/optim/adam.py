"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable

from . import _check as check
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`; the formula is at `kernels.numpy.adam_step`.

    Args:
        params: parameters, or dicts of parameters and options (see `Optimizer`).
        lr: learning rate, at least 0.
        betas: smoothing of the gradient and of its square, each in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: L2 penalty, at least 0.
        amsgrad: divide by the largest squared average so far.
        decoupled_weight_decay: shrink the parameters directly instead of through the gradient (AdamW).

    Raises:
        TypeError, ValueError: an option of the wrong type or out of range; see `Optimizer` for params.

    >>> optimizer = fd.optim.Adam(model.parameters(), lr=1e-3)
    """

    _STATES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = False,
    ):
        options = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            decoupled_weight_decay=decoupled_weight_decay,
        )  # fmt: skip
        super().__init__(params, self._checked(options))

    def _checked(self, group: dict) -> dict:
        name = self._name
        return {
            "lr": check.number(name, "lr", group["lr"]),
            "betas": check.betas(name, group["betas"]),
            "eps": check.number(name, "eps", group["eps"], 0),
            "weight_decay": check.number(name, "weight_decay", group["weight_decay"], 0),
            "amsgrad": check.flag(name, "amsgrad", group["amsgrad"]),
            "decoupled_weight_decay": check.flag(name, "decoupled_weight_decay", group["decoupled_weight_decay"]),
        }

    def _state_names(self, group: dict) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq") + (("max_exp_avg_sq",) if group["amsgrad"] else ())

    def _update(self, kernel, group, param, grad, state, step, rounded) -> None:
        kernel.adam_step(
            param, grad, state["exp_avg"], state["exp_avg_sq"], state.get("max_exp_avg_sq"),
            group["lr"], *group["betas"], group["eps"], group["weight_decay"], step,
            group["decoupled_weight_decay"], rounded,
        )  # fmt: skip


class AdamW(Adam):
    """AdamW, as `torch.optim.AdamW`: `Adam` with decoupled weight decay, 0.01 unless given."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True)
