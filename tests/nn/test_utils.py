"""nn.utils: parameters as one vector and back; clipping is the optimizers'. And `nn.functional` as a module."""

import importlib

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn
from fastdl.optim import clip


def test_vector_round_trip():
    model, other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    vector = nn.utils.parameters_to_vector(model.parameters())
    want = np.concatenate([p.data.reshape(-1) for p in model.parameters()])
    np.testing.assert_array_equal(vector.detach().numpy(), want)
    arrays = [p.data for p in other.parameters()]
    nn.utils.vector_to_parameters(vector.detach(), other.parameters())
    assert all(p.data is array for p, array in zip(other.parameters(), arrays))  # in place: optimizers own the memory
    np.testing.assert_array_equal(nn.utils.parameters_to_vector(other.parameters()).detach().numpy(), want)


def test_gradients_flow_through_the_vector():
    layer = nn.Linear(2, 1)
    nn.utils.parameters_to_vector(layer.parameters()).sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1]] and layer.bias.grad.tolist() == [1]


BAD = [
    (np.zeros(3, np.float32), TypeError, "vector_to_parameters: vec must be a Tensor, got ndarray"),
    (fd.zeros(4), ValueError, r"vector_to_parameters: vec must have shape \(3,\), got \(4,\)"),
    (fd.zeros(3, 1), ValueError, r"vector_to_parameters: vec must have shape \(3,\), got \(3, 1\)"),
]


@pytest.mark.parametrize("vector, error, message", BAD)
def test_bad_vector(vector, error, message):
    with pytest.raises(error, match=message):
        nn.utils.vector_to_parameters(vector, nn.Linear(2, 1).parameters())


def test_one_function_under_two_names():
    assert nn.utils.clip_grad_norm_ is clip.clip_grad_norm_
    assert nn.utils.clip_grad_value_ is clip.clip_grad_value_
    assert importlib.import_module("fastdl.nn.functional") is fd.functional is nn.functional
