"""Parameters re-homed into one buffer: where they lie, what replaces them, how many kernel calls a step takes."""

import copy
import pickle

import numpy as np
import pytest

import fastdl as fd
from fastdl import kernels
from optimizing import SHAPES, arrays, backward, parameters
from tolerances import assert_close


def address(array):
    return array.__array_interface__["data"][0]


def owner(array):
    while array.base is not None:
        array = array.base
    return array


class Counting:
    """The host backend with its calls of `name` counted."""

    def __init__(self, monkeypatch, name):
        self.sizes = []
        backend = kernels.host()
        inner = getattr(backend, name)

        def counted(param, *rest):
            self.sizes.append(param.size)
            return inner(param, *rest)

        monkeypatch.setattr(backend, name, counted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_and_gradients_share_a_buffer(host, dtype):
    params = parameters(dtype=dtype)
    before = [p.detach().numpy().copy() for p in params]
    backward(params, 1)  # gradients that exist already move along
    fd.optim.SGD(params)
    grads = [p.grad.numpy().copy() for p in params]
    for p, b, g in zip(params, before, grads):
        assert (p.detach().numpy() == b).all() and (p.grad.numpy() == g).all()
    fd.optim.SGD(params).zero_grad()
    backward(params, 2)
    for arrays_ in ([p.detach().numpy() for p in params], [p.grad.numpy() for p in params]):
        assert len({id(owner(a)) for a in arrays_}) == 1
        assert all(address(a) % 256 == 0 and a.flags.c_contiguous for a in arrays_)
        assert all(address(a) + a.nbytes <= address(b) for a, b in zip(arrays_, arrays_[1:]))


def test_one_kernel_call_updates_a_group(host, monkeypatch):
    params = parameters()
    optimizer = fd.optim.Adam([{"params": params[:3]}, {"params": params[3:], "lr": 0.1}])
    backward(params, 1)
    calls = Counting(monkeypatch, "adam_step")
    optimizer.step()
    assert len(calls.sizes) == 2
    calls.sizes.clear()
    optimizer.zero_grad()
    backward(params, 2, skip=(1,))  # the first group falls into two runs, its step counts differ from now on
    optimizer.step()
    assert len(calls.sizes) == 3
    calls.sizes.clear()
    optimizer.zero_grad()
    backward(params, 3)
    optimizer.step()
    assert len(calls.sizes) == 4
    calls.sizes.clear()
    optimizer.zero_grad()
    optimizer.step()
    assert calls.sizes == []


def test_gaps_stay_untouched_by_neighbours(host):
    """A run without the last parameter must not write into that one's segment."""
    params = parameters(shapes=((65,), (65,), (65,)))
    optimizer = fd.optim.SGD(params, lr=1.0)
    before = [p.detach().numpy().copy() for p in params]
    backward(params, 1, skip=(1,))
    optimizer.step()
    assert (params[1].detach().numpy() == before[1]).all()
    for i in (0, 2):
        assert_close(params[i].detach().numpy(), before[i] - params[i].grad.numpy(), "sgd")


def test_strided_parameters_keep_their_values(host):
    a = np.arange(24, dtype="float32").reshape(2, 3, 4)
    params = [fd.Tensor(view, requires_grad=True) for view in (a.T.copy().T, a[:, ::-1], a[::1, :, ::2])]
    want = [p.detach().numpy().copy() for p in params]
    fd.optim.SGD(params)
    for p, w in zip(params, want):
        assert (p.detach().numpy() == w).all() and p.detach().numpy().flags.c_contiguous


def test_replaced_parameters_and_gradients_count(host):
    (p,) = parameters(shapes=((4,),))
    optimizer = fd.optim.SGD([p], lr=1.0)
    p.data = np.full(4, 5, "float32")
    p.grad = fd.tensor([1.0, 2.0, 3.0, 4.0])
    optimizer.step()
    assert p.detach().numpy().tolist() == [4, 3, 2, 1]
    p.grad = fd.tensor([1.0, 1.0, 1.0, 1.0])
    optimizer.step()
    assert p.detach().numpy().tolist() == [3, 2, 1, 0]
    optimizer.zero_grad()
    (p * 2).sum().backward()
    optimizer.step()
    assert p.detach().numpy().tolist() == [1, 0, -1, -2]


def test_two_optimizers_on_the_same_parameters(host):
    params = parameters()
    want = [p.detach().numpy().copy() for p in params]
    one, two = fd.optim.SGD(params, lr=0.5), fd.optim.SGD(params, lr=0.25)
    for step in range(4):
        for optimizer in (one, two):
            optimizer.zero_grad()
            backward(params, step + 1)
            optimizer.step()
            lr = optimizer.param_groups[0]["lr"]
            want = [w - np.float32(lr) * g for w, g in zip(want, arrays(step + 1))]
            for p, w in zip(params, want):
                assert_close(p.detach().numpy(), w, "sgd", scale=4)


def test_gradients_accumulate_in_the_slot(host):
    params = parameters()
    fd.optim.SGD(params)
    backward(params, 1)
    backward(params, 2)
    for p, g, h in zip(params, arrays(1), arrays(2)):
        assert_close(p.grad.numpy(), g + h, "sgd")


def test_a_parameter_that_changed_type_or_shape_is_refused(host):
    (p,) = parameters(shapes=((4,),))
    optimizer = fd.optim.SGD([p])
    p.data, p.grad = np.zeros(4), None
    p._grad_slot = None
    (p * 2).sum().backward()
    form = "parameter 0 was float32 of shape \\(4,\\) when it was handed over and is now float64 of shape \\(4,\\)"
    with pytest.raises(RuntimeError, match=form):
        optimizer.step()


def test_a_model_copied_after_the_optimizer_is_independent(host):
    model = fd.nn.Linear(3, 2)
    optimizer = fd.optim.SGD(model.parameters(), lr=1.0)
    twin = copy.deepcopy(model)
    before = twin.weight.detach().numpy().copy()
    model(fd.ones(4, 3)).sum().backward()
    optimizer.step()
    assert (twin.weight.detach().numpy() == before).all()
    assert not (model.weight.detach().numpy() == before).all()


def test_loading_weights_after_making_the_optimizer(host):
    model = fd.nn.Linear(3, 2)
    optimizer = fd.optim.SGD(model.parameters(), lr=1.0)
    other = fd.nn.Linear(3, 2)
    model.load_state_dict(other.state_dict())
    model(fd.ones(1, 3)).sum().backward()
    optimizer.step()
    assert_close(model.weight.detach().numpy(), other.weight.detach().numpy() - 1, "sgd")


def test_frozen_and_empty_parameters(host):
    params = [fd.tensor(a, requires_grad=i != 1) for i, a in enumerate(arrays(0, shapes=((3,), (3,), (0, 2), (3,))))]
    optimizer = fd.optim.Adam(params, lr=0.1)
    before = [p.detach().numpy().copy() for p in params]
    sum((p * p).sum() for p in params).backward()
    optimizer.step()
    assert (params[1].detach().numpy() == before[1]).all() and params[2].shape == (0, 2)
    for i in (0, 3):
        assert_close(params[i].detach().numpy(), before[i] - np.float32(0.1) * np.sign(before[i]), "adam", scale=8)


def test_memory_is_not_touched_outside(host):
    """SHAPES holds sizes that leave gaps; gaps between gradients stay zero, so that nothing moves there."""
    params = parameters(shapes=SHAPES)
    optimizer = fd.optim.SGD(params, lr=1.0)
    backward(params, 1)
    optimizer.step()
    (flat,) = optimizer._buffers[0]
    inside = np.zeros(flat.grad.size, bool)
    for p, start in zip(params, flat.starts):
        inside[start : start + p.numel()] = True
    assert (flat.grad[~inside] == 0).all() and (flat.data[~inside] == 0).all() and (~inside).any()


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_model_and_its_optimizer_are_copied_together(device, how):
    net = fd.nn.Linear(3, 2)
    optimizer = fd.optim.Adam(net.parameters(), lr=0.1)
    x = fd.ones(4, 3)

    def train(net, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            (net(x) ** 2).sum().backward()
            optimizer.step()
        return net.weight.tolist(), net.bias.tolist()

    train(net, optimizer)
    if how == "pickle" and device == "cuda":
        pytest.skip("arrays of the stand-in are not pickled")
    copied = copy.deepcopy((net, optimizer)) if how == "deepcopy" else pickle.loads(pickle.dumps((net, optimizer)))
    before = copied[0].weight.tolist()
    assert before == net.weight.tolist()
    after = train(*copied)
    assert after[0] != before and net.weight.tolist() == before
    assert train(net, optimizer) == after
