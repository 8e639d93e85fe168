"""The tape: recording, the walk back, accumulation, and the errors that keep gradients honest."""

import gc
import threading
import weakref

import numpy as np
import pytest

import fastdl as fd
from fastdl.autograd import Operation, apply


def leaf(*values, dtype="float64"):
    return fd.tensor(list(values), dtype=dtype, requires_grad=True)


# -- what backward computes ---------------------------------------------------------------------------------------


def test_worked_by_hand():
    x, w, b = leaf(1.0, 2.0), leaf(3.0, -1.0), leaf(0.5)
    y = (x * w).sum() + b.sum()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, -1.0])
    np.testing.assert_array_equal(w.grad.numpy(), [1.0, 2.0])
    np.testing.assert_array_equal(b.grad.numpy(), [1.0])


def test_a_tensor_used_several_times_adds_up():
    x = leaf(2.0)
    (x * x * x + x - x).sum().backward()
    assert x.grad.item() == 12.0


def test_diamond_visits_each_operation_once():
    calls = []

    class Count(Operation):
        __slots__ = ()

        def forward(self, input):
            return input.copy()

        def backward(self, dy):
            calls.append(dy.item())
            return (dy,)

    x = leaf(1.0)
    h = apply(Count(), x)
    (h * 2.0 + h * 3.0 + h).sum().backward()
    assert calls == [6.0]
    assert x.grad.item() == 6.0


def test_gradients_accumulate_over_calls():
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * 2.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, 6.0])
    x.grad = None
    (x * 2.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 2.0])


def test_scalar_leaf():
    x = fd.tensor(3.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1.0 and x.grad.shape == ()


def test_gradient_argument():
    x = leaf(1.0, 2.0)
    (x * x).backward(fd.tensor([1.0, 10.0], dtype="float64"))
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 40.0])


def test_ten_thousand_operations():
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + 0.5
    y.sum().backward()
    assert x.grad.item() == 1.0
    del y  # a chain this long must also be freed without recursion
    gc.collect()


def test_only_what_needs_a_gradient_gets_one():
    x, constant = leaf(1.0), fd.tensor([2.0], dtype="float64")
    y = x * constant
    y.sum().backward()
    assert constant.grad is None and y.grad is None and x.grad.item() == 2.0
    assert not (constant * 2.0).requires_grad


def test_operations_learn_which_gradients_are_needed():
    x, weight = fd.randn(2, 3), fd.randn(4, 3, requires_grad=True)
    y = fd.functional.linear(x, weight)
    assert y.grad_fn.need == [False, True, False]


# -- ownership of gradient arrays ---------------------------------------------------------------------------------


def test_leaves_never_share_a_gradient_array():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).sum().backward()
    assert not np.may_share_memory(x.grad.data, y.grad.data)
    x.grad.zero_()
    np.testing.assert_array_equal(y.grad.numpy(), [1.0, 1.0])


def test_the_seed_is_not_taken_over():
    x, seed = leaf(1.0, 2.0), fd.tensor([1.0, 1.0], dtype="float64")
    x.backward(seed)
    x.grad.mul_(5.0)
    np.testing.assert_array_equal(seed.numpy(), [1.0, 1.0])


def test_accumulating_does_not_write_into_a_shared_array():
    # Both branches of x + x carry the same dy; the sum must not be added into it.
    x, z = leaf(1.0), leaf(1.0)
    ((x + x) + z).sum().backward()
    assert x.grad.item() == 2.0 and z.grad.item() == 1.0


def test_gradients_of_expanded_sums_are_writeable():
    x = fd.ones(2, 3, requires_grad=True)
    x.sum().backward()
    x.grad.add_(1.0)
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 2.0, np.float32))


def test_leaf_slot_receives_the_gradient():
    x, slot = leaf(1.0, 2.0), np.full(2, 7.0)
    x._grad_slot = slot
    (x * 3.0).sum().backward()
    assert x.grad.data is slot
    np.testing.assert_array_equal(slot, [3.0, 3.0])
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(slot, [6.0, 6.0])
    x.grad = None
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(slot, [3.0, 3.0])


# -- modes --------------------------------------------------------------------------------------------------------


def test_no_grad_as_context_and_decorator():
    x = leaf(1.0)
    with fd.no_grad():
        assert not fd.is_grad_enabled()
        assert not (x * 2.0).requires_grad
        with fd.enable_grad():
            assert (x * 2.0).requires_grad
        assert not fd.is_grad_enabled()
    assert fd.is_grad_enabled()

    @fd.no_grad()
    def called():
        return x * 2.0

    @fd.no_grad
    def bare():
        return x * 2.0

    assert not called().requires_grad and not bare().requires_grad and bare.__name__ == "bare"


def test_modes_end_with_an_exception():
    with pytest.raises(KeyError):
        with fd.no_grad():
            raise KeyError("inside")
    assert fd.is_grad_enabled()

    @fd.no_grad()
    def fails():
        raise KeyError("inside")

    with pytest.raises(KeyError):
        fails()
    assert fd.is_grad_enabled()


def test_one_mode_object_nests():
    mode = fd.no_grad()
    with mode:
        with mode:
            pass
        assert not fd.is_grad_enabled()
    assert fd.is_grad_enabled()


def test_set_grad_enabled():
    with fd.set_grad_enabled(False):
        assert not fd.is_grad_enabled()
    assert fd.is_grad_enabled()
    fd.set_grad_enabled(False)
    assert not fd.is_grad_enabled()
    fd.set_grad_enabled(True)

    @fd.set_grad_enabled(False)
    def off():
        return fd.is_grad_enabled()

    assert fd.is_grad_enabled() and not off() and fd.is_grad_enabled()


def test_modes_belong_to_their_thread():
    seen = []
    with fd.no_grad():
        thread = threading.Thread(target=lambda: seen.append(fd.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_decorating_what_is_not_callable():
    with pytest.raises(TypeError, match="must be callable, got int"):
        fd.no_grad(3)


# -- errors of backward -------------------------------------------------------------------------------------------


def test_freed_graph():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"freed at Mul .*retain_graph=True"):
        y.backward()
    assert x.grad.item() == 4.0


def test_retain_graph():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8.0


def test_saved_arrays_are_freed_by_backward():
    x = leaf(1.0, 2.0)
    y = x.exp()
    array = weakref.ref(y.data)
    z = y.sum()
    del y
    assert array() is not None
    z.backward()
    assert array() is None


def test_no_grad_keeps_nothing():
    x = leaf(1.0, 2.0)
    with fd.no_grad():
        y = x * 2.0
        array = weakref.ref(y.data)
        z = y.exp()
        del y
    assert array() is None and z.grad_fn is None


def test_backward_without_grad():
    with pytest.raises(RuntimeError, match="does not require grad"):
        fd.tensor([1.0]).backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        leaf(1.0).detach().backward()


def test_backward_of_more_than_a_scalar():
    with pytest.raises(RuntimeError, match=r"gradient must be given .*\(2,\)"):
        (leaf(1.0, 2.0) * 2.0).backward()


@pytest.mark.parametrize(
    "gradient, error, message",
    [
        (np.ones(2), TypeError, "gradient must be a Tensor, got ndarray"),
        (fd.tensor([1.0, 1.0]), TypeError, "gradient must be float64 like the tensor, got float32"),
        (fd.tensor([1.0], dtype="float64"), ValueError, r"gradient must have shape \(2,\), got \(1,\)"),
    ],
    ids=["array", "dtype", "shape"],
)
def test_bad_gradient(gradient, error, message):
    with pytest.raises(error, match=message):
        (leaf(1.0, 2.0) * 2.0).backward(gradient)


def test_a_gradient_that_an_optimizer_overwrites_is_noticed(device):
    layer, v = fd.nn.Linear(4, 4, bias=False), fd.ones(4, 4, requires_grad=True)
    optimizer = fd.optim.SGD([layer.weight, v], lr=0.1)
    x = fd.ones(2, 4)
    layer(x).sum().backward()
    kept = layer.weight.grad
    optimizer.zero_grad()
    product = (v * kept).sum()
    layer(x).sum().backward()
    with pytest.raises(RuntimeError, match="Mul needs its input 'other' as it was"):
        product.backward()
