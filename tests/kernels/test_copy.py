"""Memory order, concatenation and the gradient of a slice: layouts, threads, PyTorch, bad input."""

import re

import numpy as np
import pytest

from fastdl import kernels
from layouts import layouts, unchanged

DTYPES = ("float32", "float64", "bfloat16", "int32", "int64", "uint8", "bool")
kernels.use_bfloat16()
# Around the vector widths and the tiles of the blocked transpose; the last are shared out among threads.
IMAGES = (
    (0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (1, 1, 1, 1), (1, 1, 5, 7), (3, 5, 1, 1), (2, 3, 7, 5),
    (2, 4, 3, 3), (1, 7, 4, 4), (1, 8, 5, 3), (2, 9, 3, 11), (1, 15, 4, 4), (2, 16, 4, 4), (1, 17, 5, 13),
    (2, 31, 1, 33), (1, 33, 8, 8), (1, 64, 3, 3), (3, 65, 16, 17), (20, 3, 64, 64), (8, 48, 40, 40),
)  # fmt: skip


def values(shape, dtype="float32", seed=0):
    x = np.random.default_rng(seed).integers(0, 250, shape)
    return np.asarray(x % 2 if dtype == "bool" else x, dtype)


def nhwc(x):
    return x.transpose(0, 2, 3, 1)


def assert_same(got, want):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_memory_order_of_images(backend, shape, dtype):
    x = values(shape, dtype)
    for name, view in layouts(x, ("contiguous", "fortran", "channels-last", "reversed", "offset")).items():
        with unchanged(view):
            last, first = backend.channels_last(view), backend.contiguous(view)
        assert_same(last, x)
        assert_same(first, x)
        assert nhwc(last).flags.c_contiguous, name
        assert first.flags.c_contiguous, name


@pytest.mark.parametrize("layout", ["gapped", "unaligned"])
@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 17, 5, 13), (2, 16, 4, 4)], ids=str)
def test_memory_order_of_awkward_views(backend, shape, layout):
    x = values(shape)
    view = layouts(x, (layout,))[layout]
    assert_same(backend.channels_last(view), x)
    assert_same(backend.contiguous(view), x)
    stretched = np.broadcast_to(x[:, :, :1], shape)
    assert_same(backend.channels_last(stretched), stretched.copy())


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (17,), (3, 5), (2, 3, 4), (2, 3, 4, 5, 6)], ids=str)
def test_contiguous_of_every_rank(backend, shape):
    x = values(shape)
    for name, view in layouts(x).items():
        got = backend.contiguous(view)
        assert_same(got, x)
        assert got.flags.c_contiguous, name


def test_no_copy_where_none_is_needed(backend):
    x = values((2, 3, 4, 5))
    last = nhwc(x).copy().transpose(0, 3, 1, 2)
    assert backend.contiguous(x) is x
    assert backend.channels_last(last) is last
    copied = backend.channels_last(x)
    copied[...] = 0
    assert x.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (17,), (3, 5), (2, 3, 4, 5), (40000,)], ids=str)
def test_cast_to_every_dtype_and_clone(backend, shape, dtype):
    for view in layouts(values(shape, dtype), ("contiguous", "fortran", "reversed", "offset")).values():
        with unchanged(view):
            copy = backend.clone(view)
            for to in DTYPES:
                assert_same(backend.cast(view, to), view.astype(to))
        assert_same(copy, view)
        assert not np.may_share_memory(copy, view)


def test_cast_drops_fractions_and_takes_bool_as_not_zero(backend):
    x = np.array([-1.75, -0.5, 0.0, 0.5, 2.5])
    assert backend.cast(x, "int32").tolist() == [-1, 0, 0, 0, 2]
    assert backend.cast(x, "bool").tolist() == [True, True, False, True, True]
    with pytest.raises(ValueError, match="^cast: dtype must be one of 'float32', .*, got 'float16'$"):
        backend.cast(x, "float16")
    with pytest.raises(TypeError, match="^cast: x must be float32, .* or bool, got uint16$"):
        backend.cast(np.zeros(2, "uint16"), "float32")


CONCATENATIONS = (
    (((3,), (2,)), 0), (((3,),), -1), (((0,), (4,), (0,)), 0), (((2, 3), (2, 5)), 1), (((2, 3), (4, 3)), 0),
    (((2, 0, 3), (2, 4, 3)), 1), (((2, 3, 4), (2, 3, 1), (2, 3, 7)), -1), (((1, 2, 3, 4), (1, 2, 3, 4)), 0),
    (((2, 3, 4, 5), (2, 16, 4, 5), (2, 1, 4, 5)), 1), (((2, 3, 4, 5), (2, 3, 2, 5)), 2),
    (((2, 3, 4, 5), (2, 3, 4, 2)), -1), (((0, 3, 2, 2), (0, 5, 2, 2)), 1), (((64, 700), (64, 600)), 1),
    (((16, 32, 20, 20), (16, 33, 20, 20)), 1),
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONCATENATIONS, ids=str)
def test_concatenate(backend, case, dtype):
    shapes, axis = case
    xs = [values(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    want = np.concatenate(xs, axis)
    for layout in ("contiguous", "fortran", "channels-last", "reversed"):
        views = [layouts(x, (layout,)).get(layout, x) for x in xs]
        with unchanged(*views):
            assert_same(backend.concatenate(views, axis), want)
    assert_same(backend.concatenate(tuple(xs), axis), want)


def test_concatenate_copies_and_mixes_layouts(backend):
    x = values((2, 3, 4, 5))
    views = list(layouts(x).values())
    assert_same(backend.concatenate(views, 1), np.concatenate([x] * len(views), 1))
    only = backend.concatenate([x], 0)
    assert not np.shares_memory(only, x)


def test_concatenate_against_torch(backend):
    torch = pytest.importorskip("torch")
    xs = [values((2, c, 3, 3), seed=c) for c in (1, 4, 2)]
    assert_same(backend.concatenate(xs, -3), torch.cat([torch.from_numpy(x) for x in xs], -3).numpy())


# shape of x and the slice taken from it
SLICES = (
    ((), ()), ((5,), (slice(1, 4),)), ((5,), (slice(None, None, -1),)), ((5,), (slice(4, 4),)),
    ((7,), (slice(1, 7, 3),)), ((0, 3), (slice(None), slice(None))), ((4, 5), (slice(2, 3), slice(None))),
    ((4, 5), (slice(None), slice(0, 5, 2))), ((3, 4, 5), (slice(2, None, -2), slice(1, 3), slice(None))),
    ((2, 3, 4, 5), (slice(1, 2), *(slice(None),) * 3)),
    ((2, 3, 4, 5), (slice(None), slice(1, 3), slice(None, None, -1), slice(0, 5, 4))),
    ((2, 17, 4, 5), (slice(None), slice(1, None), slice(1, 3), slice(1, 4))),
    ((2, 3, 2, 3, 2), (slice(0, 1), slice(1, 3), slice(None), slice(2, None, -1), slice(1, 2))),
    ((64, 32, 20, 20), (slice(None), slice(3, 29), slice(1, 20, 2), slice(None))),
    ((700, 300), (slice(5, 600), slice(3, 299))),
)  # fmt: skip


def starts_and_steps(shape, slices):
    spans = [s.indices(n) for s, n in zip(slices, shape)]
    return tuple(s[0] for s in spans), tuple(s[2] for s in spans)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SLICES, ids=str)
def test_slice_backward(backend, case, dtype):
    shape, slices = case
    want = np.zeros(shape, dtype)
    dy = values(np.shape(want[slices]), dtype)
    dy += 1
    want[slices] = dy
    for name, view in layouts(dy, ("contiguous", "fortran", "channels-last", "reversed")).items():
        with unchanged(view):
            assert_same(backend.slice_backward(view, shape, *starts_and_steps(shape, slices)), want), name


def test_same_bits_for_every_thread_count_and_isa(isa, threads, cpu, reference):
    x = values((16, 33, 30, 31))
    assert_same(cpu.channels_last(x), x)
    assert_same(cpu.contiguous(cpu.channels_last(x)), x)
    assert_same(cpu.concatenate([x, x[:, :5]], 1), np.concatenate([x, x[:, :5]], 1))
    args = ((16, 66, 30, 31), (0, 65, 0, 0), (1, -2, 1, 1))
    assert_same(cpu.slice_backward(x, *args), reference.slice_backward(x, *args))


def test_four_dimensional_results_are_channels_last(cpu):
    x = values((2, 3, 4, 5))
    assert nhwc(cpu.concatenate([x, x], 1)).flags.c_contiguous
    assert nhwc(cpu.slice_backward(x, (2, 3, 4, 9), (0, 0, 0, 2), (1, 1, 1, 1))).flags.c_contiguous


X = np.zeros((2, 3), np.float32)
IMAGE = np.zeros((2, 3, 4, 4), np.float32)
RANK4 = "x must have 4 dimensions (N, C, H, W)"
PLAIN = "must be float32, float64, bfloat16, int32, int64, uint8 or bool"
BAD = (
    ("contiguous", ([1.0],), TypeError, "contiguous: x must be a NumPy array, got list"),
    ("contiguous", (X.astype("complex64"),), TypeError, f"contiguous: x {PLAIN}, got complex64"),
    ("contiguous", (X.astype("float16"),), TypeError, f"contiguous: x {PLAIN}, got float16"),
    ("contiguous", (np.array([None]),), TypeError, f"contiguous: x {PLAIN}, got object"),
    ("contiguous", (X.astype(">f4"),), TypeError, f"contiguous: x {PLAIN}, got >f4"),
    ("channels_last", (None,), TypeError, "channels_last: x must be a NumPy array, got NoneType"),
    ("channels_last", (X,), ValueError, f"channels_last: {RANK4}, got shape (2, 3)"),
    ("concatenate", (X, 0), TypeError, "concatenate: xs must be a tuple or list of arrays, got ndarray"),
    ("concatenate", ([], 0), ValueError, "concatenate: xs must hold at least one array, got none"),
    ("concatenate", ([X, [1.0]], 0), TypeError, "concatenate: xs[1] must be a NumPy array, got list"),
    ("concatenate", ([X, X.astype("float64")], 0), TypeError,
     "concatenate: xs[1] must be float32 like xs[0], got float64"),
    ("concatenate", ([np.zeros((), "float32")], 0), ValueError,
     "concatenate: xs[0] must have at least 1 dimension, got shape ()"),
    ("concatenate", ([X], 2), ValueError, "concatenate: axis must lie in [-2, 2), got 2"),
    ("concatenate", ([X], -3), ValueError, "concatenate: axis must lie in [-2, 2), got -3"),
    ("concatenate", ([X, X, X[:1]], 1), ValueError,
     "concatenate: xs[2] must match xs[0] except along axis 1, got (1, 3) and (2, 3)"),
    ("concatenate", ([X, X[0]], -2), ValueError,
     "concatenate: xs[1] must match xs[0] except along axis 0, got (3,) and (2, 3)"),
    ("slice_backward", (7, (2, 3), (0, 0), (1, 1)), TypeError,
     "slice_backward: dy must be a NumPy array, got int"),
    *(
        ("slice_backward", (X, shape, starts, steps), ValueError,
         "slice_backward: dy must lie inside shape, got dy (2, 3), "
         f"shape {shape}, starts {starts}, steps {steps}")
        for shape, starts, steps in (
            ((2,), (0,), (1,)), ((2, 3), (0,), (1, 1)), ((2, 3), (0, 0), (1,)), ((2, 3), (0, 0), (1, 0)),
            ((2, 3), (0, 1), (1, 1)), ((2, 3), (0, 0), (2, 1)), ((2, 3), (0, 0), (-1, 1)),
            ((2, 3), (-1, 0), (1, 1)), ((2, -3), (0, 0), (1, 1)), ((4, 5), (2, 2**62), (1, 2**62)),
            ((4, 5), (2, 0), (1, -(2**63))),
        )
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[3])
def test_bad_input(backend, case):
    kernel, args, error, message = case
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        getattr(backend, kernel)(*args)
