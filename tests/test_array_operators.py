"""NumPy's and CuPy's arrays beside tensors: operators, in-place operators, NumPy's functions."""

import numpy as np
import pytest

import fastdl as fd


def test_arrays_take_tensors_in_place(device):
    p = fd.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    memory = p.data
    (p * p).sum().backward()
    p.data -= 0.5 * p.grad
    assert p.data is memory and p.tolist() == [0.0, 0.0, 0.0]
    p.data += 1
    p.data *= p.grad
    p.data /= fd.tensor(2.0, device=device)
    assert p.data is memory and p.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(RuntimeError, match="requires grad.*detach"):
        p.data -= p


def test_operators_of_an_array_and_a_tensor_are_the_tensors(device):
    t = fd.tensor([1.0, 2.0, 4.0], device=device, requires_grad=True)
    a = fd.tensor([4.0, 2.0, 1.0], device=device).data
    results = {
        "add": a + t, "sub": a - t, "mul": a * t, "div": a / t, "pow": a**t, "matmul": a @ t,
    }  # fmt: skip
    assert all(type(r) is fd.Tensor and r.requires_grad for r in results.values())
    assert {n: r.tolist() for n, r in results.items()} == {
        "add": [5.0, 4.0, 5.0], "sub": [3.0, 0.0, -3.0], "mul": [4.0, 4.0, 4.0], "div": [4.0, 1.0, 0.25],
        "pow": [4.0, 4.0, 1.0], "matmul": 12.0,
    }  # fmt: skip
    assert [r.tolist() for r in (a < t, a <= t, a > t, a >= t, a == t, a != t)] == [
        [False, False, True], [False, True, True], [True, False, False], [True, True, False], [False, True, False],
        [True, False, True],
    ]  # fmt: skip
    t = t.detach()
    assert (a // t).tolist() == [4.0, 1.0, 0.0] and (a % t).tolist() == [0.0, 0.0, 1.0]
    assert type(np.float32(2) * t) is type(np.float64(2) - t) is fd.Tensor


def test_numpy_functions_of_tensors_give_arrays():
    t = fd.tensor([1.0, 2.0, 4.0])
    assert type(np.sqrt(t)) is type(np.maximum(t, 2)) is np.ndarray
    assert np.allclose(np.sqrt(t), [1.0, 2.0**0.5, 2.0], rtol=1e-6)
    out = np.zeros(3, np.float32)
    assert np.add(t, t, out=out) is out and out.tolist() == [2.0, 4.0, 8.0]
    assert np.add.reduce(t) == 7.0 and np.add.accumulate(t).tolist() == [1.0, 3.0, 7.0]
    np.add.at(out, [0, 0, 1], t)
    assert out.tolist() == [5.0, 8.0, 8.0]
    with pytest.raises(TypeError, match="numpy.add: out must be an array, got a Tensor"):
        np.add(out, out, out=t)
    with pytest.raises(RuntimeError, match="requires grad"):
        np.sqrt(t.requires_grad_())
