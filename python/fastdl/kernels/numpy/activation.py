"""Activations: element by element, any shape. Backward takes dy and what forward got (x) or gave (y).

Names and parameters are those of torch.nn.functional. NaN goes through every one of them.
"""

import math

import numpy as np

from . import _check

__all__ = [
    "relu_forward", "relu_backward", "leaky_relu_forward", "leaky_relu_backward",
    "sigmoid_forward", "sigmoid_backward", "tanh_forward", "tanh_backward",
    "softplus_forward", "softplus_backward", "elu_forward", "elu_backward", "gelu_forward", "gelu_backward",
]  # fmt: skip

SQRT_HALF = math.sqrt(0.5)
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715


def relu_forward(x):
    """y = max(x, 0), NaN stays NaN.

    Args: x: float32 or float64, any shape.
    Returns: y like x.
    Raises: TypeError if x is not a float32 or float64 array.
    """
    _check.array("relu_forward", "x", x)
    return _like(x, np.where(x < 0, 0, x))


def relu_backward(dy, y):
    """dx = dy where y > 0 (or y is NaN), else 0.

    Args: dy, y: same shape and dtype; y is the result of relu_forward (its input serves as well).
    Returns: dx like y.
    Raises: TypeError for an array kind or dtype, ValueError if the shapes differ.
    """
    _check_pair("relu_backward", dy, "y", y)
    return _like(y, np.where(y <= 0, 0, dy))


def leaky_relu_forward(x, negative_slope):
    """y = x where x > 0, else negative_slope * x.

    Args: x: float32 or float64, any shape; negative_slope: finite number.
    Returns: y like x.
    Raises: TypeError if x is not a float array, ValueError if negative_slope is not finite.
    """
    _check.array("leaky_relu_forward", "x", x)
    _check.number("leaky_relu_forward", "negative_slope", negative_slope)
    with np.errstate(all="ignore"):
        return _like(x, np.where(x > 0, x, x * x.dtype.type(negative_slope)))


def leaky_relu_backward(dy, x, negative_slope):
    """dx = dy where x > 0, else negative_slope * dy. Arguments as in leaky_relu_forward, dy like x."""
    _check_pair("leaky_relu_backward", dy, "x", x)
    _check.number("leaky_relu_backward", "negative_slope", negative_slope)
    with np.errstate(all="ignore"):
        return _like(x, np.where(x > 0, dy, dy * x.dtype.type(negative_slope)))


def sigmoid_forward(x):
    """y = 1 / (1 + exp(-x)), computed from exp(-|x|) so that nothing overflows.

    Args: x: float32 or float64, any shape.
    Returns: y like x.
    Raises: TypeError if x is not a float32 or float64 array.
    """
    _check.array("sigmoid_forward", "x", x)
    return _like(x, _sigmoid(x))


def sigmoid_backward(dy, y):
    """dx = dy * y * (1 - y).

    Args: dy, y: same shape and dtype; y is the result of sigmoid_forward.
    Returns: dx like y.
    Raises: TypeError for an array kind or dtype, ValueError if the shapes differ.
    """
    _check_pair("sigmoid_backward", dy, "y", y)
    with np.errstate(all="ignore"):
        return _like(y, dy * ((1 - y) * y))


def tanh_forward(x):
    """y = tanh(x).

    Args: x: float32 or float64, any shape.
    Returns: y like x.
    Raises: TypeError if x is not a float32 or float64 array.
    """
    _check.array("tanh_forward", "x", x)
    return _like(x, np.tanh(x))


def tanh_backward(dy, y):
    """dx = dy * (1 - y**2).

    Args: dy, y: same shape and dtype; y is the result of tanh_forward.
    Returns: dx like y.
    Raises: TypeError for an array kind or dtype, ValueError if the shapes differ.
    """
    _check_pair("tanh_backward", dy, "y", y)
    with np.errstate(all="ignore"):
        return _like(y, dy * (1 - y * y))


def softplus_forward(x, beta, threshold):
    """y = log(1 + exp(beta * x)) / beta, and y = x where beta * x > threshold.

    Args: x: float32 or float64, any shape; beta: finite number above 0; threshold: finite number.
    Returns: y like x.
    Raises: TypeError if x is not a float array, ValueError for beta or threshold.
    """
    _check.array("softplus_forward", "x", x)
    _check_softplus("softplus_forward", beta, threshold)
    with np.errstate(all="ignore"):
        z = x * x.dtype.type(beta)
        soft = (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / x.dtype.type(beta)
        return _like(x, np.where(z > threshold, x, soft))


def softplus_backward(dy, x, beta, threshold):
    """dx = dy * sigmoid(beta * x), and dx = dy where beta * x > threshold.

    Args: dy: like x; the others, and the errors, as in softplus_forward.
    Returns: dx like x.
    """
    _check_pair("softplus_backward", dy, "x", x)
    _check_softplus("softplus_backward", beta, threshold)
    with np.errstate(all="ignore"):
        z = x * x.dtype.type(beta)
        return _like(x, np.where(z > threshold, dy, dy * _sigmoid(z)))


def elu_forward(x, alpha):
    """y = x where x > 0, else alpha * (exp(x) - 1).

    Args: x: float32 or float64, any shape; alpha: finite number.
    Returns: y like x.
    Raises: TypeError if x is not a float array, ValueError if alpha is not finite.
    """
    _check.array("elu_forward", "x", x)
    _check.number("elu_forward", "alpha", alpha)
    with np.errstate(all="ignore"):
        return _like(x, np.where(x > 0, x, np.expm1(x) * x.dtype.type(alpha)))


def elu_backward(dy, x, alpha):
    """dx = dy where x > 0, else dy * alpha * exp(x). Arguments and errors as in elu_forward, dy like x."""
    _check_pair("elu_backward", dy, "x", x)
    _check.number("elu_backward", "alpha", alpha)
    with np.errstate(all="ignore"):
        return _like(x, np.where(x > 0, dy, dy * (np.exp(x) * x.dtype.type(alpha))))


def gelu_forward(x, approximate):
    """y = x * P(x), P the cumulative normal distribution (Hendrycks, Gimpel 2016, section 2).

    approximate "none":  P(x) = erfc(-x / sqrt(2)) / 2
    approximate "tanh":  P(x) = (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))) / 2

    Args: x: float32 or float64, any shape; approximate: "none" or "tanh".
    Returns: y like x.
    Raises: TypeError if x is not a float array, ValueError for another word in approximate.
    """
    _check.array("gelu_forward", "x", x)
    _check.choice("gelu_forward", "approximate", approximate, ("none", "tanh"))
    with np.errstate(all="ignore"):
        return _like(x, x * _normal_cdf(x, approximate))


def gelu_backward(dy, x, approximate):
    """dx = dy * (P(x) + x * P'(x)), P as in gelu_forward; arguments and errors as there, dy like x."""
    _check_pair("gelu_backward", dy, "x", x)
    _check.choice("gelu_backward", "approximate", approximate, ("none", "tanh"))
    with np.errstate(all="ignore"):
        cdf = _normal_cdf(x, approximate)
        if approximate == "none":
            slope = np.exp(x * x * -0.5) * (SQRT_HALF / math.sqrt(math.pi))
        else:
            slope = cdf * _sigmoid(-_gelu_inner(x)) * (2 * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * x * x))
        return _like(x, dy * (cdf + x * slope))


def _normal_cdf(x, approximate):
    if approximate == "tanh":  # (1 + tanh(z)) / 2 = sigmoid(2 z), which keeps its digits where tanh nears -1
        return _sigmoid(_gelu_inner(x))
    erfc = np.frompyfunc(math.erfc, 1, 1)
    return np.asarray(0.5 * np.asarray(erfc(x * -SQRT_HALF), np.float64), x.dtype)


def _gelu_inner(x):
    return 2 * SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)


def _sigmoid(x):
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)


def _like(x, result):
    """The result as an array of x's dtype: NumPy turns 0-d arrays into scalars, and may widen them."""
    return np.asarray(result, x.dtype)


def _check_pair(kernel, dy, name, x):
    _check.array(kernel, name, x)
    _check.array(kernel, "dy", dy)
    _check.like(kernel, "dy", dy, name, x)
    _check.shape(kernel, "dy", dy, x.shape)


def _check_softplus(kernel, beta, threshold):
    _check.number(kernel, "beta", beta)
    if beta <= 0:
        raise ValueError(f"{kernel}: beta must be positive, got {beta:g}")
    _check.number(kernel, "threshold", threshold)
