"""Sequential, ModuleList, ModuleDict."""

from collections import OrderedDict

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn


def layers(n):
    return [nn.Linear(2, 2) for _ in range(n)]


def test_sequential_calls_in_order():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    x = fd.tensor(np.random.default_rng(0).standard_normal((2, 2, 2)).astype(np.float32))
    assert model(x).tolist() == model[2](model[1](model[0](x))).tolist()
    assert nn.Sequential()(x) is x


def test_sequential_of_names():
    a, b, c = layers(3)
    model = nn.Sequential(OrderedDict(first=a, second=b))
    assert model.first is a and model[1] is b and model[-1] is b
    assert list(model.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    model[0] = c
    assert model.first is c and [name for name, _ in model.named_children()] == ["first", "second"]


@pytest.mark.parametrize("kind", [lambda *m: nn.Sequential(*m), lambda *m: nn.ModuleList(m)])
def test_numbered(kind):
    a, b, c, d = layers(4)
    row = kind(a, b, c)
    assert len(row) == 3 and list(row) == [a, b, c] and b in row
    assert row[0] is a and row[-1] is c and row[np.int64(1)] is b
    assert type(row[1:]) is type(row) and list(row[1:]) == [b, c] and list(row[::2]) == [a, c]
    assert row.append(d) is row and [name for name, _ in row.named_children()] == ["0", "1", "2", "3"]
    del row[1]
    assert list(row) == [a, c, d] and [name for name, _ in row.named_children()] == ["0", "1", "2"]
    assert getattr(row, "1") is c and not hasattr(row, "3")
    assert row.insert(1, b) is row and list(row) == [a, b, c, d]
    assert row.pop() is d and row.pop(0) is a and list(row) == [b, c]
    assert row.extend([a, d]) is row and list(row) == [b, c, a, d]
    del row[1:3]
    assert list(row) == [b, d]
    row[1] = a
    assert list(row) == [b, a]
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"index {index} is out of range for {type(row).__name__} of length 2"):
            row[index]
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        row.append(3)
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        row.insert(0, 3)
    with pytest.raises(TypeError):
        row["0"]
    assert list(row) == [b, a]


def test_append_to_a_slice_takes_a_free_name():
    a, b, c, d = layers(4)
    part = nn.Sequential(a, b, c)[1:]
    part.append(d)
    assert list(part) == [b, c, d]


def test_list_has_no_forward():
    with pytest.raises(NotImplementedError):
        nn.ModuleList(layers(1))(1)


def test_dict():
    a, b, c = layers(3)
    table = nn.ModuleDict({"x": a, "y": b})
    assert table["x"] is a and list(table) == ["x", "y"] and len(table) == 2 and "y" in table
    table["z"] = c
    assert list(table.keys()) == ["x", "y", "z"] and list(table.values()) == [a, b, c]
    assert dict(table.items()) == {"x": a, "y": b, "z": c}
    assert table.pop("y") is b and "y" not in table
    del table["x"]
    table.update([("q", a)])
    assert list(table.state_dict()) == ["z.weight", "z.bias", "q.weight", "q.bias"]
    table.clear()
    assert len(table) == 0 and list(table.parameters()) == []
    for call in (lambda: table["x"], lambda: table.pop("x"), lambda: table.__delitem__("x")):
        with pytest.raises(KeyError):
            call()
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        table["x"] = 3
