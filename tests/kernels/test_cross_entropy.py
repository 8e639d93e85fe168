"""Cross-entropy: worked values, finite differences, PyTorch, options, layouts, extremes, bad input."""

import itertools
import math
import re

import numpy as np
import pytest

from differences import assert_gradient
from layouts import layouts, unchanged
from on_gpu import skip_where_unseen
from tolerances import assert_close

FLOATS = ("float32", "float64")
nan, inf = math.nan, math.inf
# (weighted, ignore_index, label_smoothing, reduction)
OPTIONS = list(itertools.product((False, True), (-100, 0), (0.0, 0.1, 1.0), ("mean", "sum", "none")))
SHAPES = ((0, 3), (1, 1), (3, 1), (1, 10), (7, 2), (5, 15), (4, 16), (6, 17), (9, 32), (2, 33), (3, 130), (128, 10))


class Case:
    """Logits, labels (every third one ignored), class weights and a gradient of the loss."""

    def __init__(self, n, classes, dtype, options, index="int64"):
        rng = np.random.default_rng(7)
        weighted, self.ignore_index, self.label_smoothing, self.reduction = options
        self.logits = np.asarray(3 * rng.standard_normal((n, classes)), dtype)
        self.target = rng.integers(0, classes, n).astype(index)
        self.target[1::3] = self.ignore_index
        self.weight = rng.random(classes).astype(dtype) + np.dtype(dtype).type(0.5) if weighted else None
        self.dloss = np.asarray(rng.standard_normal((n,) if self.reduction == "none" else ()), dtype)
        self.options = (self.weight, self.ignore_index, self.label_smoothing, self.reduction)

    def forward(self, backend, logits=None, target=None):
        logits, target = self.logits if logits is None else logits, self.target if target is None else target
        return backend.cross_entropy_forward(logits, target, *self.options)

    def backward(self, backend, lse, logits=None, target=None, dloss=None):
        logits, target = self.logits if logits is None else logits, self.target if target is None else target
        dloss = self.dloss if dloss is None else dloss
        return backend.cross_entropy_backward(dloss, logits, target, lse, *self.options)

    def check(self, backend, reference):
        loss, lse = self.forward(reference)
        with unchanged(self.logits, self.target, self.weight, self.dloss, lse):
            got_loss, got_lse = self.forward(backend)
            got = self.backward(backend, lse)
        scale = 10 * max(self.logits.shape[0], 1) if self.reduction == "sum" else 10
        assert isinstance(got_loss, np.ndarray)
        assert_close(got_loss, loss, "cross_entropy", scale=scale)
        assert_close(got_lse, lse, "cross_entropy")
        assert_close(got, self.backward(reference, lse), "cross_entropy")


@pytest.mark.parametrize("dtype", FLOATS)
def test_worked_values(backend, dtype):
    logits = np.log(np.array([[1, 2, 5], [1, 1, 2], [3, 3, 3]], dtype))
    target = np.array([2, 0, 1])
    rows = np.array([math.log(8 / 5), math.log(4), math.log(3)], dtype)
    loss, lse = backend.cross_entropy_forward(logits, target, None, -100, 0.0, "none")
    assert_close(loss, rows, "cross_entropy")
    assert_close(lse, np.log(np.array([8, 4, 9], dtype)), "cross_entropy")
    loss, _ = backend.cross_entropy_forward(logits, target, None, -100, 0.0, "mean")
    assert_close(loss, np.asarray(rows.mean(), dtype), "cross_entropy")
    weight = np.array([1, 2, 3], dtype)
    loss, _ = backend.cross_entropy_forward(logits, target, weight, 0, 0.0, "mean")  # the second row is ignored
    assert_close(loss, np.asarray((3 * rows[0] + 2 * rows[2]) / 5, dtype), "cross_entropy")
    loss, _ = backend.cross_entropy_forward(logits[2:], target[2:], None, -100, 0.3, "sum")  # all alike: log 3
    assert_close(loss, np.asarray(rows[2], dtype), "cross_entropy")
    got = backend.cross_entropy_backward(np.asarray(3, dtype), logits, target, lse, None, -100, 0.0, "mean")
    want = np.array([[1 / 8, 2 / 8, -3 / 8], [-3 / 4, 1 / 4, 2 / 4], [1 / 3, -2 / 3, 1 / 3]], dtype)
    assert_close(got, want, "cross_entropy")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_finite_differences(reference, options):
    case = Case(4, 5, "float64", options)
    got = case.backward(reference, case.forward(reference)[1])
    assert_gradient(got, lambda x: case.forward(reference, x)[0], case.logits, case.dloss)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_against_torch(reference, options, dtype):
    torch = pytest.importorskip("torch")
    for n, classes in ((0, 3), (7, 4), (5, 1)):
        case = Case(n, classes, dtype, options)
        logits = torch.tensor(case.logits, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(
            logits, torch.tensor(case.target), None if case.weight is None else torch.tensor(case.weight),
            ignore_index=case.ignore_index, label_smoothing=case.label_smoothing, reduction=case.reduction,
        )  # fmt: skip
        loss.backward(torch.tensor(case.dloss))
        got, lse = case.forward(reference)
        assert_close(got, loss.detach().numpy(), "cross_entropy", scale=10)
        assert_close(lse, torch.logsumexp(logits, 1).detach().numpy(), "cross_entropy")
        assert_close(case.backward(reference, lse), logits.grad.numpy(), "cross_entropy")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_shapes(backend, reference, options, dtype):
    for n, classes in SHAPES:
        Case(n, classes, dtype, options).check(backend, reference)


def test_large(backend, reference):
    for n, classes in ((700, 1000), (3000, 10), (3, 70_001)):
        for smoothing in (0.0, 0.1):
            Case(n, classes, "float32", (True, -100, smoothing, "mean"), "int32").check(backend, reference)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_forward_makes_the_gradient_of_ones_too(backend, options, dtype):
    # On the host 40 rows are already more than take turns, and so many take seconds.
    many = [(40_000, 2)] if backend.name != "emulated" else []
    for n, classes in (*SHAPES, (20, 600), (2, 13_000), *many):
        assert_both_kernels_agree(backend, Case(n, classes, dtype, options))


@pytest.mark.parametrize("options", [(weighted, -100, 0.1, "mean") for weighted in (False, True)] + [
    (True, -100, 0.1, reduction) for reduction in ("sum", "none")], ids=str)  # fmt: skip
def test_more_rows_than_take_turns_on_a_gpu(backend, reference, options):
    case = Case(40_000, 2, "float32", options)
    case.check(backend, reference)
    assert_both_kernels_agree(backend, case)


def assert_both_kernels_agree(backend, case):
    loss, lse = case.forward(backend)
    with unchanged(case.logits, case.target, case.weight):
        got = backend.cross_entropy_forward(case.logits, case.target, *case.options, True)
    assert [x.tobytes() for x in got[:2]] == [loss.tobytes(), lse.tobytes()]
    np.testing.assert_array_equal(got[2], case.backward(backend, lse, dloss=np.ones_like(loss)), strict=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_more_labels_than_a_block_counts(backend, reference, weighted):
    for n in (8192, 8193, 16_385, 33_000, 70_000):
        Case(n, 2, "float32", (weighted, 0, 0.0, "mean")).check(backend, reference)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_layouts(backend, reference, reduction):
    case = Case(5, 7, "float32", (True, -100, 0.1, reduction))
    loss, lse = case.forward(reference)
    dlogits = case.backward(reference, lse)
    for logits in layouts(case.logits).values():
        for target in layouts(case.target, ("contiguous", "reversed", "offset", "unaligned")).values():
            with unchanged(logits, target):
                got, got_lse = case.forward(backend, logits, target)
                assert_close(got, loss, "cross_entropy")
                assert_close(got_lse, lse, "cross_entropy")
                assert_close(case.backward(backend, lse, logits, target), dlogits, "cross_entropy")
    for dloss in layouts(case.dloss).values():
        assert_close(case.backward(backend, lse[::-1].copy()[::-1], dloss=dloss), dlogits, "cross_entropy")
    case.target = np.repeat(case.target, 2)[::2]
    case.options = (np.repeat(case.weight, 2)[::2], *case.options[1:])
    assert_close(case.forward(backend)[0], loss, "cross_entropy")


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes(backend, dtype):
    logits = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [0, -inf, -inf], [-inf, 0, 0], [0, 0, 0]], dtype)
    target = np.array([1, 2, 0, 0, 1])
    loss, lse = backend.cross_entropy_forward(logits, target, None, -100, 0.0, "none")
    assert_close(loss, np.array([2e4, math.log(3), 0, inf, math.log(3)], dtype), "cross_entropy")
    got = backend.cross_entropy_backward(np.ones(5, dtype), logits, target, lse, None, -100, 0.0, "none")
    third = 1 / 3
    want = [[1, -1, 0], [third, third, -2 * third], [0, 0, 0], [-1, 0.5, 0.5], [third, -2 * third, third]]
    assert_close(got, np.array(want, dtype), "cross_entropy", scale=300)  # an lse of 1e4 is rounded to 5e-4


@pytest.mark.parametrize("dtype", FLOATS)
def test_bad_rows(backend, dtype):
    """A row with +inf or NaN, or of nothing but -inf, is NaN; ignored, it gives 0 and no gradient."""
    for bad in ([nan, 0, 0], [inf, 0, 0], [-inf, -inf, -inf]):
        logits = np.array([[1, 2, 3], bad], dtype)
        for target, is_nan in ((1, True), (-100, False)):
            target = np.array([0, target])
            loss, lse = backend.cross_entropy_forward(logits, target, None, -100, 0.0, "none")
            assert np.isnan(loss).tolist() == [False, is_nan]
            got = backend.cross_entropy_backward(np.ones(2, dtype), logits, target, lse, None, -100, 0.0, "none")
            assert np.isnan(got).any(1).tolist() == [False, is_nan]
            assert is_nan or (loss[1] == 0 and not got[1].any())


def test_nothing_counts(backend):
    logits, target = np.ones((2, 3), "float32"), np.array([-100, -100])
    loss, lse = backend.cross_entropy_forward(logits, target, None, -100, 0.0, "mean")
    assert np.isnan(loss)
    got = backend.cross_entropy_backward(np.ones((), "float32"), logits, target, lse, None, -100, 0.0, "mean")
    assert_close(got, np.zeros((2, 3), "float32"), "cross_entropy")
    assert backend.cross_entropy_forward(logits, target, None, -100, 0.0, "sum")[0] == 0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("options", OPTIONS[::5], ids=str)
def test_instruction_sets(cpu, reference, isa, options, dtype):
    for n, classes in ((5, 1), (3, 10), (4, 17), (2, 100)):
        Case(n, classes, dtype, options).check(cpu, reference)


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_on_every_instruction_set(cpu, isa, dtype):
    test_extremes(cpu, dtype)
    test_bad_rows(cpu, dtype)


def test_threads_do_not_change_bits(cpu, threads):
    from fastdl import _cpu

    cases = [Case(n, c, "float32", (True, -100, 0.1, "mean")) for n, c in ((7001, 10), (701, 1001), (3, 90_001))]

    def run():
        results = []
        for case in cases:
            loss, lse = case.forward(cpu)
            results += [loss.tobytes(), lse.tobytes(), case.backward(cpu, lse).tobytes()]
        return results

    got = run()
    _cpu.set_num_threads(1)
    assert got == run()


x4, t = np.zeros((2, 3), "float32"), np.zeros(2, "int64")
FORWARD = (x4, t, None, -100, 0.0, "mean")
BACKWARD = (np.zeros((), "float32"), x4, t, np.zeros(2, "float32"), None, -100, 0.0, "mean")


def changed(args, **changes):
    """args with entry i replaced for each keyword _i."""
    return tuple(changes.get(f"_{i}", arg) for i, arg in enumerate(args))


INVALID = (
    (dict(_0=[[1.0]]), TypeError, "logits must be a NumPy array, got list"),
    (dict(_0=x4.astype("int64")), TypeError, "logits must be float32 or float64, got int64"),
    (dict(_0=x4[0]), ValueError, "logits must have 2 dimensions (N, C), got shape (3,)"),
    (dict(_0=x4[:, :0]), ValueError, "logits must have at least 1 class, got shape (2, 0)"),
    (dict(_1=[0, 1]), TypeError, "target must be a NumPy array, got list"),
    (dict(_1=t.astype("float32")), TypeError, "target must be int32 or int64, got float32"),
    (dict(_1=t[:1]), ValueError, "target must have shape (2,), got (1,)"),
    (dict(_1=t + 3), IndexError, "target must lie in [0, 3) or be ignore_index -100, got 3"),
    (
        dict(_1=np.array([0, -1], "int32")),
        IndexError,
        "target must lie in [0, 3) or be ignore_index -100, got -1",
    ),
    (dict(_1=t + 2**62), IndexError, f"target must lie in [0, 3) or be ignore_index -100, got {2**62}"),
    (dict(_2=np.ones(3)), TypeError, "weight must be float32 like logits, got float64"),
    (dict(_2=np.ones(2, "float32")), ValueError, "weight must have shape (3,), got (2,)"),
    (dict(_3=0.5), TypeError, "ignore_index must be an int, got float"),
    (dict(_4=nan), ValueError, "label_smoothing must be finite, got nan"),
    (dict(_4=1.5), ValueError, "label_smoothing must be in [0, 1], got 1.5"),
    (dict(_4=-0.1), ValueError, "label_smoothing must be in [0, 1], got -0.1"),
    (dict(_5="average"), ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'average'"),
)


@pytest.mark.parametrize("changes, error, message", INVALID)
def test_invalid_forward(backend, changes, error, message):
    skip_where_unseen(backend, error)
    with pytest.raises(error, match="^" + re.escape(f"cross_entropy_forward: {message}") + "$"):
        backend.cross_entropy_forward(*changed(FORWARD, **changes))


PLACES = {"_0": "_1", "_1": "_2", "_2": "_4", "_3": "_5", "_4": "_6", "_5": "_7"}
INVALID_BACKWARD = tuple(({PLACES[k]: v for k, v in c.items()}, e, m) for c, e, m in INVALID) + (
    (dict(_0=1.0), TypeError, "dloss must be a NumPy array, got float"),
    (dict(_0=np.zeros(())), TypeError, "dloss must be float32 like logits, got float64"),
    (dict(_0=np.zeros(2, "float32")), ValueError, "dloss must have shape (), got (2,)"),
    (dict(_7="none"), ValueError, "dloss must have shape (2,), got ()"),
    (dict(_3=None), TypeError, "lse must be a NumPy array, got NoneType"),
    (dict(_3=np.zeros(2)), TypeError, "lse must be float32 like logits, got float64"),
    (dict(_3=np.zeros(3, "float32")), ValueError, "lse must have shape (2,), got (3,)"),
)


@pytest.mark.parametrize("changes, error, message", INVALID_BACKWARD)
def test_invalid_backward(backend, changes, error, message):
    skip_where_unseen(backend, error)
    with pytest.raises(error, match="^" + re.escape(f"cross_entropy_backward: {message}") + "$"):
        backend.cross_entropy_backward(*changed(BACKWARD, **changes))
