"""Learning-rate schedules; names, arguments and values follow `torch.optim.lr_scheduler`.

Each `step()` computes the next learning rate of every group from the present one, so that several schedules
may work on one optimizer together. The formula in a class's docstring is what that recurrence amounts to when
it works alone; t is `last_epoch`, 0 after construction and one more after every `step()`, and lr_0 is the
group's "initial_lr".
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable

from .. import recording
from . import _check as check
from .optimizer import Optimizer

__all__ = ["LRScheduler", "StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR"]


class LRScheduler:
    """Base class of the schedules.

    Args:
        optimizer: whose `param_groups` get their "lr" set, at once and at every `step()`.
        last_epoch: -1 to start; to go on after that many steps, the groups must have their "initial_lr".

    Attributes:
        last_epoch: how many times `step()` was called.
        base_lrs: the "initial_lr" of every group.

    Raises:
        TypeError: optimizer is not an Optimizer.
        KeyError: last_epoch is given and a group has no "initial_lr".
        ValueError: an argument out of range.
    """

    _starting = False  # whether the step that the constructor makes is under way

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{name}: optimizer must be an Optimizer, got {type(optimizer).__name__}")
        last_epoch = check.integer(name, "last_epoch", last_epoch, -1)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"{name}: group {i} must have 'initial_lr' to resume at last_epoch {last_epoch}")
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._starting = True
        self.step()
        del self._starting

    def get_lr(self) -> list[float]:
        """The learning rates at `last_epoch`, one per group, computed from the present ones."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The learning rates that the last `step()` set, one per group."""
        return self._last_lr

    def step(self) -> None:
        """Go on by one epoch and set the learning rates."""
        recording.refuse(f"{type(self).__name__}.step(); call it after the captured step")
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr()):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict:
        """Everything but the optimizer, in plain Python types."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over what `state_dict` returned; the optimizer's own state dict holds the learning rates."""
        self.__dict__.update(state_dict)

    def _present(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        return [lr * factor for lr in self._present()]


class StepLR(LRScheduler):
    """lr_t = lr_0 * gamma ** (t // step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size = check.integer("StepLR", "step_size", step_size, 1)
        self.gamma = check.number("StepLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        turn = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return self._scaled(self.gamma) if turn else self._present()


class MultiStepLR(LRScheduler):
    """lr_t = lr_0 * gamma ** (number of milestones that are at most t); one given twice counts twice."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        if not isinstance(milestones, Iterable):
            raise TypeError(f"MultiStepLR: milestones must be ints, got {type(milestones).__name__}")
        self.milestones = sorted(check.integer("MultiStepLR", "milestones", m, 0) for m in milestones)
        self.gamma = check.number("MultiStepLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        passed = bisect_right(self.milestones, self.last_epoch) - bisect_right(self.milestones, self.last_epoch - 1)
        return self._scaled(self.gamma**passed) if passed else self._present()


class ExponentialLR(LRScheduler):
    """lr_t = lr_0 * gamma ** t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = check.number("ExponentialLR", "gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._present() if self._starting else self._scaled(self.gamma)


class CosineAnnealingLR(LRScheduler):
    """lr_t = eta_min + (lr_0 - eta_min) * (1 + cos(pi * t / T_max)) / 2.

    T_max: steps from the highest to the lowest rate, at least 1. After them the rate climbs back along the
    cosine. Source: Loshchilov and Hutter 2017, "SGDR", section 3, without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max = check.integer("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = check.number("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, low, period = self.last_epoch, self.eta_min, self.T_max
        if self._starting:
            return self._present()
        if (t - 1 - period) % (2 * period) == 0:
            # At the lowest point the present rate says nothing about the amplitude: climb by the initial one.
            rise = (1 - math.cos(math.pi / period)) / 2
            return [lr + (base - low) * rise for lr, base in zip(self._present(), self.base_lrs)]
        ratio = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
        return [ratio * (lr - low) + low for lr in self._present()]


class LambdaLR(LRScheduler):
    """lr_t = lr_0 * lr_lambda(t).

    lr_lambda: a function of t, or a list of functions, one per group. `state_dict` leaves plain functions out
    and saves the attributes of callable objects.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable | Iterable[Callable], last_epoch: int = -1):
        groups = len(getattr(optimizer, "param_groups", ()))
        lambdas = [lr_lambda] * groups if callable(lr_lambda) else lr_lambda
        if not isinstance(lambdas, Iterable) or not all(map(callable, lambdas := list(lambdas))):
            raise TypeError(f"LambdaLR: lr_lambda must be a function or a list of them, got {lr_lambda!r}")
        if isinstance(optimizer, Optimizer) and len(lambdas) != groups:
            raise ValueError(f"LambdaLR: lr_lambda must have {groups} entries, one per group, got {len(lambdas)}")
        self.lr_lambdas = lambdas
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * function(self.last_epoch) for base, function in zip(self.base_lrs, self.lr_lambdas)]

    def state_dict(self) -> dict:
        state = super().state_dict()
        state["lr_lambdas"] = [dict(vars(f)) if _is_object(f) else None for f in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        rest = {key: value for key, value in state_dict.items() if key != "lr_lambdas"}
        super().load_state_dict(rest)
        for function, saved in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if saved is not None:
                vars(function).update(saved)


def _is_object(function) -> bool:
    """Whether it is an object with a state of its own, rather than a plain function."""
    return hasattr(function, "__dict__") and not hasattr(function, "__code__")
