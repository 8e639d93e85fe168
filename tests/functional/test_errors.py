"""Bad input to every function: the right class of error, naming the argument."""

import inspect

import numpy as np
import pytest

import fastdl as fd
from fastdl import functional as F
from functional.cases import CASES, UNGRADED, Spec

FIRST = {}
for _case in CASES + UNGRADED:
    FIRST.setdefault(_case.name, _case)


def _places(case):
    """[(argument name, put)] of the tensors in a call; put(values, bad) replaces one."""
    names = list(inspect.signature(getattr(F, case.name)).parameters)
    return [names[i] for i, value in enumerate(case.args) if isinstance(value, Spec)]


@pytest.mark.parametrize("bad", ["text", [[1.0]], 1j], ids=["str", "list", "complex"])
@pytest.mark.parametrize("name", F.__all__)
def test_not_a_tensor(name, bad):
    case = FIRST[name]
    for place, argument in enumerate(_places(case)):
        tensors = [fd.tensor(array) for array, _ in case.arrays()]
        tensors[place] = bad
        with pytest.raises(TypeError, match=rf"{argument} must be a Tensor.*got {type(bad).__name__}"):
            case.call(getattr(F, name), tensors)


@pytest.mark.parametrize("name", ["cat", "stack"])
@pytest.mark.parametrize(
    "tensors, error, message",
    [
        ("text", TypeError, "tensors must be a tuple or list of Tensors, got str"),
        ([], ValueError, "tensors must hold at least one Tensor, got none"),
        ([fd.ones(2), [1.0, 2.0]], TypeError, r"tensors\[1\] must be a Tensor, got list"),
        ([fd.ones(2), fd.ones(2, dtype="float64")], TypeError, r"xs\[1\] must be float32 like xs\[0\], got float64"),
        ([fd.ones(2, 2), fd.ones(3, 3)], ValueError, r"\[1\] must .* \(3, 3\)|\[1\] must match .*\(3, 3\)"),
    ],
    ids=["str", "empty", "list", "dtype", "shape"],
)
def test_lists_of_tensors(host, name, tensors, error, message):
    with pytest.raises(error, match=message):
        getattr(F, name)(tensors)


def _takes_two_floats(case):
    floats = sum(array.dtype == np.float64 for array, _ in case.arrays())
    return floats > 1 and not isinstance(case.args[0], list)


@pytest.mark.parametrize("case", [case for case in CASES if _takes_two_floats(case)], ids=str)
def test_mixed_float_dtypes(host, case):
    arrays = case.arrays()
    floats = [i for i, (array, _) in enumerate(arrays) if array.dtype == np.float64]
    tensors = [fd.tensor(array) for array, _ in arrays]
    tensors[floats[-1]] = tensors[floats[-1]].float()
    with pytest.raises(TypeError, match="must be float(32|64) like .*, got float(32|64)"):
        case.call(getattr(F, case.name), tensors)


image, images, filters = fd.ones(3, 6, 6), fd.ones(2, 3, 6, 6), fd.ones(4, 3, 3, 3)
rows, labels = fd.ones(4, 5), fd.tensor([0, 1, 2, 3])
nan = float("nan")

TABLE = [
    ("conv2d", (fd.ones(3, 4), filters), ValueError, r"input must have 4 dimensions .* got shape \(3, 4\)"),
    ("conv2d", (images, fd.ones(4, 3, 3)), ValueError, r"weight must have 4 dimensions .*\(4, 3, 3\)"),
    ("conv2d", (images, fd.ones(4, 2, 3, 3)), ValueError, "weight expects 2 input channels, x has 3"),
    ("conv2d", (images, filters, fd.ones(3)), ValueError, r"bias must have shape \(4,\), got \(3,\)"),
    ("conv2d", (images, filters, None, 0), ValueError, r"stride must be positive, got \(0, 0\)"),
    ("conv2d", (images, filters, None, (1, -1)), ValueError, r"stride must be positive, got \(1, -1\)"),
    ("conv2d", (images, filters, None, 1.5), TypeError, "stride must be an int or a pair of ints, got 1.5"),
    ("conv2d", (images, filters, None, (1, 2, 3)), TypeError, r"stride must be an int or a pair .*\(1, 2, 3\)"),
    ("conv2d", (images, filters, None, True), TypeError, "stride must be an int or a pair of ints, got True"),
    ("conv2d", (images, filters, None, 1, -1), ValueError, r"padding must be at least 0, got \(-1, -1\)"),
    ("conv2d", (images, filters, None, 1, "full"), ValueError, "padding must be .* 'valid' or 'same', got 'full'"),
    ("conv2d", (images, filters, None, 2, "same"), ValueError, r"padding 'same' needs stride 1, got \(2, 2\)"),
    ("conv2d", (images, filters, None, 1, 0, 0), ValueError, r"dilation must be positive, got \(0, 0\)"),
    ("conv2d", (images, filters, None, 1, 0, 1, 0), ValueError, r"groups must lie in \[1, .*, got 0"),
    ("conv2d", (images, filters, None, 1, 0, 1, 2.0), TypeError, "groups must be an int, got float"),
    ("conv2d", (images, fd.ones(4, 3, 7, 7)), ValueError, "conv2d_forward: .*7"),
    ("conv2d", (images.long(), filters), TypeError, "x must be float32 or float64, got int64"),
    ("max_pool2d", (fd.ones(3), 2), ValueError, r"input must have 4 dimensions .* got shape \(3,\)"),
    ("max_pool2d", (images, 0), ValueError, r"kernel_size must be positive, got \(0, 0\)"),
    ("max_pool2d", (images, 2, 0), ValueError, r"stride must be positive, got \(0, 0\)"),
    ("max_pool2d", (images, 2, 2, 2), ValueError, "padding must be at most half"),
    ("max_pool2d", (images, 7), ValueError, "max_pool2d_forward: .*7"),
    ("max_pool2d", (images, 2, 2, 0, 1, 1), TypeError, "ceil_mode must be a bool, got int"),
    ("max_pool2d", (images, "2"), TypeError, "kernel_size must be an int or a pair of ints, got '2'"),
    ("avg_pool2d", (images, 2, -1), ValueError, r"stride must be positive, got \(-1, -1\)"),
    ("avg_pool2d", (images, 2, 2, 0, False, True, 0), ValueError, "divisor_override must"),
    ("adaptive_avg_pool2d", (images, 0), ValueError, r"output_size must be positive, got \(0, 0\)"),
    ("adaptive_avg_pool2d", (images, 2.5), TypeError, "output_size must be an int or a pair of ints, got 2.5"),
    ("unfold", (images, 9), ValueError, "im2col: .*9"),
    ("unfold", (fd.ones(3), 1), ValueError, r"im2col: x must have 4 dimensions .*got shape \(3,\)"),
    ("fold", (fd.ones(1, 8, 5), 4, 2), ValueError, "col2im: cols must have 9 columns"),
    ("linear", (rows, fd.ones(2, 4)), ValueError, "weight expects 4 input features, x has 5"),
    ("linear", (fd.tensor(1.0), fd.ones(2, 4)), ValueError, r"x must have at least 1 dimension.* got shape \(\)"),
    ("linear", (rows.long(), fd.ones(2, 5)), TypeError, "x must be float32 or float64, got int64"),
    ("batch_norm", (rows, None, None), ValueError, "running_mean must be given when training is False, got None"),
    ("batch_norm", (rows, fd.ones(3), fd.ones(5)), ValueError, r"running_mean must have shape \(5,\), got \(3,\)"),
    ("batch_norm", (rows[:1], None, None, None, None, True), ValueError, "more than 1 value per channel"),
    ("batch_norm", (rows, None, None, None, None, True, 0.1, nan), ValueError, "eps must be finite, got nan"),
    ("batch_norm", (rows, None, None, None, None, True, nan), ValueError, "momentum must be finite, got nan"),
    ("batch_norm", (rows, None, None, None, None, True, None), TypeError, "momentum must be a number, got NoneType"),
    ("batch_norm", (rows, None, None, None, None, 1), TypeError, "training must be a bool, got int"),
    ("batch_norm", (fd.ones(3), None, None, None, None, True), ValueError, "x must have 2, 3 or 4 dimensions"),
    ("relu", (labels,), TypeError, "x must be float32 or float64, got int64"),
    ("leaky_relu", (rows, nan), ValueError, "negative_slope must be finite, got nan"),
    ("leaky_relu", (rows, "0"), TypeError, "negative_slope must be a number, got str"),
    ("softplus", (rows, 0), ValueError, "beta must be positive, got 0"),
    ("softplus", (rows, 1, nan), ValueError, "threshold must be finite, got nan"),
    ("elu", (rows, nan), ValueError, "alpha must be finite, got nan"),
    ("gelu", (rows, "erf"), ValueError, "approximate must be one of 'none', 'tanh', got 'erf'"),
    ("softmax", (rows, 2), IndexError, r"softmax: dim must lie in \[-2, 2\), got 2"),
    ("softmax", (rows, None), TypeError, "softmax: dim must be an int, got NoneType"),
    ("log_softmax", (rows, 1.0), TypeError, "log_softmax: dim must be an int, got float"),
    ("cross_entropy", (rows, labels + 2), IndexError, r"target must lie in \[0, 5\) or be ignore_index -100, got 5"),
    ("cross_entropy", (rows, labels - 1), IndexError, r"target must lie in \[0, 5\) .*got -1"),
    ("cross_entropy", (rows, fd.ones(4)), TypeError, "target must be int32 or int64, got float32"),
    ("cross_entropy", (rows, labels[:3]), ValueError, r"target must have shape \(4,\), got \(3,\)"),
    ("cross_entropy", (rows, labels, fd.ones(4)), ValueError, r"weight must have shape \(5,\), got \(4,\)"),
    ("cross_entropy", (rows, labels, fd.ones(5, requires_grad=True)), ValueError, "weight must not require grad"),
    ("cross_entropy", (fd.tensor(1.0), labels), ValueError, "input must have at least 1 dimension"),
    ("cross_entropy", (fd.ones(2, 3, 4), labels), ValueError, r"target must have shape \(2, 4\), got \(4,\)"),
    ("embedding", (fd.tensor([0, 9]), rows), IndexError, r"index must lie in \[0, 4\), got 9"),
    ("embedding", (fd.tensor([-1]), rows), IndexError, r"index must lie in \[0, 4\), got -1"),
    ("embedding", (fd.ones(2), rows), TypeError, "index must be int32 or int64, got float32"),
    ("embedding", (labels, fd.ones(3)), ValueError, r"weight must have 2 dimensions \(R, D\), got shape \(3,\)"),
    ("embedding", (labels, rows, 4), ValueError, r"padding_idx must lie in \[-4, 4\), got 4"),
    ("embedding", (labels, rows, 1.5), TypeError, "padding_idx must be an int or None, got float"),
    ("dropout", (rows, -0.1), ValueError, r"p must be in \[0, 1\], got -0.1"),
    ("dropout", (rows, 1.1), ValueError, r"p must be in \[0, 1\], got 1.1"),
    ("dropout", (rows, nan), ValueError, r"p must be in \[0, 1\], got nan"),
    ("dropout", (rows, 0.5, 1), TypeError, "training must be a bool, got int"),
    ("dropout", (labels,), TypeError, "x must be float32 or float64, got int64"),
    ("matmul", (rows, fd.ones(4, 2)), ValueError, "other must have 5 rows like the columns of input"),
    ("matmul", (fd.tensor(1.0), rows), ValueError, "must have at least 1 dimension"),
    ("matmul", (fd.ones(2, 3, 4), fd.ones(3, 4, 2)), ValueError, "broadcast"),
    ("mm", (rows, fd.ones(5)), ValueError, r"mat2 must have 2 dimensions, got shape \(5,\)"),
    ("bmm", (fd.ones(2, 3, 4), fd.ones(3, 4, 2)), ValueError, "mat2 must hold 2 matrices like input"),
    ("dot", (rows, rows), ValueError, r"input must have 1 dimensions, got shape \(4, 5\)"),
    ("sum", (rows, 2), IndexError, r"sum: dim must lie in \[-2, 2\), got 2"),
    ("sum", (rows, (0, -2)), ValueError, r"sum: dim must not repeat, got \(0, -2\)"),
    ("sum", (rows, 1.0), TypeError, "sum: dim must be an int, got float"),
    ("mean", (labels,), TypeError, "mean: input must be float32 or float64, got int64"),
    ("max", (fd.ones(0),), ValueError, r"max: input must have at least one element, got shape \(0,\)"),
    ("min", (fd.ones(2, 0), 1), ValueError, "min: input must have at least one element along dim 1"),
    ("argmax", (fd.ones(0, 2), 0), ValueError, "argmax: input must have at least one element"),
    ("reshape", (rows, 3, 7), ValueError, r"reshape: shape must hold 20 elements, got \(3, 7\) for \(4, 5\)"),
    ("reshape", (rows, -1, -1), ValueError, "reshape: shape must hold 20 elements"),
    ("reshape", (rows, -1, 3), ValueError, "reshape: shape must hold 20 elements"),
    ("reshape", (rows, -2, -10), ValueError, "reshape: shape must hold 20 elements"),
    ("reshape", (rows, 2.0, 10), TypeError, "reshape: shape must be ints, got float"),
    ("flatten", (rows, 1, 0), ValueError, "start_dim must not come after end_dim, got 1 and 0"),
    ("flatten", (rows, 2), IndexError, r"flatten: start_dim must lie in \[-2, 2\), got 2"),
    ("permute", (rows, 0, 0), ValueError, r"permute: dims must name each of 2 dims once, got \(0, 0\)"),
    ("transpose", (rows, 0, 2), IndexError, r"transpose: dim1 must lie in \[-2, 2\), got 2"),
    ("t", (images,), ValueError, r"t: input must have at most 2 dimensions, got shape \(2, 3, 6, 6\)"),
    ("unsqueeze", (rows, 3), IndexError, r"unsqueeze: dim must lie in \[-3, 3\), got 3"),
    ("squeeze", (rows, 2), IndexError, r"squeeze: dim must lie in \[-2, 2\), got 2"),
    ("expand", (rows, 3, 5), ValueError, r"expand: sizes must be \(4, 5\) .*got \(3, 5\)"),
    ("expand", (rows, 5), ValueError, "expand: sizes must be"),
    ("expand", (rows, -1, 4, 5), ValueError, "expand: sizes must be"),
    ("split", (rows, 0), ValueError, "split: split_size must be positive, got 0"),
    ("index_select", (rows, 0, fd.ones(2)), TypeError, "index must be a 1-D integer tensor, got float32"),
    ("index_select", (rows, 0, labels + 1), IndexError, r"index must lie in \[-4, 4\), got 4"),
    ("masked_select", (rows, labels > 0), ValueError, r"mask must be bool of shape \(4, 5\)"),
    ("where", (labels, rows, rows), TypeError, "where: condition must be bool, got int64"),
    ("where", (fd.ones(3, dtype="bool"), rows, rows), ValueError, "where: .*broadcast"),
    ("clamp", (rows,), ValueError, "clamp: min or max must be given, got None for both"),
    ("clamp", (rows, nan), ValueError, "clamp: min must be a number, got nan"),
    ("clamp", (rows, rows), TypeError, "clamp: min must be a number or None, got Tensor"),
    ("pow", (labels, -1), ValueError, "[Ii]ntegers? to negative"),
    ("neg", (labels > 0,), TypeError, "neg: input must be a number type, got bool"),
    ("mse_loss", (rows, fd.ones(4, 4)), ValueError, r"target must broadcast with input, got shape \(4, 4\)"),
]


@pytest.mark.parametrize("name, args, error, message", TABLE, ids=[f"{row[0]}-{i}" for i, row in enumerate(TABLE)])
def test_bad_arguments(host, name, args, error, message):
    with pytest.raises(error, match=message):
        getattr(F, name)(*args)


@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "l1_loss", "binary_cross_entropy_with_logits"])
def test_bad_reduction(host, name):
    target = labels if name == "cross_entropy" else rows
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none', got 'average'"):
        getattr(F, name)(rows, target, reduction="average")


def test_bad_keyword_arguments(host):
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 1.5"):
        F.cross_entropy(rows, labels, label_smoothing=1.5)
    with pytest.raises(ValueError, match="label_smoothing must be finite, got nan"):
        F.cross_entropy(rows, labels, label_smoothing=nan)
    with pytest.raises(TypeError, match="ignore_index must be an int, got float"):
        F.cross_entropy(rows, labels, ignore_index=1.0)
    bce = F.binary_cross_entropy_with_logits
    with pytest.raises(ValueError, match="target must not require grad"):
        bce(rows, fd.ones(4, 5, requires_grad=True))
    with pytest.raises(ValueError, match=r"target must have shape \(4, 5\), got \(5,\)"):
        bce(rows, fd.ones(5))
    with pytest.raises(ValueError, match=r"weight must broadcast to input \(4, 5\), got shape \(4,\)"):
        bce(rows, rows, fd.ones(4))
    with pytest.raises(ValueError, match="pos_weight must"):
        bce(rows, rows, pos_weight=fd.ones(4))


def test_losses_warn_when_they_broadcast():
    with pytest.warns(UserWarning, match=r"mse_loss: input \(4, 5\) and target \(5,\) differ in shape"):
        loss = F.mse_loss(rows, fd.zeros(5))
    assert loss.item() == 1.0
