"""fastdl.capture: what a replay would not do again is refused, with the reason, and nothing wrong is returned."""

import re

import pytest

import fastdl as fd
from fastdl import nn, optim

pytestmark = pytest.mark.skipif(fd.get_device() != "cpu", reason="needs the compiled kernels")


REFUSED = {
    "item()": lambda x: x * (x.sum().item()),
    "tolist()": lambda x: x * x.sum().tolist(),
    "bool()": lambda x: x if (x.sum() > 0) else -x,
    "numpy()": lambda x: fd.tensor(x.numpy()),
    "random numbers": lambda x: x + fd.rand(x.shape),
    "NumPy array": lambda x: x.data,
    "eq of integers or bools": lambda x: x.argmax(0) == 1,
    "sum of integers or bools": lambda x: (x > 0).sum(),
    "mul of floats with integers or bools": lambda x: x * (x > 0),
    "it needs to change an argument in place": lambda x: x.mul_(2),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_leaves_fastdl_is_refused(what):
    step = fd.capture(REFUSED[what])
    with pytest.raises(fd.CaptureError, match=re.escape(what)) as error:
        step(fd.tensor([1.0, 2.0]))
    assert str(error.value).startswith("capture: <lambda> can't be replayed: ")
    if "()" in what or "integers" in what:
        assert "test_capture_refused.py:" in str(error.value)


def test_arithmetic_on_the_arrays_is_found():
    w = fd.zeros(2)

    def change(x):
        w.data += x.data
        return x * w

    step = fd.capture(change)
    with pytest.raises(fd.CaptureError, match="a constant of the program"):
        for i in range(3):
            step(fd.tensor([float(i), 1.0]))


def test_a_constant_made_from_an_input_is_found_by_the_second_call():
    step = fd.capture(lambda x: x * fd.tensor(x.data.copy()))
    step(fd.tensor([2.0]))
    with pytest.raises(fd.CaptureError, match="a constant of the program"):
        step(fd.tensor([3.0]))


def test_a_constant_made_from_an_input_is_found_in_the_gradients():
    w = fd.tensor([1.0], requires_grad=True)

    @fd.capture
    def step(x):
        w.grad = None
        (w * fd.tensor(x.data.copy())).sum().backward()

    step(fd.tensor([2.0]))
    with pytest.raises(fd.CaptureError, match="for the gradients: "):
        step(fd.tensor([3.0]))
    assert w.grad.tolist() == [3.0]


@pytest.mark.parametrize("where", ["parameter", "result"])
def test_memory_of_kernels_that_numpy_changes_is_found(where):
    w = nn.Parameter(fd.ones(2))
    optimizer = optim.SGD([w], lr=0.5)

    @fd.capture
    def step(x):
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        (w if where == "parameter" else loss).data[...] += 1
        return loss

    assert step(fd.ones(2)).item() == 2 + (where == "result")
    found = "what sgd_step changes" if where == "parameter" else "the result"
    with pytest.raises(fd.CaptureError, match=f"gave other bits than the function for {found}"):
        step(fd.ones(2))
    assert w.tolist() == ([2.0, 2.0] if where == "parameter" else [0.0, 0.0])


def test_a_python_value_that_changes_is_found_in_the_result():
    count = []

    def step(x):
        count.append(1)
        return x * 2, len(count)

    step = fd.capture(step)
    step(fd.tensor([2.0]))
    with pytest.raises(fd.CaptureError, match="for the result: "):
        step(fd.tensor([3.0]))


def test_hooks_and_schedulers_are_refused():
    model = nn.Linear(2, 2)
    model.register_forward_hook(lambda *a: None)
    with pytest.raises(fd.CaptureError, match="hooks on Linear"):
        fd.capture(lambda x: model(x))(fd.ones(1, 2))
    optimizer = optim.SGD([nn.Parameter(fd.ones(1))], lr=1.0)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1)

    def step(x):
        schedule.step()
        return x * 2

    with pytest.raises(fd.CaptureError, match=re.escape("StepLR.step(); call it after the captured step")):
        fd.capture(step)(fd.ones(1))


def test_fallback_warns_once_and_runs_as_written():
    step = fd.capture(lambda x: x * x.sum().item(), fallback=True)
    with pytest.warns(RuntimeWarning, match="item"):
        assert step(fd.tensor([2.0])).tolist() == [4.0]
    assert step(fd.tensor([3.0])).tolist() == [9.0]
