"""Initial values: bounds and moments, the defaults of the layers, the same bits for the same seed.

A mean over n draws of variance s^2 is off by s / sqrt(n) typically, a variance by s^2 * sqrt((k - 1) / n)
with k the kurtosis (3 normal, 1.8 uniform); the limits are five of those, and the seed is fixed.
"""

import math

import numpy as np
import pytest

import fastdl as fd
from fastdl.nn import init

SHAPE = (60, 20, 3, 3)
FAN_IN, FAN_OUT = 20 * 9, 60 * 9


def weight(shape=SHAPE, dtype=np.float32):
    return fd.tensor(np.full(shape, np.nan, dtype))


def check_moments(values, mean, std, kurtosis):
    n = values.size
    assert abs(values.mean(dtype=np.float64) - mean) < 5 * std / math.sqrt(n)
    assert abs(values.var(dtype=np.float64) - std**2) < 5 * std**2 * math.sqrt((kurtosis - 1) / n)


def check_uniform(values, bound):
    check_moments(values, 0.0, bound / math.sqrt(3), 1.8)
    assert np.abs(values).max() <= bound * (1 + 2**-23)  # float32 rounds the bound
    assert np.abs(values).max() > bound * (1 - 20 / values.size)


GAIN_RELU, GAIN_TANH = math.sqrt(2), 5 / 3
UNIFORM = [
    (init.xavier_uniform_, {}, math.sqrt(6 / (FAN_IN + FAN_OUT))),
    (init.xavier_uniform_, {"gain": GAIN_TANH}, GAIN_TANH * math.sqrt(6 / (FAN_IN + FAN_OUT))),
    (init.kaiming_uniform_, {"nonlinearity": "relu"}, math.sqrt(6 / FAN_IN)),
    (init.kaiming_uniform_, {"a": math.sqrt(5)}, 1 / math.sqrt(FAN_IN)),
    (init.kaiming_uniform_, {"mode": "fan_out"}, math.sqrt(6 / FAN_OUT)),
    (init.uniform_, {"a": -0.5, "b": 0.5}, 0.5),
]
NORMAL = [
    (init.normal_, {}, 0.0, 1.0),
    (init.normal_, {"mean": 2.0, "std": 0.3}, 2.0, 0.3),
    (init.xavier_normal_, {}, 0.0, math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (init.kaiming_normal_, {"nonlinearity": "relu"}, 0.0, GAIN_RELU / math.sqrt(FAN_IN)),
    (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "tanh"}, 0.0, GAIN_TANH / math.sqrt(FAN_OUT)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fill, options, bound", UNIFORM)
def test_uniform(fill, options, bound, dtype):
    fd.manual_seed(0)
    w = weight(dtype=dtype)
    assert fill(w, **options) is w
    check_uniform(w.numpy(), bound)


@pytest.mark.parametrize("fill, options, mean, std", NORMAL)
def test_normal(fill, options, mean, std):
    fd.manual_seed(1)
    values = fill(weight(), **options).numpy()
    check_moments(values, mean, std, 3.0)
    inside = np.mean(np.abs(values - mean) < std)  # 0.6827 for a normal distribution, binomial around it
    assert abs(inside - 0.6827) < 5 * math.sqrt(0.6827 * 0.3173 / values.size)


def test_constants():
    assert (init.zeros_(weight()).numpy() == 0).all()
    assert (init.ones_(weight()).numpy() == 1).all()
    assert (init.constant_(weight(), -2.5).numpy() == -2.5).all()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 2, 3), (5, 5)])
def test_orthogonal(shape):
    w = init.orthogonal_(weight(shape, np.float64), gain=2.0).numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-14)


def test_gains():
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04)
    assert init.calculate_gain("linear") == init.calculate_gain("sigmoid") == 1


def test_layer_defaults():
    fd.manual_seed(2)
    linear, conv, table = (
        fd.nn.Linear(400, 100),
        fd.nn.Conv2d(16, 128, 3),
        fd.nn.Embedding(50, 40, padding_idx=3),
    )
    check_uniform(linear.weight.detach().numpy(), 1 / 20)
    assert np.abs(linear.bias.detach().numpy()).max() <= 1 / 20 < 1.5 * np.abs(linear.bias.detach().numpy()).max()
    check_uniform(conv.weight.detach().numpy(), 1 / 12)
    check_uniform(conv.bias.detach().numpy(), 1 / 12)
    rows = np.delete(table.weight.detach().numpy(), 3, axis=0)
    check_moments(rows, 0.0, 1.0, 3.0)
    assert (table.weight.detach().numpy()[3] == 0).all()
    norm = fd.nn.BatchNorm2d(3)
    assert [t.tolist() for t in norm.state_dict().values()] == [[1] * 3, [0] * 3, [0] * 3, [1] * 3, 0]


def _bits(seed):
    fd.manual_seed(seed)
    model = fd.nn.Sequential(fd.nn.Conv2d(2, 3, 3), fd.nn.Linear(5, 4), fd.nn.Embedding(3, 2))
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


def test_same_seed_same_bits_on_every_backend():
    from fastdl import kernels

    before = kernels.host().name
    try:
        kernels.set_host("numpy")
        want, other = _bits(7), _bits(8)
        kernels.set_host(before)
        assert _bits(7) == want
        assert want != other
    finally:
        kernels.set_host(before)


def test_generator():
    from fastdl.random import Generator

    first = init.normal_(weight(), generator=Generator(3)).numpy()
    second = init.normal_(weight(), generator=Generator(3)).numpy()
    np.testing.assert_array_equal(first, second)


NAN = math.nan
BAD = [
    (init.zeros_, (np.zeros(3),), TypeError, "zeros_: tensor must be a Tensor, got ndarray"),
    (init.constant_, ("w", "x"), TypeError, "constant_: val must be a number, got 'x'"),
    (init.normal_, ("w", 0.0, -1.0), ValueError, "normal_: std must be finite and at least 0, got -1.0"),
    (init.normal_, ("w", NAN), ValueError, "normal_: mean must be finite, got nan"),
    (init.normal_, ("i",), TypeError, "normal_: tensor must be float32, float64 or bfloat16, got int64"),
    (init.uniform_, ("w", 1.0, 0.0), ValueError, "uniform_: b must be finite and at least 1, got 0.0"),
    (init.xavier_uniform_, ("v",), ValueError,
     "xavier_uniform_: tensor must have at least 2 dimensions, got shape (3,)"),
    (init.xavier_normal_, ("w", NAN), ValueError, "xavier_normal_: gain must be finite, got nan"),
    (init.kaiming_uniform_, ("w", 0, "fan"), ValueError,
     "kaiming_uniform_: mode must be one of 'fan_in', 'fan_out', got 'fan'"),
    (init.kaiming_normal_, ("w", 0, "fan_in", "cube"), ValueError,
     "calculate_gain: nonlinearity must be one of"),
    (init.kaiming_normal_, ("w", NAN), ValueError, "kaiming_normal_: a must be finite, got nan"),
    (init.orthogonal_, ("v",), ValueError,
     "orthogonal_: tensor must have at least 2 dimensions, got shape (3,)"),
]  # fmt: skip


@pytest.mark.parametrize("fill, args, error, message", BAD)
def test_bad_input(fill, args, error, message):
    tensors = {"w": weight((2, 3)), "v": weight((3,)), "i": fd.tensor(np.zeros(3, np.int64))}
    args = [tensors.get(a, a) if isinstance(a, str) else a for a in args]
    with pytest.raises(error) as caught:
        fill(*args)
    assert message in str(caught.value)
