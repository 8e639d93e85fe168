"""Everything that can be computed with Tensors: the names of torch and torch.nn.functional.

One file per kernel family; each operation is a small class with forward and backward made of kernel calls.
"""

from .activation import elu, gelu, leaky_relu, relu, sigmoid, softplus, tanh
from .batch_norm import batch_norm
from .conv2d import conv2d
from .copy import (
    broadcast_to,
    cat,
    clone,
    contiguous,
    expand,
    flatten,
    permute,
    reshape,
    split,
    squeeze,
    stack,
    t,
    transpose,
    unsqueeze,
)
from .cross_entropy import cross_entropy
from .dropout import dropout
from .elementwise import (
    add,
    div,
    eq,
    floor_divide,
    ge,
    gt,
    le,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    pow,
    remainder,
    sub,
)
from .embedding import embedding
from .gemm import bmm, dot, matmul, mm
from .im2col import fold, unfold
from .index import index_select, masked_select
from .linear import linear
from .loss import binary_cross_entropy_with_logits, l1_loss, mse_loss
from .pointwise import (
    abs,
    clamp,
    exp,
    log,
    masked_fill,
    neg,
    sqrt,
    square,
    where,
)
from .pool2d import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from .reduce import argmax, argmin, max, mean, min, sum, var
from .softmax import log_softmax, softmax

__all__ = [
    "abs", "adaptive_avg_pool2d", "add", "argmax", "argmin", "avg_pool2d", "batch_norm",
    "binary_cross_entropy_with_logits", "bmm", "broadcast_to", "cat", "clamp", "clone", "contiguous",
    "conv2d", "cross_entropy", "div", "dot", "dropout", "elu", "embedding", "eq", "exp", "expand", "flatten",
    "floor_divide", "fold", "ge", "gelu", "gt", "index_select", "l1_loss", "le", "leaky_relu", "linear",
    "log", "log_softmax", "lt", "masked_fill", "masked_select", "matmul", "max", "max_pool2d", "maximum",
    "mean", "min", "minimum", "mm", "mse_loss", "mul", "ne", "neg", "permute", "pow", "relu", "remainder",
    "reshape", "sigmoid", "softmax", "softplus", "split", "sqrt", "square", "squeeze", "stack", "sub", "sum",
    "t", "tanh", "transpose", "unfold", "unsqueeze", "var", "where",
]  # fmt: skip
