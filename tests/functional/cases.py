"""One table of calls for every function of fastdl.functional; gradcheck and the torch comparison walk it."""

from __future__ import annotations

import numpy as np


class Spec:
    """An array to be made: its shape and how to draw it."""

    def __init__(self, shape, draw):
        self.shape, self.draw = shape, draw

    def make(self, rng) -> np.ndarray:
        return np.asarray(self.draw(rng, self.shape))


def T(*shape):
    """Normal floats, differentiated."""
    return Spec(shape, lambda rng, s: rng.standard_normal(s))


def P(*shape):
    """Floats in [0.5, 2), differentiated."""
    return Spec(shape, lambda rng, s: rng.uniform(0.5, 2, s))


def C(*shape):
    """Floats in [0.5, 2), constant."""
    spec = P(*shape)
    spec.constant = True
    return spec


def N(high, *shape):
    """Integers in [0, high)."""
    return Spec(shape, lambda rng, s: rng.integers(0, high, s))


def B(*shape):
    """Bools."""
    return Spec(shape, lambda rng, s: rng.random(s) < 0.5)


def X(array):
    """Just this array: floats are differentiated."""
    return Spec((), lambda rng, s: np.array(array))


class Case:
    """A call: the name of the function and its arguments, Specs and plain values.

    torch: torch has the like. differentiable: it has a derivative, and backward gives that.
    """

    def __init__(self, name, *args, torch=True, differentiable=True, **kwargs):
        self.name, self.args, self.kwargs = name, args, kwargs
        self.torch, self.differentiable = torch, differentiable

    def __str__(self):
        parts = [self._text(a) for a in self.args] + [f"{k}={self._text(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"

    def _text(self, value):
        if isinstance(value, Spec):
            return "x".join(map(str, value.shape)) or "()"
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Spec):
            return "[" + " ".join(map(self._text, value)) + "]"
        return str(value)

    def arrays(self, dtype=np.float64) -> list:
        """[(array, differentiated)] of the Specs, in order; floats in the given dtype."""
        rng = np.random.default_rng(abs(hash_of(str(self))))
        made = []
        for spec in self.specs():
            array = spec.make(rng)
            floating = array.dtype.kind == "f"
            array = array.astype(dtype) if floating else array
            made.append((array, floating and not getattr(spec, "constant", False)))
        return made

    def specs(self) -> list:
        found = []
        for value in (*self.args, *self.kwargs.values()):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Spec):
                    found.append(item)
        return found

    def call(self, function, tensors):
        """function with the tensors in the places of the Specs."""
        left = iter(tensors)

        def fill(value):
            if isinstance(value, list):
                return [fill(item) for item in value]
            return next(left) if isinstance(value, Spec) else value

        args = [fill(a) for a in self.args]
        return function(*args, **{k: fill(v) for k, v in self.kwargs.items()})


def hash_of(text: str) -> int:
    """A hash that does not change from run to run."""
    value = 0
    for char in text.encode():
        value = (value * 131 + char) % 2**61
    return value


ties = X([[1.0, 3.0, 3.0], [3.0, 0.0, -1.0]])

CASES = [
    # Arithmetic, with and without broadcasting
    *[Case(name, T(3, 4), T(3, 4)) for name in ("add", "sub", "mul", "maximum", "minimum")],
    *[Case(name, T(2, 1, 4), T(3, 1)) for name in ("add", "sub", "mul", "maximum", "minimum")],
    *[Case(name, T(0, 4), T(4)) for name in ("add", "mul")],
    Case("add", T(), T(2)),
    Case("add", T(2, 3), 1.5),
    Case("sub", T(3), 2),
    Case("mul", T(3), -2.5),
    Case("div", T(3, 4), P(3, 4)),
    Case("div", T(4), P(2, 1, 4)),
    Case("div", T(3), 4.0),
    Case("pow", P(3, 2), T(3, 2)),
    Case("pow", P(3, 1), T(2)),
    Case("pow", T(5), 2),
    Case("pow", T(5), 0),
    Case("pow", P(5), -1.5),
    Case("pow", 2.0, T(3)),
    Case("pow", X([0.0, 1.0, 2.0]), 3),
    # Functions of one tensor
    *[Case(name, T(3, 4)) for name in ("neg", "exp", "abs", "square", "sigmoid", "tanh", "relu", "clone")],
    *[Case(name, P(3, 4)) for name in ("log", "sqrt")],
    *[Case(name, T()) for name in ("exp", "relu", "tanh")],
    Case("clamp", T(10), -0.5, 0.5),
    Case("clamp", T(10), min=0.1),
    Case("clamp", T(10), max=0.1),
    Case("where", B(3, 4), T(3, 4), T(4)),
    Case("where", B(4), T(3, 1), 2.0),
    Case("where", B(4), 1.0, T(4)),
    Case("masked_fill", T(3, 4), B(4), 7.0),
    # Reductions
    *[Case(name, T(2, 3, 4)) for name in ("sum", "mean", "max", "min", "var")],
    *[Case(name, T(2, 3, 4), 1) for name in ("sum", "mean", "max", "min", "var")],
    *[Case(name, T(2, 3, 4), -1, True) for name in ("sum", "mean", "max", "min")],
    *[Case(name, T(2, 3, 4), (0, 2)) for name in ("sum", "mean", "var")],
    Case("sum", T(0, 3)),
    Case("sum", T(0, 3), 0),
    Case("var", T(3, 4), 1, correction=0, keepdim=True),
    Case("max", ties, differentiable=False),
    Case("max", ties, 1, differentiable=False),
    Case("min", ties),
    Case("max", T(3), T(3)),
    Case("min", T(3), T(3)),
    # Shapes
    Case("reshape", T(2, 6), (3, -1)),
    Case("flatten", T(2, 3, 2), 1),
    Case("flatten", T()),
    Case("permute", T(2, 3, 4), (2, 0, 1)),
    Case("transpose", T(2, 3, 4), 0, -1),
    Case("t", T(2, 3)),
    Case("unsqueeze", T(2, 3), -1),
    Case("squeeze", T(2, 1, 3, 1)),
    Case("squeeze", T(2, 1, 3, 1), 1),
    Case("expand", T(3, 1), (2, -1, 4)),
    Case("broadcast_to", T(3, 1), (2, 3, 4)),
    Case("contiguous", T(2, 3)),
    Case("cat", [T(2, 3), T(1, 3)]),
    Case("cat", [T(2, 3), T(2, 0), T(2, 2)], -1),
    Case("stack", [T(2, 3), T(2, 3)], 1),
    Case("stack", [T(2), T(2)], -1),
    Case("split", T(5, 2), 2),
    Case("split", T(2, 5), 3, 1),
    Case("index_select", T(4, 3), 0, N(4, 6)),
    Case("index_select", T(2, 4, 3), 1, N(4, 2)),
    Case("masked_select", T(3, 4), B(3, 4)),
    # Products
    Case("matmul", T(3), T(3)),
    Case("matmul", T(2, 3), T(3)),
    Case("matmul", T(3), T(3, 4)),
    Case("matmul", T(2, 3), T(3, 4)),
    Case("matmul", T(2, 2, 3), T(3, 4)),
    Case("matmul", T(5, 1, 2, 3), T(2, 3, 2)),
    Case("matmul", T(2, 3), T(4, 3, 2)),
    Case("matmul", T(3), T(2, 3, 4)),
    Case("matmul", T(2, 4, 3), T(3)),
    Case("matmul", T(2, 0), T(0, 3)),
    Case("mm", T(2, 3), T(3, 4)),
    Case("bmm", T(2, 2, 3), T(2, 3, 4)),
    Case("dot", T(4), T(4)),
    Case("linear", T(5, 3), T(4, 3), T(4)),
    Case("linear", T(2, 5, 3), T(4, 3)),
    Case("linear", T(3), T(4, 3), T(4)),
    Case("linear", T(0, 3), T(4, 3), T(4)),
    # Windows
    Case("unfold", T(2, 2, 4, 5), 2),
    Case("unfold", T(1, 2, 5, 5), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)),
    Case("unfold", T(2, 4, 4), 3),
    Case("fold", T(2, 8, 12), (4, 5), 2),
    Case("fold", T(1, 12, 20), (5, 5), (2, 3), dilation=(2, 1), padding=(1, 2), stride=(1, 2)),
    Case("fold", T(8, 9), 4, 2),
    Case("conv2d", T(2, 3, 5, 5), T(4, 3, 3, 3), T(4)),
    Case("conv2d", T(2, 4, 5, 6), T(6, 2, 3, 2), None, (2, 1), (1, 2), (1, 2), 2),
    Case("conv2d", T(2, 3, 4, 4), T(3, 1, 3, 3), T(3), padding=1, groups=3),
    Case("conv2d", T(3, 4, 4), T(2, 3, 1, 1), T(2)),
    Case("conv2d", T(1, 2, 5, 5), T(2, 2, 3, 3), padding="same", dilation=2),
    Case("conv2d", T(1, 2, 5, 5), T(2, 2, 3, 3), padding="valid", stride=2),
    Case("conv2d", T(0, 2, 5, 5), T(2, 2, 3, 3), T(2)),
    Case("max_pool2d", T(2, 2, 4, 6), 2),
    Case("max_pool2d", T(1, 2, 5, 5), 3, 2, 1, return_indices=True),
    Case("max_pool2d", T(1, 2, 6, 5), (2, 3), (2, 1), (1, 1), (2, 1), ceil_mode=True),
    Case("max_pool2d", T(2, 5, 5), 2, return_indices=True),
    Case("avg_pool2d", T(2, 2, 4, 6), 2),
    Case("avg_pool2d", T(1, 2, 5, 5), 3, 2, 1),
    Case("avg_pool2d", T(1, 2, 5, 6), (3, 2), (2, 2), (1, 0), True, False),
    Case("avg_pool2d", T(1, 2, 5, 5), 3, 2, 1, divisor_override=5),
    Case("avg_pool2d", T(2, 5, 5), 2),
    Case("adaptive_avg_pool2d", T(2, 2, 5, 7), 3),
    Case("adaptive_avg_pool2d", T(2, 5, 7), (None, 2)),
    # Normalisation and activations
    Case("batch_norm", T(5, 3), None, None, T(3), T(3), True),
    Case("batch_norm", T(2, 3, 4), None, None, training=True, eps=0.1),
    Case("batch_norm", T(2, 3, 2, 2), None, None, T(3), None, True),
    Case("batch_norm", T(2, 3, 2, 2), C(3), C(3), T(3), T(3)),
    Case("batch_norm", T(4, 3), C(3), C(3)),
    Case("leaky_relu", T(3, 4)),
    Case("leaky_relu", T(3, 4), 0.3),
    Case("softplus", T(3, 4)),
    Case("softplus", T(3, 4), 2.0, 0.7),
    Case("elu", T(3, 4)),
    Case("elu", T(3, 4), 0.4),
    Case("gelu", T(3, 4)),
    Case("gelu", T(3, 4), approximate="tanh"),
    Case("softmax", T(3, 4), 1),
    Case("softmax", T(2, 3, 4), -2),
    Case("log_softmax", T(3, 4), 1),
    Case("log_softmax", T(2, 3, 4), 0),
    # Losses
    Case("cross_entropy", T(4, 5), N(5, 4)),
    Case("cross_entropy", T(4, 5), N(5, 4), C(5), label_smoothing=0.1, reduction="sum"),
    Case("cross_entropy", T(6, 3), N(3, 6), C(3), ignore_index=1),
    Case("cross_entropy", T(6, 3), N(3, 6), reduction="none"),
    Case("cross_entropy", T(2, 3, 2, 4), N(3, 2, 2, 4), C(3), label_smoothing=0.2, reduction="none"),
    Case("cross_entropy", T(2, 3, 5), N(3, 2, 5)),
    Case("cross_entropy", T(5), N(5)),
    Case("cross_entropy", T(5), N(5), reduction="none"),
    *[Case(name, T(3, 4), T(3, 4), reduction=r) for name in ("mse_loss", "l1_loss") for r in ("mean", "sum", "none")],
    Case("binary_cross_entropy_with_logits", T(3, 4), C(3, 4)),
    Case("binary_cross_entropy_with_logits", T(3, 4), C(3, 4), C(4), pos_weight=C(4), reduction="sum"),
    Case("binary_cross_entropy_with_logits", T(3, 4), C(3, 4), reduction="none", pos_weight=C(3, 4)),
    # Lookup and dropout
    Case("embedding", N(5, 2, 3), T(5, 4)),
    Case("embedding", X([2, 0, 2, 4]), T(5, 4), 2, differentiable=False),
    Case("embedding", X([[2, 0], [2, 4]]), T(5, 4), padding_idx=-1, differentiable=False),
    Case("dropout", T(4, 5), 0.3, torch=False),
    Case("dropout", T(2, 3, 2, 2), 0.5, torch=False),
    Case("dropout", T(4), 0.5, False),
]

# Without a gradient: compared with torch in forward only.
UNGRADED = [
    *[Case(name, ties, X([[3.0, 3.0, 3.0]])) for name in ("eq", "ne", "lt", "le", "gt", "ge")],
    *[Case(name, N(5, 4), 2) for name in ("eq", "lt")],
    *[Case(name, ties) for name in ("argmax", "argmin")],
    *[Case(name, T(2, 3, 4), 1) for name in ("argmax", "argmin")],
    Case("argmax", N(9, 3, 4), 0, True),
    *[Case(name, T(3, 4), P(4)) for name in ("floor_divide", "remainder")],
    *[Case(name, N(9, 4), 3) for name in ("floor_divide", "remainder", "add", "sub", "mul", "div", "pow")],
    Case("sum", N(9, 3, 4), 0),
    Case("sum", B(3, 4)),
    Case("max", N(9, 3, 4), 1),
    Case("max", N(9, 3, 4)),
    Case("cat", [N(3, 2), N(3, 2)]),
    Case("where", B(3), N(5, 3), 1),
    Case("matmul", N(5, 2, 3), N(5, 3, 2)),
]
