"""The generator: exact values, state, distributions, errors."""

import numpy as np
import pytest

import fastdl as fd
from fastdl import random
from fastdl.kernels import backend


def test_uniform_is_the_top_24_bits():
    words = backend("numpy").random_words(7, 0, 5)
    want = (words >> np.uint32(8)).astype(np.float64) / 2**24
    for dtype in (np.float32, np.float64):
        got = fd.Generator(7).uniform(5, dtype=dtype)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want.astype(dtype))
    np.testing.assert_array_equal(fd.Generator(7).uniform((5,), -1.0, 3.0, np.float64), -1.0 + 4.0 * want)


def test_normal_is_box_muller_on_pairs():
    words = backend("numpy").random_words(7, 0, 4).astype(np.float64)
    radius = np.sqrt(-2 * np.log((words[0::2] + 1) / 2**32))
    angle = 2 * np.pi * words[1::2] / 2**32
    want = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
    np.testing.assert_allclose(fd.Generator(7).normal(4, dtype=np.float64), want, rtol=1e-14)
    np.testing.assert_allclose(fd.Generator(7).normal(3, dtype=np.float64), want[:3], rtol=1e-14)
    np.testing.assert_allclose(fd.Generator(7).normal(4, 2.0, 3.0, np.float64), 2 + 3 * want, rtol=1e-14)


def test_permutation_sorts_64_bit_keys():
    words = backend("numpy").random_words(7, 0, 20).astype(object)
    keys = [int(high) << 32 | int(low) for low, high in zip(words[0::2], words[1::2])]
    assert fd.Generator(7).permutation(10).tolist() == sorted(range(10), key=keys.__getitem__)


def test_known_values():
    """Weights and shuffles of a seed must never change: checkpoints and published results depend on them."""
    fd.manual_seed(0)
    first = fd.rand(2)
    assert (first.data * 2**24).astype(np.int64).tolist() == [0x6627E8, 0xE169C5]
    assert fd.random.default_generator.counter == 1


def test_each_call_advances_the_counter_by_one():
    generator = fd.Generator(1)
    for call in (
        lambda: generator.uniform((2, 3)),
        lambda: generator.normal(()),
        lambda: generator.permutation(4),
        lambda: generator.integers(0, 5, (2,)),
        lambda: generator.uniform((0,)),
        generator.next,
    ):
        before = generator.counter
        call()
        assert generator.counter == before + 1


def test_state():
    generator = fd.Generator(3)
    generator.uniform(5)
    state = generator.state_dict()
    assert state == {"seed": 3, "counter": 1}
    want = generator.normal(6)
    other = fd.Generator(99)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.normal(6), want)
    assert repr(other) == "Generator(seed=3, counter=2)"


def test_manual_seed_restarts():
    assert fd.manual_seed(5) is fd.random.default_generator
    first = [fd.randn(3).tolist(), fd.rand(2).tolist(), fd.randperm(5).tolist(), fd.randint(0, 9, (4,)).tolist()]
    fd.manual_seed(5)
    assert first == [fd.randn(3).tolist(), fd.rand(2).tolist(), fd.randperm(5).tolist(), fd.randint(9, (4,)).tolist()]
    fd.manual_seed(6)
    assert first[0] != fd.randn(3).tolist() and fd.initial_seed() == 6


def test_negative_seeds_wrap():
    assert fd.Generator(-1).seed == 2**64 - 1 and fd.Generator(2**64 + 3).seed == 3


def test_own_generator_leaves_the_default_alone():
    before = fd.random.default_generator.state_dict()
    generator = fd.Generator(2)
    want = fd.randn(3, generator=generator)
    fd.rand(3, generator=generator), fd.randperm(3, generator=generator), fd.zeros(2).normal_(generator=generator)
    assert fd.random.default_generator.state_dict() == before and generator.counter == 4
    np.testing.assert_array_equal(want.numpy(), fd.Generator(2).normal(3))


def test_distributions():
    """Means and variances of 100,000 numbers within five standard errors."""
    generator, n = fd.Generator(11), 100_000
    u, z = generator.uniform(n, dtype=np.float64), generator.normal(n, dtype=np.float64)
    assert 0 <= u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5 and abs(z.mean()) < 5 * n**-0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5 and abs((z[0::2] * z[1::2]).mean()) < 5 * (n / 2) ** -0.5
    counts = np.bincount(generator.integers(-3, 4, n) + 3, minlength=7)
    assert counts.size == 7 and abs(counts - n / 7).max() < 5 * (n / 7) ** 0.5
    assert sorted(generator.permutation(1000)) == list(range(1000))


def test_shapes_and_dtypes():
    assert fd.rand(2, 3).shape == (2, 3) and fd.randn((2, 0), dtype="float64").dtype == "float64"
    assert fd.randint(0, 3, (2,), dtype="int32").dtype == "int32" and fd.randn(2, requires_grad=True).requires_grad
    assert random.uniform((2,)).shape == random.normal((2,)).shape == random.permutation(2).shape == (2,)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fd.manual_seed(1.5), TypeError, "manual_seed: seed must be an int, got float"),
        (lambda: fd.manual_seed("1"), TypeError, "manual_seed: seed must be an int, got str"),
        (lambda: fd.manual_seed(True), TypeError, "manual_seed: seed must be an int, got bool"),
        (lambda: fd.Generator().uniform(-1), ValueError, r"uniform: shape must have sizes of at least 0, got \(-1,\)"),
        (lambda: fd.Generator().uniform((2.0,)), TypeError, "uniform: shape must be an int, got float"),
        (lambda: fd.Generator().uniform(1, 2.0, 1.0), ValueError, "low must not be above high, got 2 and 1"),
        (lambda: fd.Generator().uniform(1, float("nan")), ValueError, "uniform: low must be finite, got nan"),
        (lambda: fd.Generator().normal(1, 0.0, float("inf")), ValueError, "normal: std must be finite, got inf"),
        (
            lambda: fd.Generator().normal(1, dtype="int8"),
            TypeError,
            "normal: dtype must be float32 or float64, got int8",
        ),
        (lambda: fd.Generator().permutation(-1), ValueError, "permutation: n must be at least 0, got -1"),
        (lambda: fd.randperm(2.5), TypeError, "permutation: n must be an int, got float"),
        (lambda: fd.randint(3, 3, (1,)), ValueError, "integers: low must be below high, got 3 and 3"),
        (lambda: fd.rand(2, generator=5), TypeError, "uniform: generator must be a fastdl.Generator, got int"),
        (lambda: fd.Generator().load_state_dict({"seed": 1}), KeyError, "state has no entry 'counter'"),
        (lambda: fd.Generator().load_state_dict({"seed": 1, "counter": -1}), ValueError, r"counter must lie in \[0"),
        (
            lambda: fd.Generator().load_state_dict({"seed": "a", "counter": 1}),
            TypeError,
            "seed must be an int, got str",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_permutation_keeps_equal_keys_in_order(monkeypatch):
    generator = fd.random.Generator(0)
    keys = np.random.default_rng(0).integers(0, 50, 1000).astype(np.uint64)
    monkeypatch.setattr(type(generator), "_keys", lambda self, n: keys[:n])
    np.testing.assert_array_equal(generator.permutation(1000), np.argsort(keys, kind="stable"))
