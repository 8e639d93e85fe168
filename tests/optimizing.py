"""What the tests of optimizers and schedules share: parameters, their twins in PyTorch, random gradients."""

import numpy as np

import fastdl as fd
from tolerances import assert_close

SHAPES = ((), (3,), (5, 7), (2, 3, 1, 4), (70,))


def arrays(seed, dtype="float32", shapes=SHAPES):
    """A random array of each shape."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def parameters(seed=0, dtype="float32", shapes=SHAPES):
    """Leaf Tensors with random values."""
    return [fd.tensor(a, requires_grad=True) for a in arrays(seed, dtype, shapes)]


def backward(params, seed, skip=()):
    """Give every parameter but those numbered in `skip` a random gradient, through autograd."""
    loss = 0.0
    for i, (p, g) in enumerate(zip(params, arrays(seed, params[0].dtype, [p.shape for p in params]))):
        if i not in skip:
            loss = loss + (p * fd.tensor(g)).sum()
    loss.backward()


def torch_twins(torch, params):
    """The same parameters as PyTorch leaves."""
    return [torch.tensor(p.detach().cpu().numpy().copy(), requires_grad=True) for p in params]


def copy_gradients(torch, params, twins):
    """Give the twins the gradients of the parameters."""
    for p, twin in zip(params, twins):
        twin.grad = None if p.grad is None else torch.tensor(p.grad.cpu().numpy().copy())


def assert_same(params, twins):
    """Every parameter equals its twin."""
    for p, twin in zip(params, twins, strict=True):
        assert_close(p.detach().cpu().numpy(), twin.detach().cpu().numpy(), "rmsprop", scale=4)
