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
        "linear_forward", "linear_forward", "check", "cross_entropy_forward", "linear_backward", "linear_backward",
        "adam_step",
    ]  # fmt: skip


class Residual(nn.Module):
    """A residual block between two convolutions, downsampling where stride is 2 (whose gradients add up in place)."""

    def __init__(self, channels, groups, kernel, stride):
        super().__init__()
        padding = kernel // 2
        self.conv0 = nn.Conv2d(3, channels, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, channels, kernel, stride, padding, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel, 1, padding, groups=groups)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(channels, channels, 1, stride)
        self.head = nn.Linear(channels, 4)

    def forward(self, x):
        x = F.relu(self.conv0(x))
        y, shortcut = F.relu(self.bn1(self.conv1(x))), self.shortcut(x)
        return self.head(F.relu(self.bn2(self.conv2(y)) + shortcut).mean((2, 3)))


# Ordinary tiles, odd channels, few (a fold), depthwise, grouped; moments in whole blocks of rows and across tasks.
RESIDUAL = [(16, 1, 3, 8, 4), (19, 1, 3, 7, 3), (2, 1, 3, 9, 2), (8, 8, 3, 9, 2), (12, 3, 1, 5, 4), (3, 1, 5, 6, 1)]
RESIDUAL += [(16, 1, 3, 33, 8), (40, 1, 1, 32, 16), (16, 1, 3, 8, 29), (19, 1, 5, 7, 15)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels, groups, kernel, size, images", RESIDUAL)
def test_a_residual_block_becomes_convolutions_and_batch_norms(channels, groups, kernel, size, images, stride, threads):
    def make():
        return Training(lambda: Residual(channels, groups, kernel, stride), OPTIMIZERS["momentum"])

    data, before = batches((3, size, size), 4, sizes=(images,)), fd.get_num_threads()
    try:
        fd.set_num_threads(threads)
        assert_same(make, data)
        training = make()
        training.run(data, True)
    finally:
        fd.set_num_threads(before)
    rows = training.captured.explain().rows
    names = [row.call for row in rows]
    assert "relu_forward" not in names and names.count("relu_backward") == 1  # after the mean
    assert "add" not in names[: names.index("sum")]
    first = next(row for row in rows if row.call == "batch_norm_forward")
    assert sum(role == "read" and itemsize == 8 for role, _, itemsize in first.arrays) == 1  # the moments


def test_batch_norm_takes_moments_of_a_convolution_that_something_changed_in_between():
    conv, norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(x):
        y = conv(x)
        z = norm(y)
        y += 1
        return z * norm(y)

    step = fd.capture(forward)
    for _ in range(3):
        x = fd.randn(4, 3, 9, 9)
        with fd.no_grad():
            want = forward(x).numpy().tobytes()
            assert step(x).numpy().tobytes() == want


@pytest.mark.parametrize("inputs, outputs, rows", [(1, 3, 1), (5, 7, 64), (300, 20, 3), (33, 40, 130)])
def test_relu_backward_joins_the_dense_layer_before_it(inputs, outputs, rows):
    def model():
        first = nn.Linear(6, inputs), nn.ReLU(), nn.Linear(inputs, outputs), nn.ReLU()
        return nn.Sequential(*first, nn.Linear(outputs, 4))

    def make():
        return Training(model, OPTIMIZERS["adam"])

    data = batches((6,), 5, sizes=(rows,))
    assert_same(make, data)
    training = make()
    training.run(data[:3], True)
    assert "relu_backward" not in [row.call for row in training.captured.explain().rows]


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


@pytest.mark.parametrize("channels", [16, 19])
def test_batch_norm_whose_result_is_added_in_place_stays_alone(channels):
    """Its last vectors of columns overlap, so it may not read where it writes."""
    conv, norm = nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels)
    leaf = fd.zeros(2, channels, 7, 7, requires_grad=True)
    first = fd.randn(2, 7, 7, channels).permute(0, 3, 1, 2)

    def accumulate(x):
        leaf.grad = None
        leaf.backward(first)
        with fd.no_grad():
            y = norm(conv(x))
        leaf.backward(y)
        return leaf.grad

    step = fd.capture(accumulate)
    for _ in range(4):
        x = fd.randn(2, 3, 9, 9)
        want = accumulate(x).numpy().tobytes()
        assert step(x).numpy().tobytes() == want


def test_batch_norm_of_an_empty_batch_saves_zeros_in_every_replay():
    norm = nn.BatchNorm2d(4)

    def gradient(x, c):
        norm.weight.grad = norm.bias.grad = None
        y = norm(x)
        z = c * 2 + 1  # whose intermediate may come to lie where the mean is saved
        y.backward(x)
        return z

    step = fd.capture(gradient)
    for value in (3.0, 3.0, 3.0, float("nan"), -3.0):
        step(fd.zeros(0, 4, 2, 2), fd.full((1000,), value))
        assert norm.weight.grad.numpy().tobytes() == bytes(16)
