"""A training step in plain JAX: one jitted function, its parameters donated; images NHWC, the layout XLA likes on CPUs.

The network is read from a fastdl model. Each layer becomes a pure function apply(params, stats, x) -> (y, stats), where
stats are the running statistics of batch norm.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fastdl.models import resnet


def make(model, x: np.ndarray, y: np.ndarray, optimizer: str, options: dict) -> dict[str, Callable]:
    """The step as functions without arguments, each with a state of its own; they return the loss.

    Max pooling has two ways, `lax.reduce_window` and the maximum of a reshaped array: XLA's gradient of the first is
    slow on CPUs.
    """
    pools = any(type(layer).__name__ == "MaxPool2d" for layer in model.modules())
    ways = {"reduce_window": _window_pool, "reshape": _reshape_pool} if pools else {"": None}
    return {way: _run(model, x, y, optimizer, options, pool) for way, pool in ways.items()}


def _run(model, x, y, optimizer, options, pool) -> Callable:
    x = jnp.asarray(np.moveaxis(x, 1, 3) if x.ndim == 4 else x)
    y = jnp.asarray(y.astype(np.int32) if y.dtype == np.int64 else y)
    apply, params, stats, _ = _translate(model, x, pool)
    update, state = {"SGD": _sgd, "Momentum": _momentum, "Adam": _adam}[optimizer](params, **options)

    def loss_of(params, stats, x, y):
        logits, stats = apply(params, stats, x)
        return _loss(logits, y), stats

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, stats, state, x, y):
        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params, stats, x, y)
        return *update(params, grads, state), stats, loss

    def run():
        nonlocal params, stats, state
        params, state, stats, loss = step(params, stats, state, x, y)
        return loss.block_until_ready()

    return run


def _loss(logits, y):
    if y.dtype == np.int32:
        chosen = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
        return jnp.mean(jax.scipy.special.logsumexp(logits, axis=1) - chosen)
    return jnp.mean(jnp.logaddexp(0.0, logits) - logits * y)


def _sgd(params, lr):
    return lambda params, grads, state: (jax.tree.map(lambda p, g: p - lr * g, params, grads), state), ()


def _momentum(params, lr, momentum):
    def update(params, grads, state):
        state = jax.tree.map(lambda v, g: momentum * v + g, state, grads)
        return jax.tree.map(lambda p, v: p - lr * v, params, state), state

    return update, jax.tree.map(jnp.zeros_like, params)


def _adam(params, lr, betas=(0.9, 0.999), eps=1e-8):
    a, b = betas

    def update(params, grads, state):
        m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda m, g: a * m + (1 - a) * g, m, grads)
        v = jax.tree.map(lambda v, g: b * v + (1 - b) * g * g, v, grads)
        rate, root = lr / (1 - a**t), jnp.sqrt(1 - b**t)
        return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + eps), params, m, v), (m, v, t)

    zeros = partial(jax.tree.map, jnp.zeros_like)
    return update, (zeros(params), zeros(params), jnp.zeros((), jnp.float32))


def _translate(layer, x, pool):
    """(apply, params, stats, shape of the result) of a fastdl layer on inputs like x."""
    if isinstance(layer, resnet.ResNetCifar):
        stages = [block for stage in (layer.layer1, layer.layer2, layer.layer3) for block in stage]
        return _sequential([layer.conv1, layer.bn1, "relu", *stages, "mean", layer.fc], x, pool)
    if isinstance(layer, resnet.BasicBlock):
        return _block(layer, x, pool)
    if type(layer).__name__ == "Sequential":
        return _sequential(list(layer), x, pool)
    kind = layer if isinstance(layer, str) else type(layer).__name__
    apply, params, stats = _LAYERS[kind](layer, x, pool)
    return apply, params, stats, jax.eval_shape(apply, params, stats, x)[0]


def _sequential(layers, x, pool):
    parts, images = [], None
    for layer in layers:
        kind = type(layer).__name__
        apply, params, stats, y = _translate(layer, x, pool)
        if kind == "Flatten" and len(x.shape) == 4:
            images = x.shape
        elif kind == "Linear" and images is not None:
            params["weight"], images = _to_nhwc(params["weight"], images), None
        parts.append((apply, params, stats))
        x = y

    def run(params, stats, x):
        after = []
        for (apply, _, _), p, s in zip(parts, params, stats):
            x, s = apply(p, s, x)
            after.append(s)
        return x, after

    return run, [part[1] for part in parts], [part[2] for part in parts], x


def _to_nhwc(weight, shape):
    """The weight (inputs, outputs) of a dense layer behind flattened NCHW images, for NHWC ones of this shape."""
    _, h, w, c = shape
    return weight.reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(h * w * c, -1)


def _block(block, x, pool):
    layers = [block.conv1, block.bn1, "relu", block.conv2, block.bn2]
    main, params, stats, y = _sequential(layers, x, pool)
    short, short_params, short_stats, _ = _sequential(list(block.downsample or []), x, pool)

    def run(params, stats, x):
        y, after = main(params[0], stats[0], x)
        z, short_after = short(params[1], stats[1], x)
        return jnp.maximum(y + z, 0), (after, short_after)

    return run, (params, short_params), (stats, short_stats), y


def _array(tensor):
    return None if tensor is None else np.asarray(tensor.detach())


def _linear(layer, x, pool):
    params = {"weight": jnp.array(_array(layer.weight).T), "bias": jnp.array(_array(layer.bias))}
    return lambda p, s, x: (x @ p["weight"] + p["bias"], s), params, ()


def _conv(layer, x, pool):
    params = {"weight": jnp.array(_array(layer.weight).transpose(2, 3, 1, 0))}
    if layer.bias is not None:
        params["bias"] = jnp.array(_array(layer.bias))
    padding = [(p, p) for p in layer.padding]

    def apply(p, s, x):
        y = lax.conv_general_dilated(
            x, p["weight"], layer.stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (y + p["bias"] if "bias" in p else y), s

    return apply, params, ()


def _batch_norm(layer, x, pool):
    params = {"weight": jnp.array(_array(layer.weight)), "bias": jnp.array(_array(layer.bias))}
    stats = {"mean": jnp.array(_array(layer.running_mean)), "var": jnp.array(_array(layer.running_var))}
    rate, eps = layer.momentum, layer.eps

    def apply(p, s, x):
        axes, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
        mean = jnp.mean(x, axes)
        var = jnp.maximum(jnp.mean(x * x, axes) - mean * mean, 0)
        scale = p["weight"] / jnp.sqrt(var + eps)
        after = {
            "mean": (1 - rate) * s["mean"] + rate * mean,
            "var": (1 - rate) * s["var"] + rate * n / (n - 1) * var,
        }
        return x * scale + (p["bias"] - mean * scale), after

    return apply, params, stats


def _relu(layer, x, pool):
    return lambda p, s, x: (jnp.maximum(x, 0), s), (), ()


def _tanh(layer, x, pool):
    return lambda p, s, x: (jnp.tanh(x), s), (), ()


def _max_pool(layer, x, pool):
    return lambda p, s, x: (pool(x), s), (), ()


def _window_pool(x):
    return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _reshape_pool(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def _flatten(p, s, x):
    return x.reshape(x.shape[0], -1), s


def _mean(layer, x, pool):
    return lambda p, s, x: (x.mean((1, 2)), s), (), ()


_LAYERS = {
    "Linear": _linear,
    "Conv2d": _conv,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "ReLU": _relu,
    "relu": _relu,
    "Tanh": _tanh,
    "MaxPool2d": _max_pool,
    "Flatten": lambda layer, x, pool: (_flatten, (), ()),
    "mean": _mean,
}
