"""Saving and loading the state of optimizers: continuing gives the same bits, PyTorch's state fits, bad input."""

import copy
import re

import numpy as np
import pytest

import fastdl as fd
from fastdl import kernels
from optimizing import SHAPES, assert_same, backward, copy_gradients, parameters, torch_twins

CASES = [
    ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.1)),
    ("SGD", dict(lr=0.1)),
    ("RMSprop", dict(momentum=0.5, centered=True)),
    ("RMSprop", {}),
    ("Adam", dict(amsgrad=True, weight_decay=0.1)),
    ("AdamW", {}),
]
OVER_CASES = pytest.mark.parametrize("kind, options", CASES, ids=str)


def train(optimizer, params, seeds, skip=()):
    for seed in seeds:
        optimizer.zero_grad()
        backward(params, seed, skip)
        optimizer.step()


def bits(params):
    return [p.detach().cpu().numpy().tobytes() for p in params]


@OVER_CASES
def test_resuming_gives_the_same_bits(device, kind, options):
    params = parameters()
    optimizer = getattr(fd.optim, kind)(params, **options)
    train(optimizer, params, (1, 2))
    train(optimizer, params, (3,), skip=(0, 2))  # step counts differ
    saved = copy.deepcopy(optimizer.state_dict())
    weights = [p.detach().cpu().numpy().copy() for p in params]
    train(optimizer, params, (4, 5, 6))
    other = [fd.tensor(w, requires_grad=True) for w in weights]
    resumed = getattr(fd.optim, kind)(other, lr=123.0)
    resumed.load_state_dict(saved)
    train(resumed, other, (4, 5, 6))
    assert bits(other) == bits(params)
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@OVER_CASES
def test_loading_replaces_what_was_there(device, kind, options):
    params = parameters()
    optimizer = getattr(fd.optim, kind)(params, **options)
    fresh = copy.deepcopy(optimizer.state_dict())
    weights = [p.detach().cpu().numpy().copy() for p in params]
    train(optimizer, params, (1, 2, 3))
    want = bits(params)
    for p, w in zip(params, weights):
        p.data[...] = kernels.beside(w, p.data)
    optimizer.load_state_dict(fresh)
    assert optimizer.state == {}
    train(optimizer, params, (1, 2, 3))
    assert bits(params) == want


@OVER_CASES
def test_torchs_state_fits(device, kind, options):
    torch = pytest.importorskip("torch")
    params = parameters()
    twins = torch_twins(torch, params)
    theirs = getattr(torch.optim, kind)(twins, **options)
    shadow = getattr(fd.optim, kind)(params, **options)

    def step_torch(seed):
        shadow.zero_grad()
        backward(params, seed)
        copy_gradients(torch, params, twins)
        theirs.step()

    for seed in (1, 2, 3):
        step_torch(seed)
    ours_params = [fd.tensor(t.detach().cpu().numpy().copy(), requires_grad=True) for t in twins]
    ours = getattr(fd.optim, kind)(ours_params)
    ours.load_state_dict(theirs.state_dict())
    for seed in (4, 5, 6):
        step_torch(seed)
        train(ours, ours_params, (seed,))
        assert_same(ours_params, twins)


@OVER_CASES
def test_structure_is_torchs(kind, options):
    torch = pytest.importorskip("torch")
    params = parameters()
    twins = torch_twins(torch, params)
    made = []
    for module, tensors in ((fd, params), (torch, twins)):
        groups = [{"params": tensors[:2]}, {"params": tensors[2:]}]
        made.append(getattr(module.optim, kind)(groups, **options))
    ours, theirs = made
    for seed in (1, 2):
        ours.zero_grad()
        backward(params, seed, skip=(3,))
        copy_gradients(torch, params, twins)
        ours.step()
        theirs.step()
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert [group["params"] for group in a["param_groups"]] == [group["params"] for group in b["param_groups"]]
    assert all(x.keys() <= y.keys() for x, y in zip(a["param_groups"], b["param_groups"]))
    assert a["state"].keys() == b["state"].keys()
    for number, state in b["state"].items():
        assert state.keys() - {"step"} == a["state"][number].keys() - {"step"}
        if "step" in state:
            assert a["state"][number]["step"] == state["step"].item()


def test_options_of_the_users_own_are_kept():
    params = parameters()
    optimizer = fd.optim.SGD([{"params": params, "name": "all"}])
    assert optimizer.state_dict()["param_groups"][0]["name"] == "all"


def bad_states():
    """(what to do to a good Adam state, error, message)."""

    def state(change):
        def apply(saved):
            change(saved["state"][0])
            return saved

        return apply

    def group(**options):
        def apply(saved):
            saved["param_groups"][0].update(options)
            return saved

        return apply

    shape = SHAPES[0]
    return [
        (lambda s: [s], TypeError, "load_state_dict: state_dict must be a dict, got list"),
        (lambda s: {"state": {}}, ValueError,
         "load_state_dict: state_dict must have the key 'param_groups', got ['state']"),
        (lambda s: {**s, "param_groups": []}, ValueError, "load_state_dict: 1 parameter groups expected, got 0"),
        (group(params=[0, 1]), ValueError, "load_state_dict: group 0 has 5 parameters, got 2"),
        (group(lr=float("nan")), ValueError, "Adam: lr must be finite, got nan"),
        (group(betas=(0.9, 2)), ValueError, "Adam: betas[1] must be in [0, 1), got 2"),
        (group(maximize=True), ValueError, "load_state_dict: group 0 must have maximize False, got True"),
        (state(lambda s: s.update(exp_avg=fd.zeros(3))), ValueError,
         f"load_state_dict: state 'exp_avg' must have shape {shape}, got (3,)"),
        (state(lambda s: s.update(exp_avg=np.array("x"))), TypeError,
         "load_state_dict: state 'exp_avg' must be a float array, got <U1"),
        (state(lambda s: s.update(momentum_buffer=fd.zeros(()))), ValueError,
         "load_state_dict: Adam has the states ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq'), got 'momentum_buffer'"),
        (state(lambda s: s.pop("exp_avg_sq")), ValueError,
         "load_state_dict: the state of a parameter must hold 'exp_avg_sq', got ['exp_avg']"),
        (state(lambda s: s.update(step=-1)), ValueError, "load_state_dict: step must be at least 0, got -1"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(bad_states())))
def test_bad_states_change_nothing(number):
    change, error, message = bad_states()[number]
    params = parameters()
    optimizer = fd.optim.Adam(params)
    train(optimizer, params, (1,))
    saved = copy.deepcopy(optimizer.state_dict())
    train(optimizer, params, (2,))
    groups = [dict(group) for group in optimizer.param_groups]
    before = {i: s["exp_avg"].cpu().numpy().copy() for i, s in optimizer.state_dict()["state"].items()}
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        optimizer.load_state_dict(change(saved))
    assert optimizer.param_groups == groups
    after = optimizer.state_dict()["state"]
    assert all((after[i]["exp_avg"].cpu().numpy() == b).all() and after[i]["step"] == 2 for i, b in before.items())
