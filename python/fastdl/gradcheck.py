"""Check gradients against central differences."""

from __future__ import annotations

import numpy as np

from . import kernels
from .autograd import enable_grad, no_grad
from .tensor import Tensor, wrap


def gradcheck(fn, inputs, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3) -> bool:
    """Compare backward of fn with central differences, for every entry of every input that requires grad.

    For output y and input entry x the difference quotient is (y(x + eps) - y(x - eps)) / (2 eps), and the two
    agree if |analytic - numeric| <= atol + rtol * |numeric|.

    Args:
        fn: takes the inputs and returns a Tensor or a tuple of Tensors; the same values every time (seed it
            if it draws random numbers). Outputs that don't require grad are skipped.
        inputs: a Tensor or a tuple of anything; at least one is a Tensor that requires grad, and all those
            are float64.
        eps, atol, rtol: step and tolerances, positive.

    Returns True.
    Raises:
        AssertionError: a gradient differs; says which input and entry, and by how much.
        TypeError, ValueError: unsuitable arguments.

    >>> x = Tensor(np.array([0.5, 2.0]), requires_grad=True)
    >>> gradcheck(lambda x: x * x, (x,))
    True
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    for name, value in (("eps", eps), ("atol", atol), ("rtol", rtol)):
        if not (np.isfinite(value) and value >= 0) or (name == "eps" and value == 0):
            raise ValueError(f"gradcheck: {name} must be positive and finite, got {value}")
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x._requires]
    if not checked:
        raise ValueError("gradcheck: inputs must hold a Tensor that requires grad, got none")
    for i in checked:
        if inputs[i].data.dtype != np.float64:
            raise TypeError(f"gradcheck: inputs[{i}] must be float64 for central differences, got {inputs[i].dtype}")
    # Checked inputs get memory of their own, so that fn may not see another one move.
    own = list(inputs)
    for i in checked:
        own[i] = Tensor(inputs[i].data.copy(), requires_grad=True)
    analytic = _analytic(fn, own, checked)
    numeric = _numeric(fn, own, checked, eps, list(analytic))
    for (out, i), jacobian in analytic.items():
        _compare(out, i, own[i].data.shape, jacobian, numeric[out, i], atol, rtol)
    return True


def _outputs(fn, inputs) -> tuple:
    out = fn(*inputs)
    out = out if isinstance(out, tuple) else (out,)
    for k, y in enumerate(out):
        if not isinstance(y, Tensor):
            raise TypeError(f"gradcheck: fn must return Tensors, got {type(y).__name__} as output {k}")
    return out


def _analytic(fn, inputs, checked) -> dict:
    """(output, input) -> Jacobian (output size, input size), one backward per output entry."""
    with enable_grad():
        outputs = _outputs(fn, inputs)
        if not any(y._requires for y in outputs):
            raise ValueError("gradcheck: fn must return a Tensor that requires grad, got none")
        jacobians = {}
        for k, y in enumerate(outputs):
            if not y._requires:
                continue
            rows = {i: np.zeros((y.data.size, inputs[i].data.size)) for i in checked}
            for entry in range(y.data.size):
                for i in checked:
                    inputs[i].grad = None
                seed = np.zeros(y.data.shape, y.data.dtype)
                seed.reshape(-1)[entry] = 1
                y.backward(wrap(kernels.beside(seed, y.data)), retain_graph=True)
                for i in checked:
                    if inputs[i].grad is not None:
                        rows[i][entry] = kernels.to_host(inputs[i].grad.data).reshape(-1)
            jacobians.update({(k, i): rows[i] for i in checked})
    return jacobians


def _numeric(fn, inputs, checked, eps, keys) -> dict:
    """The same Jacobians by moving one input entry at a time, both ways."""
    jacobians = {key: [] for key in keys}
    with no_grad():
        for i in checked:
            flat = inputs[i].data.reshape(-1)
            for entry in range(flat.size):
                before = float(flat[entry])
                moved = []
                for x in (before + eps, before - eps):
                    flat[entry] = x
                    outputs = [kernels.to_host(y.data) for y in _outputs(fn, inputs)]
                    moved.append([y.astype(np.float64).reshape(-1) for y in outputs])
                flat[entry] = before
                for k, j in keys:
                    if j == i:
                        jacobians[k, i].append((moved[0][k] - moved[1][k]) / (2 * eps))
    return {key: np.array(columns).T for key, columns in jacobians.items()}


def _compare(out: int, i: int, shape, analytic, numeric, atol, rtol) -> None:
    if not analytic.size:
        return
    with np.errstate(invalid="ignore"):
        difference = np.abs(analytic - numeric)
        excess = difference - (atol + rtol * np.abs(numeric))
    excess[np.isnan(excess)] = np.inf
    if (excess <= 0).all():
        return
    row, column = np.unravel_index(np.argmax(excess), excess.shape)
    entry = tuple(int(n) for n in np.unravel_index(column, shape)) if shape else ()
    raise AssertionError(
        f"gradcheck: the gradient of output {out} (entry {row}) with respect to inputs[{i}]{list(entry)} "
        f"is {analytic[row, column]:.6g}, central differences give {numeric[row, column]:.6g}: off by "
        f"{difference[row, column]:.3g}, allowed {atol + rtol * abs(numeric[row, column]):.3g} "
        f"({(excess > 0).sum()} of {excess.size} entries differ)"
    )
