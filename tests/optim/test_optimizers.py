"""Optimizers against PyTorch over a grid of options, step by step; groups, missing gradients, bad input."""

import itertools
import re

import numpy as np
import pytest

import fastdl as fd
from optimizing import assert_same, backward, copy_gradients, parameters, torch_twins
from tolerances import assert_close

nan = float("nan")
KINDS = ("SGD", "RMSprop", "Adam", "AdamW")
GRID = [
    *(("SGD", dict(lr=0.1, momentum=m, dampening=d, weight_decay=w, nesterov=n))
      for m, d, w, n in itertools.product((0, 0.9), (0, 0.3), (0, 0.01), (False, True)) if not n or (m and not d)),
    *(("RMSprop", dict(lr=0.01, alpha=0.9, weight_decay=w, momentum=m, centered=c))
      for w, m, c in itertools.product((0, 0.01), (0, 0.9), (False, True))),
    *((kind, dict(lr=0.01, betas=(0.8, 0.99), weight_decay=w, amsgrad=a))
      for kind, w, a in itertools.product(("Adam", "AdamW"), (0, 0.01), (False, True))),
    ("Adam", dict(weight_decay=0.1, decoupled_weight_decay=True)),
    *((kind, {}) for kind in KINDS),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind, options", GRID, ids=str)
def test_ten_steps_against_torch(device, kind, options, dtype):
    torch = pytest.importorskip("torch")
    params = parameters(dtype=dtype)
    twins = torch_twins(torch, params)
    ours, theirs = getattr(fd.optim, kind)(params, **options), getattr(torch.optim, kind)(twins, **options)
    for step in range(10):
        ours.zero_grad()
        backward(params, step + 1)
        copy_gradients(torch, params, twins)
        ours.step()
        theirs.step()
        assert_same(params, twins)
    for p, twin in zip(params, twins):
        for name, want in theirs.state[twin].items():
            if name != "step" and want is not None:
                assert_close(ours.state[p][name].cpu().numpy(), want.cpu().numpy(), "rmsprop", scale=4)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_gradients_are_skipped_as_in_torch(device, kind):
    """Each parameter has a step count of its own; one never gets a gradient."""
    torch = pytest.importorskip("torch")
    options = dict(momentum=0.9, dampening=0.5) if kind == "SGD" else {}
    params = parameters()
    twins = torch_twins(torch, params)
    ours, theirs = getattr(fd.optim, kind)(params, **options), getattr(torch.optim, kind)(twins, **options)
    frozen = params[4].detach().cpu().numpy().copy()
    for step, skip in enumerate([(4,), (0, 4), (2, 4), (1, 3, 4), (4,), (0, 1, 2, 4), (4,)]):
        ours.zero_grad()
        backward(params, step + 1, skip)
        assert [i for i, p in enumerate(params) if p.grad is None] == [*skip]
        copy_gradients(torch, params, twins)
        ours.step()
        theirs.step()
        assert_same(params, twins)
    assert (params[4].detach().cpu().numpy() == frozen).all() and params[4] not in ours.state


def test_groups_have_options_of_their_own(device):
    torch = pytest.importorskip("torch")
    params = parameters()
    twins = torch_twins(torch, params)
    made = []
    for kind, tensors in ((fd.optim.Adam, params), (torch.optim.Adam, twins)):
        groups = [{"params": tensors[:2]}, {"params": tensors[2], "lr": 0.1, "betas": (0.5, 0.6)}]
        optimizer = kind(groups, lr=0.01, weight_decay=0.1)
        optimizer.add_param_group({"params": tensors[3:], "weight_decay": 0.0})
        made.append(optimizer)
    for step in range(4):
        made[0].zero_grad()
        backward(params, step + 1)
        copy_gradients(torch, params, twins)
        for optimizer in made:
            optimizer.step()
        assert_same(params, twins)
        for optimizer in made:  # options may change between steps
            optimizer.param_groups[1]["lr"] *= 0.5
            optimizer.param_groups[0]["betas"] = (0.7, 0.8)
    assert [len(group["params"]) for group in made[0].param_groups] == [2, 1, 2]


def test_momentum_switched_on_later_starts_with_the_gradient(device):
    torch = pytest.importorskip("torch")
    params = parameters()
    twins = torch_twins(torch, params)
    ours, theirs = fd.optim.SGD(params, 0.1, dampening=0.5), torch.optim.SGD(twins, 0.1, dampening=0.5)
    for step in range(4):
        ours.zero_grad()
        backward(params, step + 1)
        copy_gradients(torch, params, twins)
        ours.step()
        theirs.step()
        assert_same(params, twins)
        if step == 1:
            ours.param_groups[0]["momentum"] = theirs.param_groups[0]["momentum"] = 0.9


def test_mixed_dtypes(device):
    params = [*parameters(0), *parameters(1, "float64")]
    optimizer = fd.optim.SGD(params, lr=1.0)
    before = [p.detach().cpu().numpy().copy() for p in params]
    for p in params:
        (p * p).sum().backward()
    optimizer.step()
    for p, b in zip(params, before):
        assert_close(p.detach().cpu().numpy(), -b, "sgd")


def test_closure(device):
    (p,) = parameters(shapes=((3,),))
    optimizer = fd.optim.SGD([p], lr=0.5)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        calls.append(loss.item())
        return loss

    with fd.no_grad():  # the closure records all the same
        first = optimizer.step(closure)
    assert first.item() == calls[0] and (p.detach().cpu().numpy() == 0).all()
    assert optimizer.step() is None


def test_zero_grad(device):
    params = parameters()
    optimizer = fd.optim.SGD(params)
    backward(params, 1, skip=(0,))
    optimizer.zero_grad(set_to_none=False)
    assert params[0].grad is None
    assert all((p.grad.cpu().numpy() == 0).all() for p in params[1:])
    backward(params, 1)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_a_step_is_noticed_by_autograd(device):
    """Backward through a graph that saved a parameter which was updated since would be silently wrong."""
    params = parameters(shapes=((3,), (3,)))
    optimizer = fd.optim.SGD(params, lr=0.1)
    loss = (params[0] * params[1]).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="in-place operation modified it"):
        loss.backward()


def test_repr():
    text = repr(fd.optim.SGD(parameters(), lr=0.5, momentum=0.25))
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.5\n    momentum: 0.25\n")


def test_defaults_are_torchs():
    torch = pytest.importorskip("torch")
    for kind in KINDS:
        params = parameters()
        ours = getattr(fd.optim, kind)(params).defaults
        theirs = getattr(torch.optim, kind)(torch_twins(torch, params)).defaults
        assert ours.items() <= theirs.items()


BAD_OPTIONS = [
    *((kind, {"lr": value}, ValueError, f"{kind}: lr must be {words}")
      for kind in KINDS for value, words in ((-1, "at least 0, got -1"), (nan, "finite, got nan"))),
    *((kind, {"weight_decay": value}, ValueError, f"{kind}: weight_decay must be {words}")
      for kind in KINDS for value, words in ((-1, "at least 0, got -1"), (nan, "finite, got nan"))),
    ("SGD", {"lr": "0.1"}, TypeError, "SGD: lr must be a number, got str"),
    ("SGD", {"momentum": -0.1}, ValueError, "SGD: momentum must be at least 0, got -0.1"),
    ("SGD", {"momentum": nan}, ValueError, "SGD: momentum must be finite, got nan"),
    ("SGD", {"dampening": nan}, ValueError, "SGD: dampening must be finite, got nan"),
    ("SGD", {"nesterov": 1}, TypeError, "SGD: nesterov must be a bool, got int"),
    ("SGD", {"nesterov": True}, ValueError,
     "SGD: nesterov must have a momentum above 0 and dampening 0, got momentum 0, dampening 0"),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.5}, ValueError,
     "SGD: nesterov must have a momentum above 0 and dampening 0, got momentum 0.9, dampening 0.5"),
    ("RMSprop", {"alpha": 1.5}, ValueError, "RMSprop: alpha must be in [0, 1], got 1.5"),
    ("RMSprop", {"alpha": nan}, ValueError, "RMSprop: alpha must be finite, got nan"),
    ("RMSprop", {"eps": -1e-8}, ValueError, "RMSprop: eps must be at least 0, got -1e-08"),
    ("RMSprop", {"momentum": -1}, ValueError, "RMSprop: momentum must be at least 0, got -1"),
    ("RMSprop", {"centered": None}, TypeError, "RMSprop: centered must be a bool, got NoneType"),
    ("Adam", {"betas": 0.9}, TypeError, "Adam: betas must be a pair of numbers, got 0.9"),
    ("Adam", {"betas": (0.9, 0.9, 0.9)}, TypeError, "Adam: betas must be a pair of numbers, got (0.9, 0.9, 0.9)"),
    ("Adam", {"betas": (1.0, 0.9)}, ValueError, "Adam: betas[0] must be in [0, 1), got 1"),
    ("AdamW", {"betas": (0.9, -0.1)}, ValueError, "AdamW: betas[1] must be in [0, 1), got -0.1"),
    ("AdamW", {"betas": (0.9, nan)}, ValueError, "AdamW: betas[1] must be finite, got nan"),
    ("Adam", {"eps": nan}, ValueError, "Adam: eps must be finite, got nan"),
    ("Adam", {"amsgrad": "yes"}, TypeError, "Adam: amsgrad must be a bool, got str"),
]  # fmt: skip


@pytest.mark.parametrize("kind, options, error, message", BAD_OPTIONS, ids=str)
def test_bad_options(kind, options, error, message):
    form = "^" + re.escape(message) + "$"
    with pytest.raises(error, match=form):
        getattr(fd.optim, kind)(parameters(), **options)
    with pytest.raises(error, match=form):
        getattr(fd.optim, kind)([{"params": parameters(), **options}])


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="learning_rate"):
        fd.optim.SGD(parameters(), learning_rate=0.1)


def bad_params():
    p, q = parameters(shapes=((2,), (2,)))
    return [
        ([], ValueError, "Adam: params must hold at least one parameter, got an empty list"),
        ([{"params": []}], ValueError, "Adam: params must hold at least one parameter, got an empty list"),
        (p, TypeError, "Adam: params must be an iterable of Tensors or dicts, got Tensor"),
        ({"params": [p]}, TypeError, "Adam: params must be an iterable of Tensors or dicts, got dict"),
        (3, TypeError, "Adam: params must be an iterable of Tensors or dicts, got int"),
        ({p, q}, TypeError, "Adam: params must be ordered, got set"),
        ([{"lr": 0.1}], ValueError, "Adam: param_group must have the key 'params', got ['lr']"),
        ([{"params": [p]}, [q]], TypeError, "Adam: param_group must be a dict, got list"),
        ([p, np.zeros(3)], TypeError, "Adam: params must hold Tensors, got ndarray at 1"),
        ([p, fd.tensor([1, 2])], TypeError, "Adam: params must be float32 or float64, got int64 at 1"),
        ([p, p * 2], ValueError, "Adam: params must be leaf Tensors, got the result of an operation at 1"),
        ([p, q, p], ValueError, "Adam: params must not repeat, got parameter 2 of a group twice"),
        ([{"params": [p]}, {"params": [q, p]}], ValueError,
         "Adam: params must not repeat, got parameter 1 of a group twice"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(bad_params())))
def test_bad_params(number):
    params, error, message = bad_params()[number]
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        fd.optim.Adam(params)


def test_bad_options_set_later_are_refused_by_the_step(device):
    params = parameters()
    optimizer = fd.optim.Adam(params)
    backward(params, 1)
    before = [p.detach().cpu().numpy().copy() for p in params]
    optimizer.param_groups[0]["lr"] = nan
    with pytest.raises(ValueError, match="lr must be finite, got nan"):
        optimizer.step()
    assert all((p.detach().cpu().numpy() == b).all() for p, b in zip(params, before))
