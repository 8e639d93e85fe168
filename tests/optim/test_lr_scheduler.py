"""Learning-rate schedules against PyTorch, their closed forms, saving and loading, bad input."""

import copy
import json
import math
import re

import pytest

import fastdl as fd
from fastdl.optim import lr_scheduler
from optimizing import parameters, torch_twins


class Ramp:
    """A callable object: its attributes are part of a schedule's state."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, t):
        return 1 + self.slope * t


CASES = {
    "StepLR": dict(step_size=3, gamma=0.5),
    "StepLR1": dict(step_size=1),
    "MultiStepLR": dict(milestones=[7, 2, 7, 3], gamma=0.5),
    "MultiStepLR0": dict(milestones=[0, 4]),
    "ExponentialLR": dict(gamma=0.9),
    "CosineAnnealingLR": dict(T_max=5, eta_min=0.01),
    "CosineAnnealingLR1": dict(T_max=1),
    "CosineAnnealingLR12": dict(T_max=12),
    "LambdaLR": dict(lr_lambda=lambda t: 1 / (1 + t)),
    "LambdaLR2": dict(lr_lambda=[lambda t: 0.5**t, Ramp(0.25)]),
}
# lr_t of a base rate, alone, as the docstrings state it
CLOSED = {
    "StepLR": lambda lr, t: lr * 0.5 ** (t // 3),
    "StepLR1": lambda lr, t: lr * 0.1**t,
    "MultiStepLR": lambda lr, t: lr * 0.5 ** sum(t >= m for m in (7, 2, 7, 3)),
    "ExponentialLR": lambda lr, t: lr * 0.9**t,
    "CosineAnnealingLR": lambda lr, t: 0.01 + (lr - 0.01) * (1 + math.cos(math.pi * t / 5)) / 2,
    "CosineAnnealingLR12": lambda lr, t: lr * (1 + math.cos(math.pi * t / 12)) / 2,
    "LambdaLR": lambda lr, t: lr / (1 + t),
}
OVER_CASES = pytest.mark.parametrize("case", CASES)


def groups(params):
    return [{"params": params[:2]}, {"params": params[2:], "lr": 0.3}]


def make(case, **more):
    optimizer = fd.optim.SGD(groups(parameters()), lr=0.1)
    return optimizer, getattr(lr_scheduler, case.rstrip("0123456789"))(optimizer, **CASES[case], **more)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@OVER_CASES
def test_against_torch(case):
    torch = pytest.importorskip("torch")
    ours, schedule = make(case)
    theirs = torch.optim.SGD(groups(torch_twins(torch, parameters())), lr=0.1)
    twin = getattr(torch.optim.lr_scheduler, case.rstrip("0123456789"))(theirs, **CASES[case])
    for _ in range(25):
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-12, abs=1e-15)
        assert schedule.get_last_lr() == rates(ours) and schedule.last_epoch == twin.last_epoch
        theirs.step()
        twin.step()
        schedule.step()


@pytest.mark.parametrize("case", CLOSED)
def test_closed_form(case):
    optimizer, schedule = make(case)
    for t in range(25):
        assert schedule.last_epoch == t
        assert rates(optimizer) == pytest.approx([CLOSED[case](lr, t) for lr in (0.1, 0.3)], rel=1e-9, abs=1e-15)
        schedule.step()


def test_schedules_chain():
    torch = pytest.importorskip("torch")
    pairs = []
    for module, params in ((fd, parameters()), (torch, torch_twins(torch, parameters()))):
        optimizer = module.optim.SGD(params, lr=1.0)
        kinds = module.optim.lr_scheduler
        pairs.append((optimizer, [kinds.StepLR(optimizer, 2, 0.5), kinds.ExponentialLR(optimizer, 0.9)]))
    for _ in range(7):
        assert rates(pairs[0][0]) == pytest.approx(rates(pairs[1][0]), rel=1e-12)
        pairs[1][0].step()
        for _, schedules in pairs:
            for schedule in schedules:
                schedule.step()


@OVER_CASES
def test_resuming_gives_the_same_rates(case):
    optimizer, schedule = make(case)
    for _ in range(6):
        schedule.step()
    saved = [copy.deepcopy(x.state_dict()) for x in (optimizer, schedule)]
    want = []
    for _ in range(9):
        schedule.step()
        want.append(rates(optimizer))
    optimizer, schedule = make(case)
    optimizer.load_state_dict(saved[0])
    schedule.load_state_dict(saved[1])
    assert schedule.get_last_lr() == rates(optimizer)
    got = []
    for _ in range(9):
        schedule.step()
        got.append(rates(optimizer))
    assert got == want


@OVER_CASES
def test_state_is_plain_data(case):
    _, schedule = make(case)
    schedule.step()
    state = schedule.state_dict()
    assert "optimizer" not in state and json.loads(json.dumps(state)) == state


@OVER_CASES
def test_starting_at_an_epoch(case):
    """With `initial_lr` in the groups, last_epoch goes on from there, as in PyTorch."""
    torch = pytest.importorskip("torch")
    name = case.rstrip("0123456789")
    results = []
    for module, params in ((fd, parameters()), (torch, torch_twins(torch, parameters()))):
        two = [{**group, "initial_lr": lr} for group, lr in zip(groups(params), (0.2, 0.6))]
        optimizer = module.optim.SGD(two, lr=0.1)
        getattr(module.optim.lr_scheduler, name)(optimizer, **CASES[case], last_epoch=4)
        results.append(rates(optimizer))
    assert results[0] == pytest.approx(results[1], rel=1e-12)
    with pytest.raises(KeyError, match="group 0 must have 'initial_lr' to resume at last_epoch 4"):
        make(case, last_epoch=4)


def test_callable_objects_are_saved_functions_are_not():
    _, schedule = make("LambdaLR2")
    state = schedule.state_dict()
    assert state["lr_lambdas"] == [None, {"slope": 0.25}]
    state["lr_lambdas"][1]["slope"] = 4
    schedule.load_state_dict(state)
    assert schedule.lr_lambdas[1].slope == 4


def test_the_rate_reaches_the_step():
    (p,) = parameters(shapes=((1,),))
    optimizer = fd.optim.SGD([p], lr=1.0)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    for lr in (1, 0.5, 0.25):
        before = p.item()
        p.grad = fd.ones(1)
        optimizer.step()
        assert before - p.item() == pytest.approx(lr, rel=1e-6)
        schedule.step()


def sgd():
    return fd.optim.SGD(parameters(), lr=0.1)


BAD = [
    (lambda: lr_scheduler.StepLR(None, 3), TypeError, "StepLR: optimizer must be an Optimizer, got NoneType"),
    (lambda: lr_scheduler.StepLR(sgd(), 0), ValueError, "StepLR: step_size must be at least 1, got 0"),
    (lambda: lr_scheduler.StepLR(sgd(), 2.5), TypeError, "StepLR: step_size must be an int, got float"),
    (lambda: lr_scheduler.StepLR(sgd(), 2, float("nan")), ValueError, "StepLR: gamma must be finite, got nan"),
    (lambda: lr_scheduler.StepLR(sgd(), 2, last_epoch=-2), ValueError,
     "StepLR: last_epoch must be at least -1, got -2"),
    (lambda: lr_scheduler.MultiStepLR(sgd(), 3), TypeError, "MultiStepLR: milestones must be ints, got int"),
    (lambda: lr_scheduler.MultiStepLR(sgd(), [1.5]), TypeError, "MultiStepLR: milestones must be an int, got float"),
    (lambda: lr_scheduler.MultiStepLR(sgd(), [-1]), ValueError, "MultiStepLR: milestones must be at least 0, got -1"),
    (lambda: lr_scheduler.ExponentialLR(sgd(), -0.5), ValueError, "ExponentialLR: gamma must be at least 0, got -0.5"),
    (lambda: lr_scheduler.CosineAnnealingLR(sgd(), 0), ValueError,
     "CosineAnnealingLR: T_max must be at least 1, got 0"),
    (lambda: lr_scheduler.CosineAnnealingLR(sgd(), 5, math.inf), ValueError,
     "CosineAnnealingLR: eta_min must be finite, got inf"),
    (lambda: lr_scheduler.LambdaLR(sgd(), 0.5), TypeError,
     "LambdaLR: lr_lambda must be a function or a list of them, got 0.5"),
    (lambda: lr_scheduler.LambdaLR(sgd(), [abs, abs]), ValueError,
     "LambdaLR: lr_lambda must have 1 entries, one per group, got 2"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, message", BAD, ids=[message for *_, message in BAD])
def test_bad_input(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        call()
