"""Random programs of operations, views and changes in place, run in fastdl and PyTorch: same values, same gradients.

A program that PyTorch refuses (a value that backward needs was changed) fastdl must refuse too.
"""

import numpy as np
import pytest

import fastdl as fd

torch = pytest.importorskip("torch")
LENGTH, COUNT = 14, 150


def steps(rng, tensors):
    """The next statement of a program: a name and the numbers of the tensors it takes; shapes are all (3, 3)."""
    kind = rng.choice(["add", "mul", "tanh", "matmul", "row", "rows", "transpose", "view", "cat", "max", "add_", "mul_",
                       "row_", "column_", "set", "set_rows", "detach", "clone", "no_grad"])  # fmt: skip
    return str(kind), rng.integers(0, tensors, 3).tolist(), rng.integers(0, 3, 2).tolist()


def run_step(library, kind, tensors, who, where):
    """The statement's result. Values written in place are clones: PyTorch forbids or ignores overlapping memory."""
    a, b = tensors[who[0]], tensors[who[1]]
    i, j = where
    if kind == "add":
        return a + b * 0.5
    if kind == "mul":
        return a * b
    if kind == "tanh":
        return a.tanh()
    if kind == "matmul":
        return a @ b
    if kind == "row":
        return a[i] + b
    if kind == "rows":
        return a[library.tensor([i, j, i])]
    if kind == "transpose":
        return a.T
    if kind == "view":
        return a.reshape(9).view(3, 3)
    if kind == "cat":
        return library.cat([a[:1], b[1:]], 0)
    if kind == "max":
        return a.max(1, True)[0] * b
    if kind == "add_":
        return a.add_(b.clone())
    if kind == "mul_":
        return a.mul_(b.clone())
    if kind == "row_":
        a[i].add_(b[j].clone())
    if kind == "column_":
        a.T[i][1:].mul_(0.5)
    if kind == "set":
        a[i, 1:] = b[j, 1:] * 2.0
    if kind == "set_rows":
        a[library.tensor([i, (i + 1) % 3])] = b[1:].clone()
    if kind == "detach":
        return a.detach() + b
    if kind == "clone":
        return a.clone()
    if kind == "no_grad":
        with library.no_grad():
            return a * 2.0
    return a


def run(library, seed, arrays):
    """(values, gradients) of the program, or the class of the error that stopped it and where."""
    rng = np.random.default_rng(seed)
    leaves = [library.tensor(array, requires_grad=i < 3) for i, array in enumerate(arrays)]
    tensors = [leaf * 1.0 for leaf in leaves]
    for _ in range(LENGTH):
        kind, who, where = steps(rng, len(tensors))
        tensors.append(run_step(library, kind, tensors, who, where))
    total = sum((t * t).tanh().sum() for t in tensors)
    total.backward()
    return [t.detach().numpy().copy() for t in tensors], [leaf.grad.numpy() for leaf in leaves[:3]]


def outcome(library, seed, arrays):
    try:
        return run(library, seed, arrays), None
    except RuntimeError as error:
        return None, error


def test_random_programs_like_torch():
    ran = refused = 0
    for seed in range(COUNT):
        arrays = np.random.default_rng(1000 + seed).uniform(-1, 1, (4, 3, 3))
        got, error = outcome(fd, seed, arrays)
        want, reference = outcome(torch, seed, arrays)
        if want is None:
            assert got is None, f"program {seed}: PyTorch refuses it ({reference}), fastdl does not"
            refused += 1
            continue
        assert got is not None, f"program {seed}: fastdl refuses it ({error}), PyTorch does not"
        for a, b in zip(got[0] + got[1], want[0] + want[1]):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=f"program {seed}")
        ran += 1
    assert ran > COUNT // 5 and refused > 0
