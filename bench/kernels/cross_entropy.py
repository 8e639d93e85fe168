"""Softmax cross-entropy, forward and backward: classifiers, and a language model with 10,000 words."""

from functools import partial

import numpy as np

from ..case import Case, normal, several_calls

SHAPES = [(8, 2), (100, 10), (128, 10), (700, 10000)]


def cases(rivals):
    for rows, classes in SHAPES:
        # Logits read once, the gradient written.
        runs = partial(_runs, rivals, rows, classes)
        yield Case("cross_entropy", f"{rows}x{classes}", runs, bytes=8.0 * rows * classes)


def _runs(rivals, rows: int, classes: int) -> dict:
    rng = np.random.default_rng(0)
    logits, target = normal(rng, rows, classes), rng.integers(0, classes, rows)

    def both(K, logits, target):
        loss, _, dlogits = K.cross_entropy_forward(logits, target, None, -100, 0.0, "mean", True)
        return loss, dlogits

    runs = several_calls(both, logits, target)
    if torch := rivals.torch:
        x, t = rivals.tensor(logits).requires_grad_(), rivals.tensor(target)

        def both_torch():
            loss = torch.nn.functional.cross_entropy(x, t)
            return loss, torch.autograd.grad(loss, x)[0]

        runs["torch"] = both_torch
    if rivals.jax:
        runs["jax"] = _jax(rivals.jax, logits, target)
    return runs


def _jax(jax, logits, target):
    @jax.jit
    @jax.value_and_grad
    def both(x, t):
        chosen = jax.numpy.take_along_axis(x, t[:, None], axis=1)[:, 0]
        return (jax.scipy.special.logsumexp(x, axis=1) - chosen).mean()

    x, t = jax.numpy.asarray(logits), jax.numpy.asarray(target.astype(np.int32))
    return lambda: jax.block_until_ready(both(x, t))
