"""What goes into a graph's memory before it is launched and comes out of it: copies of inputs, numbers, results."""

import numpy as np
import pytest

from fastdl import kernels

pytestmark = pytest.mark.usefixtures("cuda")

# Shapes and dtypes, and how an array of the GPU is seen: as it is, off a border, in another order, with gaps.
CASES = [
    (shape, dtype, see)
    for shape, dtype in (
        ((3,), "uint8"), ((16,), "bool"), ((5, 3), "int32"), ((4, 4), "int64"), ((7, 2), "float32"),
        ((2, 9), "float64"), ((), "float32"), ((0, 4), "float32"), ((2, 3, 5, 7), "float32"), ((129, 17), "uint8"),
    )
    for see in ("as it is", "off a border", "transposed", "with gaps")
]  # fmt: skip


def made(cupy, shape, dtype, see, seed):
    """An array of the GPU with random values, and the values."""
    values = np.random.default_rng([seed, *shape]).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    if see == "as it is" or not shape:
        return cupy.asarray(values), values
    if see == "transposed":
        return cupy.asarray(np.ascontiguousarray(values.T)).transpose(), values
    lead, last = shape[:-1], shape[-1]
    room = cupy.zeros((*lead, last + 1), dtype) if see == "with gaps" else cupy.zeros(values.size + 1, dtype)
    there = room[..., :last] if see == "with gaps" else room[1:].reshape(shape)
    there[...] = cupy.asarray(values)
    return there, values


def assert_bits(array, values):
    got = kernels.to_host(array)
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("count", [0, 3, 64, 65, 200])
def test_inputs_and_numbers_go_in(count):
    backend = kernels.backend("cuda")
    recorded = [made(backend.cupy, *case, seed=0)[0] for case in CASES]
    staged, words = [backend.clone(x) for x in recorded], backend.cupy.zeros(210, np.int64)
    staging = backend.Staging(words, staged, recorded, [])
    for seed in (1, 2):
        inputs, values = zip(*(made(backend.cupy, *case, seed) for case in CASES))
        numbers = np.arange(1, count + 1) * seed * (1 << 40) - 7
        staging.enter(numbers, list(inputs))
        for array, value in zip(staged, values):
            assert_bits(array, value)
        assert_bits(words, np.concatenate([numbers, np.zeros(210 - count, np.int64)]))
        assert staging.results() == []
        backend.write_words(words, np.zeros(210, np.int64))


def test_an_input_that_is_its_own_copy_stays():
    backend = kernels.backend("cuda")
    (own, values), (other, _) = (made(backend.cupy, (6, 5), "float32", "with gaps", seed) for seed in (0, 1))
    staged = backend.clone(other)
    staging = backend.Staging(backend.cupy.zeros(1, np.int64), [own, staged], [own, other], [])
    staging.enter(np.zeros(0, np.int64), [own, own])
    assert_bits(own, values)
    assert_bits(staged, values)


def test_results_come_out_as_copies():
    backend = kernels.backend("cuda")
    arrays, values = zip(*(made(backend.cupy, *case, seed=3) for case in CASES))
    staging = backend.Staging(backend.cupy.zeros(1, np.int64), [], [], list(arrays))
    first, second = staging.results(), staging.results()
    for array, value, a, b in zip(arrays, values, first, second):
        assert_bits(a, value)
        assert_bits(b, value)
        assert a.strides == backend.clone(array).strides
        assert value.size == 0 or len({x.data.ptr for x in (a, b, array)}) == 3


@pytest.mark.parametrize("wrong", ["numbers", "inputs"])
def test_too_many_are_refused(wrong):
    backend = kernels.backend("cuda")
    array = backend.cupy.zeros(4, np.float32)
    staging = backend.Staging(backend.cupy.zeros(2, np.int64), [backend.clone(array)], [array], [])
    numbers, inputs = (np.zeros(3, np.int64), [array]) if wrong == "numbers" else (np.zeros(1, np.int64), [array] * 2)
    with pytest.raises(ValueError, match="Staging"):
        staging.enter(numbers, inputs)
