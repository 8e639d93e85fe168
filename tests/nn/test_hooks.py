"""Forward pre-hooks, forward hooks and full backward hooks."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn


class Affine(nn.Module):
    """a * b + shift, to have several inputs."""

    def forward(self, a, b=None, shift=0.0):
        return (a if b is None else a * b) + shift


class Split(nn.Module):
    """Two outputs."""

    def forward(self, a):
        return a * 2.0, a * 3.0


def tensor(*values, grad=True):
    return fd.tensor(np.array(values, np.float32), requires_grad=grad)


def test_forward_hooks_in_order():
    module, calls = Affine(), []
    handles = [
        module.register_forward_pre_hook(lambda m, args: calls.append("pre 1")),
        module.register_forward_pre_hook(lambda m, args: calls.append("pre 0"), prepend=True),
        module.register_forward_hook(lambda m, args, out: calls.append(("post", args[0].tolist(), out.tolist()))),
    ]
    module(tensor(1.0), shift=2.0)
    assert calls == ["pre 0", "pre 1", ("post", [1.0], [3.0])]
    for handle in handles:
        handle.remove()
        handle.remove()  # a second time does nothing
    module(tensor(1.0))
    assert len(calls) == 3


def test_hooks_replace_arguments_and_results():
    module = Affine()
    with module.register_forward_pre_hook(lambda m, args: args[0] * 10.0):
        assert module(tensor(1.0)).tolist() == [10]
        with module.register_forward_hook(lambda m, args, out: out + 1.0):
            assert module(tensor(1.0)).tolist() == [11]
    with module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"shift": 5.0}), with_kwargs=True):
        assert module(tensor(1.0), shift=2.0).tolist() == [6]
    with module.register_forward_hook(lambda m, args, kwargs, out: out * kwargs["shift"], with_kwargs=True):
        assert module(tensor(1.0), shift=2.0).tolist() == [6]
    assert module(tensor(1.0)).tolist() == [1]


def test_a_pre_hook_with_kwargs_returns_a_pair():
    module = Affine()
    module.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match="tuple of"):
        module(tensor(1.0))


def recorded(module):
    calls = []

    def hook(m, grad_input, grad_output):
        assert m is module
        calls.append(tuple(tuple(None if g is None else g.tolist() for g in gs) for gs in (grad_input, grad_output)))

    module.register_full_backward_hook(hook)
    return calls


def test_backward_hook_sees_all_gradients_at_once():
    module = Affine()
    calls = recorded(module)
    a, b = tensor(2.0, 3.0), tensor(5.0, 7.0)
    module(a, b).sum().backward()
    assert calls == [(([5, 7], [2, 3]), ([1, 1],))]
    assert a.grad.tolist() == [5, 7] and b.grad.tolist() == [2, 3]
    module(a, tensor(1.0, 1.0, grad=False)).sum().backward()
    assert calls[1] == (([1, 1], None), ([1, 1],))


def test_backward_hook_with_several_outputs():
    module = Split()
    calls = recorded(module)
    a = tensor(1.0)
    first, second = module(a)
    (first * 10.0 + second).backward()
    assert calls == [(([23],), ([10], [1]))]
    assert a.grad.tolist() == [23]
    module(a)[1].backward()  # the other output takes no part
    assert calls[1] == (([3],), (None, [1]))


def test_backward_hook_without_gradient_of_the_input():
    layer = nn.Linear(2, 1)
    calls = recorded(layer)
    layer(tensor(1.0, 2.0, grad=False)).backward()
    assert calls == [((None,), ([1],))]
    assert layer.weight.grad.tolist() == [[1, 2]]


def test_backward_hook_replaces_the_gradient():
    module = Affine()
    module.register_full_backward_hook(lambda m, grad_input, grad_output: (grad_input[0] * 100.0, None))
    a, b = tensor(2.0), tensor(5.0)
    module(a, b).backward()
    assert a.grad.tolist() == [500]
    assert b.grad.tolist() == [0]
    module = Affine()
    module.register_full_backward_hook(lambda m, grad_input, grad_output: (grad_input[0],))
    with pytest.raises(RuntimeError, match="returned 1 gradients, grad_input has 2"):
        module(a, b).backward()


def test_backward_hooks_change_no_gradient():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    grads = []
    for hooked in (False, True):
        fd.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        if hooked:
            for module in model.modules():
                module.register_full_backward_hook(lambda m, gi, go: None)
        a = fd.tensor(x, requires_grad=True)
        model(a).sum().backward()
        grads.append([a.grad.tolist()] + [p.grad.tolist() for p in model.parameters()])
    assert grads[0] == grads[1]


def test_no_backward_hook_without_recording():
    layer = nn.Linear(2, 1)
    calls = recorded(layer)
    with fd.no_grad():
        assert not layer(tensor(1.0, 2.0)).requires_grad
    assert calls == []


def test_retained_graph_calls_again():
    module = Affine()
    calls = recorded(module)
    a = tensor(2.0)
    y = module(a, tensor(3.0))
    y.backward(retain_graph=True)
    y.backward()
    assert calls == [(([3], [2]), ([1],))] * 2
    assert a.grad.tolist() == [6]
