"""fastdl.capture: which kernel calls of a recorded step become one, with the bits of the separate calls."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn
from fastdl.nn import functional as F
from test_capture import OPTIMIZERS, Training, assert_same, batches

pytestmark = pytest.mark.skipif(fd.get_device() != "cpu", reason="needs the compiled kernels")


def test_relu_joins_the_layer_before_it_and_gradients_go_straight_to_the_optimizer():
    training = Training(lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)), OPTIMIZERS["adam"])
    training.run(batches((6,), 3), True)
    names = [row.call for row in training.captured.explain().rows]
    assert names == [
        "linear_forward", "linear_forward", "check", "cross_entropy_forward", "cross_entropy_backward",
        "linear_backward", "relu_backward", "linear_backward", "adam_step",
    ]  # fmt: skip


@pytest.mark.parametrize("pool", [(2,), (3, 2, 1)])
def test_relu_before_a_max_pool_joins_its_neighbours(pool):
    def model():
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(*pool), nn.Flatten(), nn.Linear(8 * 9, 4))

    def make():
        return Training(model, OPTIMIZERS["adam"])

    assert_same(make, batches((3, 8, 8), 10))
    training = make()
    training.run(batches((3, 8, 8), 3), True)
    names = [row.call for row in training.captured.explain().rows if row.call != "copy"]
    assert names[:2] == ["conv2d_forward", "max_pool2d_forward"]
    assert names[-3:] == ["max_pool2d_backward", "conv2d_backward", "adam_step"] and "relu_backward" not in names


def test_a_relu_that_is_read_beside_the_pool_keeps_its_backward():
    x = fd.tensor(np.random.default_rng(0).standard_normal((2, 3, 4, 4), np.float32), requires_grad=True)

    @fd.capture
    def gradient(scale):
        x.grad = None
        y = F.relu(x)
        (F.max_pool2d(y, 2).sum() * scale + y.sum()).backward()
        return x.grad.clone()

    for i in range(4):
        scale = fd.tensor(float(i))
        assert np.array_equal(gradient(scale).data, gradient.__wrapped__(scale).data)
    assert "relu_backward" in [row.call for row in gradient.explain().rows]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1,), (3, 5, 17, 19), (2, 32, 32, 16), (0, 4)], ids=str)
def test_relu_joins_a_residual_sum(shape, threads):
    def forward(x, y):
        return F.relu(x * 2 + y)

    before, step = fd.get_num_threads(), fd.capture(forward)
    rng = np.random.default_rng(0)
    try:
        fd.set_num_threads(threads)
        for _ in range(4):
            x, y = (fd.tensor(rng.standard_normal(shape, np.float32)) for _ in range(2))
            if x.numel():
                x.data.flat[0] = np.nan
            assert step(x, y).data.tobytes() == forward(x, y).data.tobytes()
    finally:
        fd.set_num_threads(before)
    assert "relu_forward" not in [row.call for row in step.explain().rows] or not x.numel()


def test_a_sum_that_is_read_beside_its_relu_stays():
    def forward(x, y):
        z = x + y
        return F.relu(z) * z

    step = fd.capture(forward)
    for i in range(4):
        x, y = fd.full((9,), float(i)), fd.full((9,), -1.5)
        assert step(x, y).tolist() == forward(x, y).tolist()
    assert "relu_forward" in [row.call for row in step.explain().rows]
