"""Element-wise kernels: worked values, PyTorch, broadcasting, layouts, threads and instruction sets, bad
input.
"""

import re

import numpy as np
import pytest

from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
nan, inf = np.nan, np.inf

# name: ((a, b, result), ...), worked by hand
BINARY = {
    "add": ((1, 2, 3), (0.5, -0.5, 0), (inf, -inf, nan)),
    "subtract": ((1, 2, -1), (0.5, -0.5, 1), (inf, inf, nan)),
    "multiply": ((3, -2, -6), (0, inf, nan), (0.25, 4, 1)),
    "divide": ((1, 4, 0.25), (-1, 0, -inf), (0, 0, nan)),
    "power": (
        (2, 10, 1024),
        (-2, 3, -8),
        (-2, 0.5, nan),
        (nan, 0, 1),
        (9, 0.5, 3),
        (0, -1, inf),
        (0, 0, 1),
        (2, -1, 0.5),
    ),
    "maximum": ((1, 2, 2), (-1, -2, -1), (nan, 1, nan), (1, nan, nan), (inf, 1, inf)),
    "minimum": ((1, 2, 1), (-1, -2, -2), (nan, 1, nan), (1, nan, nan), (-inf, 1, -inf)),
    "equal": ((1, 1, True), (1, 2, False), (nan, nan, False), (0.0, -0.0, True)),
    "not_equal": ((1, 1, False), (1, 2, True), (nan, nan, True), (0.0, -0.0, False)),
    "less": ((1, 2, True), (2, 1, False), (1, 1, False), (nan, 1, False), (1, nan, False)),
    "less_equal": ((1, 2, True), (2, 1, False), (1, 1, True), (nan, 1, False), (1, nan, False)),
    "greater": ((1, 2, False), (2, 1, True), (1, 1, False), (nan, 1, False), (1, nan, False)),
    "greater_equal": ((1, 2, False), (2, 1, True), (1, 1, True), (nan, 1, False), (1, nan, False)),
}
UNARY = {
    "negative": ((2, -2), (-inf, inf), (0.5, -0.5)),
    "exp": ((0, 1), (1, np.e), (-1, 1 / np.e), (-inf, 0), (inf, inf), (800, inf), (nan, nan)),
    "log": ((1, 0), (np.e**2, 2), (0, -inf), (-1, nan), (inf, inf), (nan, nan)),
    "sqrt": ((4, 2), (2, 2**0.5), (0, 0), (-1, nan), (inf, inf)),
    "absolute": ((-3, 3), (3, 3), (-inf, inf), (nan, nan)),
    "sign": ((-3, -1), (0, 0), (1e-30, 1), (inf, 1), (nan, nan)),
}
TORCH = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "power": "pow", "equal": "eq", "not_equal": "ne",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
    "negative": "neg", "absolute": "abs",
}  # fmt: skip
LOGICAL = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
SIZES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 257)
# Large enough to be split among threads, in rows and as one flat run.
LARGE = 70_001
BROADCASTS = (
    ((3, 5), ()), ((), (3, 5)), ((5,), (3, 5)), ((3, 1), (3, 5)), ((3, 5), (1, 5)), ((3, 1), (1, 5)),
    ((1,), (0,)), ((0, 3), (1, 3)),
    ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 4, 5), (1, 3, 1, 1)), ((2, 1, 4, 1), (1, 3, 1, 5)),
    ((4, 5), (2, 3, 1, 1)), ((2, 3, 4, 5), (2, 3, 4, 1)), ((1, 1), (1, 1, 1)), ((), ()), ((17, 33), (33,)),
    ((17, 1), (17, 33)), ((2, 1, 2, 1, 2, 1), (1, 3, 1, 3, 1, 3)),
)  # fmt: skip


def values(shape, dtype, seed, kernel=""):
    """Random values; positive where the kernel needs them, with repeats where it compares."""
    x = np.random.default_rng(seed).standard_normal(shape)
    if kernel in ("power", "log", "sqrt"):
        x = np.abs(x) + 0.1
    if kernel in LOGICAL:
        x = np.round(x)
    return np.asarray(x, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", BINARY)
def test_binary_worked_values(backend, kernel, dtype):
    a, b, want = (np.array(column) for column in zip(*BINARY[kernel]))
    a, b = a.astype(dtype), b.astype(dtype)
    want = want if kernel in LOGICAL else want.astype(dtype)
    assert_close(getattr(backend, kernel)(a, b), want, "elementwise")
    for i in range(len(a)):  # one by one, in the tail of a vector loop
        assert_close(getattr(backend, kernel)(a[i : i + 1], b[i : i + 1]), want[i : i + 1], "elementwise")
    repeats = 41  # and in its body
    got = getattr(backend, kernel)(np.repeat(a, repeats), np.repeat(b, repeats))
    assert_close(got, np.repeat(want, repeats), "elementwise")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", UNARY)
def test_unary_worked_values(backend, kernel, dtype):
    x, want = (np.array(column, dtype) for column in zip(*UNARY[kernel]))
    assert_close(getattr(backend, kernel)(x), want, "elementwise")
    for i in range(len(x)):
        assert_close(getattr(backend, kernel)(x[i : i + 1]), want[i : i + 1], "elementwise")
    assert_close(getattr(backend, kernel)(np.repeat(x, 41)), np.repeat(want, 41), "elementwise")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", [*BINARY, *UNARY])
def test_against_torch(reference, kernel, dtype):
    torch = pytest.importorskip("torch")
    arrays = [values((5, 7), dtype, seed, kernel) for seed in range(2 if kernel in BINARY else 1)]
    want = getattr(torch, TORCH.get(kernel, kernel))(*map(torch.tensor, arrays)).numpy()
    assert_close(getattr(reference, kernel)(*arrays), want, "elementwise")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", [*BINARY, *UNARY])
def test_sizes(backend, reference, kernel, dtype):
    for n in (*SIZES, LARGE):
        arrays = [values(n, dtype, seed, kernel) for seed in range(2 if kernel in BINARY else 1)]
        with unchanged(*arrays):
            got = getattr(backend, kernel)(*arrays)
        assert_close(got, getattr(reference, kernel)(*arrays), "elementwise")


@pytest.mark.parametrize("kernel", BINARY)
def test_broadcasting(backend, reference, kernel):
    for shapes in BROADCASTS:
        for a, b in (shapes, shapes[::-1]):
            a, b = values(a, "float32", 1, kernel), values(b, "float32", 2, kernel)
            assert_close(getattr(backend, kernel)(a, b), getattr(reference, kernel)(a, b), "elementwise")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, 1.7, -3.0, inf, -inf, nan])
def test_power_with_one_exponent(backend, exponent, dtype):
    """A number as exponent has short cuts of its own; signs, zeros and infinities as in C."""
    a = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 3, -3, 1e6, inf, -inf, nan] * 3, dtype)
    if exponent == 0.5:  # pow or square root: NumPy's choice depends on its version, and differs at -0 and -inf
        a = a[~np.signbit(a) | ((a < 0) & np.isfinite(a))]
    with np.errstate(all="ignore"):
        want = np.power(a.astype("float64"), exponent).astype(dtype)
    got = backend.power(a, np.array(exponent, dtype))
    # 1.7 is another number in float32: the logarithm of the result moves by up to 14 times its rounding
    assert_close(got, want, "elementwise" if exponent != 1.7 else "reduce", scale=1.0)
    zeros = got == 0
    assert (np.signbit(got[zeros]) == np.signbit(want[zeros])).all()


@pytest.mark.parametrize("kernel", ["subtract", "less"])
@pytest.mark.parametrize("shape", [(6,), (3, 5), (2, 3, 4, 5), (5, 1, 3, 1)], ids=str)
def test_layouts_of_both_operands(backend, reference, kernel, shape):
    a, b = values(shape, "float32", 1, kernel), values(shape, "float32", 2, kernel)
    want = getattr(reference, kernel)(a, b)
    for x in layouts(a).values():
        for y in layouts(b).values():
            with unchanged(x, y):
                assert_close(getattr(backend, kernel)(x, y), want, "elementwise")


@pytest.mark.parametrize("kernel", UNARY)
def test_layouts_unary(backend, reference, kernel):
    x = values((2, 3, 4, 5), "float64", 1, kernel)
    want = getattr(reference, kernel)(x)
    for name, view in layouts(x).items():
        with unchanged(view):
            assert_close(getattr(backend, kernel)(view), want, "elementwise"), name


def test_broadcast_views_as_operands(backend):
    a = np.broadcast_to(values((3, 1), "float32", 1), (3, 5))
    b = np.broadcast_to(values((), "float32", 2), (3, 5))
    assert_close(backend.add(a, b), np.asarray(a) + b, "elementwise")
    assert_close(backend.exp(b), np.exp(b), "elementwise")


def test_memory_order_of_the_result(cpu):
    x = np.moveaxis(np.zeros((2, 4, 5, 3), "float32"), -1, 1)  # channels-last
    bias = np.zeros((3, 1, 1), "float32")
    for y in (cpu.exp(x), cpu.add(x, x), cpu.add(x, bias), cpu.add(bias, x), cpu.clip(x, 0.0, None)):
        assert y.strides == x.strides
    x = np.zeros((3, 4), "float32").T
    assert cpu.add(x, np.zeros((4, 3), "float32")).strides == x.strides  # the first full-shape operand decides
    assert cpu.less(x, x).strides == (1, 4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_where(backend, dtype):
    condition = np.array([[True, False, True], [False, False, True]])
    a, b = np.array([1, 2, 3], dtype), np.array([[10], [20]], dtype)
    want = np.array([[1, 10, 3], [20, 20, 3]], dtype)
    assert_close(backend.where(condition, a, b), want, "elementwise")
    # An unselected NaN must not leak.
    assert_close(
        backend.where(condition, a, np.full((2, 1), nan, dtype))[0],
        np.array([1, nan, 3], dtype),
        "elementwise",
    )
    for n in SIZES:
        condition, a, b = values(n, dtype, 0) > 0, values(n, dtype, 1), values(n, dtype, 2)
        with unchanged(condition, a, b):
            assert_close(backend.where(condition, a, b), np.where(condition, a, b), "elementwise")
    condition, a, b = (
        (values((2, 3, 4, 5), dtype, 0) > 0),
        values((2, 3, 4, 5), dtype, 1),
        values((3, 1, 1), dtype, 2),
    )
    for c in layouts(condition, ("contiguous", "fortran", "channels-last", "reversed", "offset")).values():
        for x in layouts(a).values():
            assert_close(backend.where(c, x, b), np.where(condition, a, b), "elementwise")
            assert_close(backend.where(c, b, x), np.where(condition, b, a), "elementwise")
    one = np.array(True)
    assert_close(backend.where(one, a, b), np.broadcast_to(a, a.shape), "elementwise")


@pytest.mark.parametrize("dtype", FLOATS)
def test_clip(backend, dtype):
    x = np.array([-2, -0.5, 0, 0.5, 2, nan, inf, -inf], dtype)
    low = np.array([-1, -0.5, 0, 0.5, 2, nan, inf, -1], dtype)
    high = np.array([-2, -0.5, 0, 0.5, 1, nan, 1, -inf], dtype)
    both = np.array([-1, -0.5, 0, 0.5, 1, nan, 1, -1], dtype)
    for view in layouts(x).values():
        with unchanged(view):
            assert_close(backend.clip(view, -1.0, None), low, "elementwise")
            assert_close(backend.clip(view, None, 1.0), high, "elementwise")
            assert_close(backend.clip(view, -1.0, 1.0), both, "elementwise")
    # low > high gives high, as in PyTorch
    assert_close(backend.clip(np.zeros(3, dtype), 2.0, 1.0), np.ones(3, dtype), "elementwise")
    assert backend.clip(np.zeros((), dtype), 1.0, None) == 1
    assert backend.clip(np.zeros((0, 3), dtype), 1.0, None).shape == (0, 3)
    assert_close(backend.clip(np.repeat(x, 41), -1.0, 1.0), np.repeat(both, 41), "elementwise")


@pytest.mark.parametrize("dtype", FLOATS)
def test_accumulate(backend, dtype):
    for shape in ((0,), (), (1,), (17,), (3, 5), (2, 3, 4, 5), (LARGE,)):
        base, x = values(shape, dtype, 1), values(shape, dtype, 2)
        small = base.size < 1000
        for out in layouts(base).values() if small else [base.copy()]:
            for view in layouts(x).values() if small else [x]:
                target = out
                target[...] = base
                with unchanged(view):
                    assert backend.accumulate(target, view) is None
                assert_close(target, base + x, "elementwise")


def test_accumulate_into_itself(backend):
    x = values(100, "float32", 1)
    want = 2 * x
    backend.accumulate(x, x)
    assert_close(x, want, "elementwise")
    y = values(100, "float32", 2)
    want = y + y[::-1]
    backend.accumulate(y, y[::-1])
    assert_close(y, want, "elementwise")
    z = values(101, "float32", 3)
    want = z[1:] + z[:-1]
    backend.accumulate(z[1:], z[:-1])
    assert_close(z[1:], want, "elementwise")


def test_writes_stay_inside_the_view(backend):
    room = np.zeros((7, 11), "float32")
    view = room[2:5, 3:8]
    backend.accumulate(view, np.ones((3, 5), "float32"))
    backend.scale(view, 3.0)
    assert room.sum() == 45 and (view == 3).all()
    room = np.zeros(4 * 40, "float32")
    for n in range(1, 40):
        room[:] = 7
        backend.scale(room[40 : 40 + n], 0.5)
        assert (room[:40] == 7).all() and (room[40 : 40 + n] == 3.5).all() and (room[40 + n :] == 7).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_scale(backend, dtype):
    for shape in ((0,), (), (1,), (17,), (2, 3, 4, 5), (LARGE,)):
        base = values(shape, dtype, 1)
        for x in layouts(base).values() if base.size < 1000 else [base.copy()]:
            assert backend.scale(x, 0.1) is None
            assert_close(x, base * np.dtype(dtype).type(0.1), "elementwise")
    x = np.ones(3, dtype)
    backend.scale(x, nan)
    assert np.isnan(x).all()


@pytest.mark.parametrize("kernel", ["add", "divide", "power", "less", "maximum", "exp", "log", "sqrt", "sign"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_instruction_sets(cpu, reference, isa, kernel, dtype):
    for shape in ((1,), (15,), (17,), (33,), (65,), (3, 67)):
        arrays = [values(shape, dtype, seed, kernel) for seed in range(2 if kernel in BINARY else 1)]
        assert_close(getattr(cpu, kernel)(*arrays), getattr(reference, kernel)(*arrays), "elementwise")
    if kernel in BINARY:
        a, b = values((31, 67), dtype, 0, kernel), values((31, 1), dtype, 1, kernel)
        assert_close(getattr(cpu, kernel)(a, b), getattr(reference, kernel)(a, b), "elementwise")
        assert_close(getattr(cpu, kernel)(b, a), getattr(reference, kernel)(b, a), "elementwise")


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    a, b = values((301, 307), "float32", 1), values((307,), "float32", 2)
    calls = (
        ("add", a, b), ("exp", a), ("multiply", a, a), ("clip", a, -1.0, 1.0), ("where", a > 0, a, b),
        ("power", np.abs(a), b), ("less", a, b),
    )  # fmt: skip
    got = [getattr(cpu, kernel)(*args).tobytes() for kernel, *args in calls]
    _cpu.set_num_threads(1)
    assert got == [getattr(cpu, kernel)(*args).tobytes() for kernel, *args in calls]


f4, f8 = np.zeros(3, "float32"), np.zeros(3, "float64")
locked = np.zeros(3, "float32")
locked.flags.writeable = False
INVALID = (
    ("add", ([1.0], f4), TypeError, "add: a must be a NumPy array, got list"),
    ("add", (f4, 1.0), TypeError, "add: b must be a NumPy array, got float"),
    ("add", (f4, None), TypeError, "add: b must be a NumPy array, got NoneType"),
    ("add", (np.zeros(3, "int64"), f4), TypeError, "add: a must be float32 or float64, got int64"),
    ("add", (np.zeros(3, ">f4"), f4), TypeError, "add: a must be float32 or float64, got >f4"),
    ("multiply", (f4, f8), TypeError, "multiply: b must be float32 like a, got float64"),
    ("less", (f4, np.zeros(3, bool)), TypeError, "less: b must be float32 or float64, got bool"),
    ("divide", (f4, np.zeros((2, 4), "float32")), ValueError,
     "divide: b must broadcast with a, got shape (2, 4), a (3,)"),
    ("exp", ("x",), TypeError, "exp: x must be a NumPy array, got str"),
    ("sqrt", (np.zeros(2, "complex64"),), TypeError, "sqrt: x must be float32 or float64, got complex64"),
    ("where", ([True], f4, f4), TypeError, "where: condition must be a NumPy array, got list"),
    ("where", (f4, f4, f4), TypeError, "where: condition must be bool, got float32"),
    ("where", (np.ones(3, bool), f4, f8), TypeError, "where: b must be float32 like a, got float64"),
    ("where", (np.ones(3, bool), f4, np.zeros(2, "float32")), ValueError,
     "where: b must broadcast with a, got shape (2,), a (3,)"),
    ("where", (np.ones(2, bool), f4, f4), ValueError,
     "where: condition must broadcast with a and b, got shape (2,), a (3,), b (3,)"),
    ("clip", (f4, None, None), ValueError, "clip: low must be a number when high is None, got None"),
    ("clip", (f4, nan, None), ValueError, "clip: low must be a number, got nan"),
    ("clip", (f4, 0.0, nan), ValueError, "clip: high must be a number, got nan"),
    ("accumulate", (f4, f8), TypeError, "accumulate: x must be float32 like out, got float64"),
    ("accumulate", (f4, np.zeros((1, 3), "float32")), ValueError,
     "accumulate: x must have shape (3,), got (1, 3)"),
    ("accumulate", (f4, np.zeros(1, "float32")), ValueError, "accumulate: x must have shape (3,), got (1,)"),
    ("accumulate", (locked, f4), ValueError, "accumulate: out must be writeable, got a read-only array"),
    ("scale", (locked, 2.0), ValueError, "scale: x must be writeable, got a read-only array"),
    ("scale", (np.zeros(3, "int32"), 2.0), TypeError, "scale: x must be float32 or float64, got int32"),
)  # fmt: skip


@pytest.mark.parametrize("kernel, args, error, message", INVALID)
def test_invalid(backend, kernel, args, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        getattr(backend, kernel)(*args)
