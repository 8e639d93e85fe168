"""Element-wise losses: worked values, finite differences, PyTorch, layouts, extremes, bad input."""

import math
import re

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from tolerances import assert_close

FLOATS = ("float32", "float64")
REDUCTIONS = ("mean", "sum", "none")
nan, inf = math.nan, math.inf
# kernel, whether it has a weight, the shape rule of its pos_weight
CASES = {
    "mse": ("mse", False, None),
    "l1": ("l1", False, None),
    "bce": ("bce_with_logits", False, None),
    "bce-weight": ("bce_with_logits", True, None),
    "bce-pos-row": ("bce_with_logits", False, "row"),
    "bce-pos-one": ("bce_with_logits", True, "one"),
    "bce-pos-full": ("bce_with_logits", True, "full"),
}
SIZES = (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 257)
SHAPES = ((), (0, 3), (1, 1), (13, 17), (2, 3, 4, 5), (1, 2, 1, 3, 1, 2), (300, 700))


def values(shape, dtype, seed):
    return np.asarray(3 * np.random.default_rng(seed).standard_normal(shape), dtype)


class Case:
    def __init__(self, name, shape, dtype, reduction):
        self.kernel, weighted, pos = CASES[name]
        self.reduction = reduction
        self.x, self.target = values(shape, dtype, 1), values(shape, dtype, 2)
        self.dloss = values(shape if reduction == "none" else (), dtype, 3)
        self.weights = ()
        if self.kernel == "bce_with_logits":
            self.target = np.asarray(np.random.default_rng(4).random(shape), dtype)
            pos_shape = {"row": np.shape(self.x)[-1:], "one": (1,), "full": np.shape(self.x), None: None}[pos]
            self.weights = (
                values(shape, dtype, 5) if weighted else None,
                None if pos is None else np.asarray(np.abs(values(pos_shape, dtype, 6))),
            )
        # The largest partial sum's size, for the sum over all terms.
        self.scale = 40.0 * max(self.x.size, 1) if reduction == "sum" else 40.0

    def forward(self, backend, x=None, target=None):
        x, target = self.x if x is None else x, self.target if target is None else target
        return getattr(backend, f"{self.kernel}_forward")(x, target, *self.weights, self.reduction)

    def backward(self, backend, x=None, target=None, dloss=None):
        x, target = self.x if x is None else x, self.target if target is None else target
        dloss = self.dloss if dloss is None else dloss
        return getattr(backend, f"{self.kernel}_backward")(dloss, x, target, *self.weights, self.reduction)

    def check(self, backend, reference):
        with unchanged(self.x, self.target, self.dloss, *self.weights):
            loss, dx = self.forward(backend), self.backward(backend)
        assert isinstance(loss, np.ndarray)
        assert_close(loss, self.forward(reference), "loss", scale=self.scale)
        assert_close(dx, self.backward(reference), "loss", scale=40)


@pytest.mark.parametrize("dtype", FLOATS)
def test_worked_values(backend, dtype):
    def array(*entries):
        return np.array(entries, dtype)

    x, target = array(1, -2, 0.5, 3), array(3, -2, 0, 0)
    assert_close(backend.mse_forward(x, target, "none"), array(4, 0, 0.25, 9), "loss")
    assert_close(backend.mse_forward(x, target, "sum"), np.asarray(13.25, dtype), "loss")
    assert_close(backend.mse_forward(x, target, "mean"), np.asarray(3.3125, dtype), "loss")
    assert_close(backend.mse_backward(np.asarray(2, dtype), x, target, "mean"), array(-2, 0, 0.5, 3), "loss")
    assert_close(backend.l1_forward(x, target, "none"), array(2, 0, 0.5, 3), "loss")
    assert_close(backend.l1_forward(x, target, "mean"), np.asarray(1.375, dtype), "loss")
    assert_close(backend.l1_backward(np.asarray(2, dtype), x, target, "sum"), array(-2, 0, 2, 2), "loss")
    x, target = array(0, math.log(3), math.log(3), -math.log(3)), array(1, 1, 0, 0.5)
    want = np.log(array(2, 4 / 3, 4, math.sqrt(4 * 4 / 3)))
    assert_close(backend.bce_with_logits_forward(x, target, None, None, "none"), want, "loss")
    dloss = array(2, 4, 4, 8)
    got = backend.bce_with_logits_backward(dloss, x, target, None, None, "none")
    assert_close(got, array(-1, -1, 3, -2), "loss")
    weight, pos_weight = array(1, 2, 3, 4), array(2)
    got = backend.bce_with_logits_forward(x, target, weight, pos_weight, "none")
    assert_close(got, array(2 * want[0], 4 * want[1], 3 * want[2], 4 * (math.log(4) + math.log(4 / 3) / 2)), "loss")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", CASES)
def test_finite_differences(reference, name, reduction):
    case = Case(name, (3, 4), "float64", reduction)
    assert_gradient(case.backward(reference), lambda x: case.forward(reference, x), case.x, case.dloss)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", CASES)
def test_against_torch(reference, name, reduction, dtype):
    torch = pytest.importorskip("torch")
    for shape in ((3, 4), (0, 4), (5,)):
        case = Case(name, shape, dtype, reduction)
        x = torch.tensor(case.x, requires_grad=True)
        options = dict(reduction=reduction)
        if case.weights:
            weight, pos_weight = case.weights
            options["weight"] = None if weight is None else torch.tensor(weight)
            options["pos_weight"] = None if pos_weight is None else torch.tensor(pos_weight)
        function = {"mse": "mse_loss", "l1": "l1_loss", "bce_with_logits": "binary_cross_entropy_with_logits"}
        loss = getattr(torch.nn.functional, function[case.kernel])(x, torch.tensor(case.target), **options)
        loss.backward(torch.tensor(case.dloss))
        assert_close(case.forward(reference), loss.detach().numpy(), "loss", scale=case.scale)
        assert_close(case.backward(reference), x.grad.numpy(), "loss", scale=40)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", CASES)
def test_sizes_and_shapes(backend, reference, name, reduction, dtype):
    for shape in (*((n,) for n in SIZES), *SHAPES):
        if shape == () and name == "bce-pos-row":
            continue
        Case(name, shape, dtype, reduction).check(backend, reference)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_layouts(backend, reference, name, shape, reduction):
    case = Case(name, shape, "float32", reduction)
    loss, dx = case.forward(reference), case.backward(reference)
    targets = layouts(case.target, ("contiguous", "channels-last", "reversed", "gapped"))
    for x in layouts(case.x).values():
        for target in targets.values():
            with unchanged(x, target):
                assert_close(case.forward(backend, x, target), loss, "loss", scale=40)
                assert_close(case.backward(backend, x, target), dx, "loss", scale=40)
    for dloss in layouts(case.dloss).values():
        assert_close(case.backward(backend, dloss=dloss), dx, "loss", scale=40)
    for place, weight in enumerate(case.weights):
        for view in layouts(weight).values() if weight is not None else ():
            case.weights = (*case.weights[:place], view, *case.weights[place + 1 :])
            with unchanged(view):
                assert_close(case.forward(backend), loss, "loss", scale=40)
                assert_close(case.backward(backend), dx, "loss", scale=40)


def test_memory_order_of_the_result(cpu):
    x = np.moveaxis(values((2, 4, 5, 3), "float32", 1), -1, 1)
    assert cpu.mse_forward(x, x, "none").strides == x.strides
    assert cpu.mse_backward(np.ones((), "float32"), x, np.ascontiguousarray(x), "mean").strides == x.strides


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes(backend, dtype):
    x = np.array([1e4, -1e4, 1e4, -1e4, nan, 1e-42, -inf, inf], dtype)
    target = np.array([1, 0, 0, 1, 1, 0, 1, 1], dtype)
    want = np.array([0, 0, 1e4, 1e4, nan, math.log(2), nan, nan], dtype)  # infinity: (1 - target) * x
    assert_close(backend.bce_with_logits_forward(x, target, None, None, "none"), want, "loss")
    got = backend.bce_with_logits_backward(np.ones_like(x), x, target, None, None, "none")
    assert_close(got, np.array([0, 0, 1, -1, nan, 0.5, -1, 0], dtype), "loss")
    want = np.array([9999, 1e4, 1e4, 10001, nan, 0, inf, inf], dtype)
    assert_close(backend.l1_forward(x, target, "none"), want, "loss")
    assert_close(backend.mse_forward(x, target, "none"), want**2, "loss")
    # A difference below the smallest normal number may be flushed to zero, and its sign with it.
    got = backend.l1_backward(np.ones_like(x), x, target, "none")
    assert_close(np.delete(got, 5), np.array([1, -1, 1, -1, nan, -1, 1], dtype), "loss")


def test_mean_of_nothing(backend):
    x = np.zeros((0, 3), "float32")
    for name in CASES:
        loss = Case(name, (0, 3), "float32", "mean").forward(backend)
        assert loss.shape == () and np.isnan(loss), name
        assert Case(name, (0, 3), "float32", "sum").forward(backend) == 0
    assert backend.mse_backward(np.ones((), "float32"), x, x, "mean").shape == (0, 3)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_instruction_sets(cpu, reference, isa, name, dtype):
    for shape in ((1,), (15,), (17,), (33,), (3, 67)):
        for reduction in REDUCTIONS:
            Case(name, shape, dtype, reduction).check(cpu, reference)


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_on_every_instruction_set(cpu, isa, dtype):
    test_extremes(cpu, dtype)


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    cases = [Case(name, (301, 307), "float32", reduction) for name in CASES for reduction in ("mean", "none")]

    def run():
        return [array.tobytes() for case in cases for array in (case.forward(cpu), case.backward(cpu))]

    got = run()
    _cpu.set_num_threads(1)
    assert got == run()


x4, x8, d = np.zeros((2, 3), "float32"), np.zeros((2, 3), "float64"), np.zeros((), "float32")
INVALID = [
    ("mse_forward", ([1.0], x4, "mean"), TypeError, "x must be a NumPy array, got list"),
    ("mse_forward", (x4, 0.0, "mean"), TypeError, "target must be a NumPy array, got float"),
    ("mse_forward", (x4, None, "mean"), TypeError, "target must be a NumPy array, got NoneType"),
    ("mse_forward", (x4.astype("int32"), x4, "mean"), TypeError, "x must be float32 or float64, got int32"),
    ("mse_forward", (x4, x8, "mean"), TypeError, "target must be float32 like x, got float64"),
    ("mse_forward", (x4, x4[:1], "mean"), ValueError, "target must have shape (2, 3), got (1, 3)"),
    ("mse_forward", (x4, x4, "avg"), ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
    ("mse_backward", (x4, x4, x4, "mean"), ValueError, "dloss must have shape (), got (2, 3)"),
    ("mse_backward", (d, x4, x4, "none"), ValueError, "dloss must have shape (2, 3), got ()"),
    ("mse_backward", (1.0, x4, x4, "sum"), TypeError, "dloss must be a NumPy array, got float"),
    ("mse_backward", (np.zeros(()), x4, x4, "sum"), TypeError, "dloss must be float32 like x, got float64"),
    ("bce_with_logits_forward", (x4, x4, x8, None, "mean"), TypeError,
     "weight must be float32 like x, got float64"),
    ("bce_with_logits_forward", (x4, x4, x4[0], None, "mean"), ValueError,
     "weight must have shape (2, 3), got (3,)"),
    ("bce_with_logits_forward", (x4, x4, None, 2.0, "mean"), TypeError,
     "pos_weight must be a NumPy array, got float"),
    ("bce_with_logits_forward", (x4, x4, None, x4[:, 0], "mean"), ValueError,
     "pos_weight must have shape (2, 3), (3,) or (1,), got (2,)"),
    ("bce_with_logits_backward", (d, x4, x4, None, x4[:1], "mean"), ValueError,
     "pos_weight must have shape (2, 3), (3,) or (1,), got (1, 3)"),
]  # fmt: skip
# The l1 kernels, and those with weights, check in the same words.
INVALID += [(k.replace("mse", "l1"), a, e, m) for k, a, e, m in INVALID if k.startswith("mse")]
INVALID += [
    (k.replace("mse", "bce_with_logits"), (*a[:-1], None, None, a[-1]), e, m)
    for k, a, e, m in INVALID
    if k.startswith("mse")
]


@pytest.mark.parametrize("kernel, args, error, message", INVALID)
def test_invalid(backend, kernel, args, error, message):
    with pytest.raises(error, match="^" + re.escape(f"{kernel}: {message}") + "$"):
        getattr(backend, kernel)(*args)
