"""Constructor arguments that layers refuse, in which words, and inputs they can't take."""

import math

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn

NAN, INF = math.nan, math.inf

CONSTRUCTORS = [
    (lambda: nn.Linear(0, 3), ValueError, "Linear: in_features must be at least 1, got 0"),
    (lambda: nn.Linear(3, -1), ValueError, "Linear: out_features must be at least 1, got -1"),
    (lambda: nn.Linear(2.5, 3), TypeError, "Linear: in_features must be an int, got 2.5"),
    (lambda: nn.Linear(True, 3), TypeError, "Linear: in_features must be an int, got True"),
    (lambda: nn.Linear(2, 3, "no"), TypeError, "Linear: bias must be True or False, got 'no'"),
    (lambda: nn.Linear(2, 3, dtype="int32"), TypeError, "layer: dtype must be float32, float64 or bfloat16, got int32"),
    (lambda: nn.Conv2d(0, 1, 3), ValueError, "Conv2d: in_channels must be at least 1, got 0"),
    (lambda: nn.Conv2d(1, 0, 3), ValueError, "Conv2d: out_channels must be at least 1, got 0"),
    (lambda: nn.Conv2d(1, 1, 0), ValueError, "Conv2d: kernel_size must be at least 1, got 0"),
    (lambda: nn.Conv2d(1, 1, (3, 3, 3)), TypeError,
     "Conv2d: kernel_size must be an int or a pair of ints, got (3, 3, 3)"),
    (lambda: nn.Conv2d(1, 1, 3, stride=0), ValueError, "Conv2d: stride must be at least 1, got 0"),
    (lambda: nn.Conv2d(1, 1, 3, stride=(1, -2)), ValueError,
     "Conv2d: stride must be at least 1, got (1, -2)"),
    (lambda: nn.Conv2d(1, 1, 3, padding=-1), ValueError, "Conv2d: padding must be at least 0, got -1"),
    (lambda: nn.Conv2d(1, 1, 3, padding=NAN), TypeError,
     "Conv2d: padding must be an int or a pair of ints, got nan"),
    (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError,
     "Conv2d: padding must be one of 'same', 'valid', got 'full'"),
    (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), ValueError,
     "Conv2d: padding 'same' needs stride (1, 1), got stride (2, 2)"),
    (lambda: nn.Conv2d(1, 1, 3, dilation=0), ValueError, "Conv2d: dilation must be at least 1, got 0"),
    (lambda: nn.Conv2d(1, 1, 3, groups=0), ValueError, "Conv2d: groups must be at least 1, got 0"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError,
     "Conv2d: in_channels must be divisible by groups 2, got 3"),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError,
     "Conv2d: out_channels must be divisible by groups 2, got 3"),
    (lambda: nn.Conv2d(1, 1, 3, padding_mode="reflect"), ValueError,
     "Conv2d: padding_mode must be one of 'zeros', got 'reflect'"),
    (lambda: nn.MaxPool2d(0), ValueError, "MaxPool2d: kernel_size must be at least 1, got 0"),
    (lambda: nn.MaxPool2d(2, stride=0), ValueError, "MaxPool2d: stride must be at least 1, got 0"),
    (lambda: nn.MaxPool2d(2, padding=2), ValueError,
     "MaxPool2d: padding must be at most half of kernel_size 2, got 2"),
    (lambda: nn.MaxPool2d(2, dilation=-1), ValueError, "MaxPool2d: dilation must be at least 1, got -1"),
    (lambda: nn.MaxPool2d(2, return_indices=1), TypeError,
     "MaxPool2d: return_indices must be True or False, got 1"),
    (lambda: nn.MaxPool2d("2"), TypeError,
     "MaxPool2d: kernel_size must be an int or a pair of ints, got '2'"),
    (lambda: nn.AvgPool2d((2, 0)), ValueError, "AvgPool2d: kernel_size must be at least 1, got (2, 0)"),
    (lambda: nn.AvgPool2d(3, padding=2), ValueError,
     "AvgPool2d: padding must be at most half of kernel_size 3, got 2"),
    (lambda: nn.AvgPool2d(3, ceil_mode="x"), TypeError,
     "AvgPool2d: ceil_mode must be True or False, got 'x'"),
    (lambda: nn.AvgPool2d(3, divisor_override=0), ValueError,
     "AvgPool2d: divisor_override must be at least 1, got 0"),
    (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "AdaptiveAvgPool2d: output_size must be at least 1, got"),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), TypeError,
     "AdaptiveAvgPool2d: output_size must be an int or a pair"),
    (lambda: nn.BatchNorm1d(0), ValueError, "BatchNorm1d: num_features must be at least 1, got 0"),
    (lambda: nn.BatchNorm2d(3, eps=NAN), ValueError,
     "BatchNorm2d: eps must be finite and at least 0, got nan"),
    (lambda: nn.BatchNorm2d(3, eps=-1.0), ValueError,
     "BatchNorm2d: eps must be finite and at least 0, got -1.0"),
    (lambda: nn.BatchNorm2d(3, momentum=NAN), ValueError,
     "BatchNorm2d: momentum must lie in [0, 1], got nan"),
    (lambda: nn.BatchNorm2d(3, momentum=1.5), ValueError,
     "BatchNorm2d: momentum must lie in [0, 1], got 1.5"),
    (lambda: nn.BatchNorm2d(3, affine=2), TypeError, "BatchNorm2d: affine must be True or False, got 2"),
    (lambda: nn.Dropout(1.1), ValueError, "Dropout: p must lie in [0, 1], got 1.1"),
    (lambda: nn.Dropout(-0.1), ValueError, "Dropout: p must lie in [0, 1], got -0.1"),
    (lambda: nn.Dropout(NAN), ValueError, "Dropout: p must lie in [0, 1], got nan"),
    (lambda: nn.Dropout("half"), TypeError, "Dropout: p must be a number, got 'half'"),
    (lambda: nn.Embedding(0, 3), ValueError, "Embedding: num_embeddings must be at least 1, got 0"),
    (lambda: nn.Embedding(4, 0), ValueError, "Embedding: embedding_dim must be at least 1, got 0"),
    (lambda: nn.Embedding(4, 3, padding_idx=4), ValueError,
     "Embedding: padding_idx must lie in [-4, 4), got 4"),
    (lambda: nn.Embedding(4, 3, padding_idx=0.5), TypeError,
     "Embedding: padding_idx must be an int, got 0.5"),
    (lambda: nn.Embedding.from_pretrained(fd.tensor(np.ones(3, np.float32))), ValueError,
     "Embedding: embeddings must have 2 dimensions, got shape (3,)"),
    (lambda: nn.Flatten("x"), TypeError, "Flatten: start_dim must be an int, got 'x'"),
    (lambda: nn.Unflatten(1, 3), TypeError, "Unflatten: unflattened_size must be a tuple of ints, got 3"),
    (lambda: nn.Unflatten(1, (2, -2)), ValueError, "Unflatten: unflattened_size must be at least -1, got -2"),
    (lambda: nn.LeakyReLU(NAN), ValueError, "LeakyReLU: negative_slope must be finite, got nan"),
    (lambda: nn.LeakyReLU("x"), TypeError, "LeakyReLU: negative_slope must be a number, got 'x'"),
    (lambda: nn.Softplus(beta=0), ValueError, "Softplus: beta must be positive and finite, got 0"),
    (lambda: nn.Softplus(threshold=INF), ValueError, "Softplus: threshold must be finite, got inf"),
    (lambda: nn.ELU(NAN), ValueError, "ELU: alpha must be finite, got nan"),
    (lambda: nn.GELU("fast"), ValueError, "GELU: approximate must be one of 'none', 'tanh', got 'fast'"),
    (lambda: nn.ReLU("yes"), TypeError, "ReLU: inplace must be True or False, got 'yes'"),
    (lambda: nn.Softmax(), TypeError, "Softmax: dim must be an int, got None"),
    (lambda: nn.LogSoftmax(1.0), TypeError, "LogSoftmax: dim must be an int, got 1.0"),
    (lambda: nn.MSELoss(reduction="avg"), ValueError,
     "MSELoss: reduction must be one of 'none', 'mean', 'sum', got 'avg'"),
    (lambda: nn.L1Loss(reduction=None), ValueError, "L1Loss: reduction must be one of"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=1.5), ValueError,
     "CrossEntropyLoss: label_smoothing must lie in [0, 1], got 1.5"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=NAN), ValueError,
     "CrossEntropyLoss: label_smoothing must lie in"),
    (lambda: nn.CrossEntropyLoss(ignore_index=1.5), TypeError,
     "CrossEntropyLoss: ignore_index must be an int, got 1.5"),
    (lambda: nn.BCEWithLogitsLoss(reduction="x"), ValueError, "BCEWithLogitsLoss: reduction must be one of"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, message", CONSTRUCTORS)
def test_constructor(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


def zeros(*shape, dtype=np.float32):
    return fd.tensor(np.zeros(shape, dtype))


CALLS = [
    (lambda: nn.Linear(3, 2)(zeros(4, 5)), ValueError),
    (lambda: nn.Linear(3, 2)(np.zeros((4, 3), np.float32)), TypeError),
    (lambda: nn.Linear(3, 2)(zeros(4, 3, dtype=np.float64)), TypeError),
    (lambda: nn.Linear(3, 2)(zeros(4, 3, dtype=np.int64)), TypeError),
    (lambda: nn.Conv2d(3, 2, 3)(zeros(3, 8)), ValueError),
    (lambda: nn.Conv2d(3, 2, 3)(zeros(1, 4, 8, 8)), ValueError),
    (lambda: nn.Conv2d(3, 2, 5)(zeros(1, 3, 4, 4)), ValueError),
    (lambda: nn.Conv2d(3, 2, 3, padding="same")(zeros(3)), ValueError),
    (lambda: nn.MaxPool2d(3)(zeros(1, 1, 2, 2)), ValueError),
    (lambda: nn.AvgPool2d(3)(zeros(1, 1, 2, 2)), ValueError),
    (lambda: nn.AdaptiveAvgPool2d(3)(zeros(2, 2)), ValueError),
    (lambda: nn.BatchNorm1d(3)(zeros(2, 3, 4, 5)), ValueError),
    (lambda: nn.BatchNorm1d(3)(zeros(2, 4)), ValueError),
    (lambda: nn.BatchNorm1d(3)(zeros(1, 3)), ValueError),
    (lambda: nn.BatchNorm2d(3)(zeros(2, 3)), ValueError),
    (lambda: nn.BatchNorm2d(3)(zeros(1, 3, 1, 1)), ValueError),
    (lambda: nn.Embedding(4, 2)(fd.tensor(np.array([4]))), IndexError),
    (lambda: nn.Embedding(4, 2)(fd.tensor(np.array([-1]))), IndexError),
    (lambda: nn.Embedding(4, 2)(zeros(3)), TypeError),
    (lambda: nn.Unflatten(3, (2, 3))(zeros(2, 6)), ValueError),
    (lambda: nn.Softmax(5)(zeros(2, 6)), (ValueError, IndexError)),
    (lambda: nn.CrossEntropyLoss()(zeros(2, 3), fd.tensor(np.array([0, 3]))), IndexError),
    (lambda: nn.CrossEntropyLoss()(zeros(2, 3), fd.tensor(np.array([0]))), ValueError),
    (lambda: nn.CrossEntropyLoss(zeros(4))(zeros(2, 3), fd.tensor(np.array([0, 1]))), ValueError),
    (lambda: nn.MSELoss()(zeros(2, 3), zeros(4, 5)), ValueError),
    (lambda: nn.BCEWithLogitsLoss()(zeros(2, 3), zeros(2, 4)), ValueError),
]  # fmt: skip


@pytest.mark.parametrize("call, error", CALLS)
def test_call(device, call, error):
    if device == "cuda" and error is IndexError:
        pytest.skip("indices in a GPU's memory are not looked at")
    with pytest.raises(error) as caught:
        call()
    assert ": " in str(caught.value)  # names the kernel or layer


def test_a_refused_batch_leaves_the_statistics_alone(device):
    norm = nn.BatchNorm1d(3, momentum=None)
    before = {name: value.tolist() for name, value in norm.state_dict().items()}
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(zeros(1, 3))
    assert {name: value.tolist() for name, value in norm.state_dict().items()} == before
