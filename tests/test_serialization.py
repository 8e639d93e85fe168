"""fastdl.save and load: what goes in comes out, files are whole or not there, damage is noticed."""

import os

import numpy as np
import pytest

import fastdl as fd
from fastdl import serialization

safetensors = pytest.importorskip("safetensors.numpy")


def test_round_trip_of_a_state_dict(tmp_path):
    model = fd.nn.Sequential(fd.nn.Linear(3, 4), fd.nn.BatchNorm1d(4))
    fd.save(model.state_dict(), tmp_path / "model.safetensors")
    loaded = fd.load(tmp_path / "model.safetensors")
    state = model.state_dict()
    assert loaded.keys() == state.keys()
    for name, value in state.items():
        assert isinstance(loaded[name], fd.Tensor)
        assert loaded[name].dtype == value.dtype and loaded[name].shape == value.shape
        np.testing.assert_array_equal(loaded[name].numpy(), value.detach().numpy())
    model.load_state_dict(loaded)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float64).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10, dtype=np.float32)[::-2],
        np.array(3.5, np.float32),
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
        np.array([-(2**63), 2**63 - 1]),
        np.arange(5, dtype=np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_any_array_comes_back_as_it_was(tmp_path, array):
    fd.save({"x": array}, tmp_path / "x.safetensors")
    back = fd.load(tmp_path / "x.safetensors")["x"]
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back.numpy(), array)


def test_nested_state(tmp_path):
    optimizer = fd.optim.Adam([fd.tensor(np.ones((2, 3), np.float32), requires_grad=True)])
    fd.save({"optimizer": optimizer.state_dict(), "x": [1, (2.5, None)], "ok": True}, tmp_path / "s.safetensors")
    back = fd.load(tmp_path / "s.safetensors")
    assert back["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert back["x"] == [1, (2.5, None)] and back["ok"] is True


def test_keys_that_are_no_strings_and_names_that_collide(tmp_path):
    one, two = np.zeros(1), np.ones(1)
    state = {"a": {"b.c": one}, "a.b": {"c": two}, "n": {0: one, 1: two}}
    fd.save(state, tmp_path / "s.safetensors")
    back = fd.load(tmp_path / "s.safetensors")
    assert back["a"]["b.c"].item() == 0 and back["a.b"]["c"].item() == 1
    assert list(back["n"]) == [0, 1] and back["n"][1].item() == 1


def test_files_of_other_libraries_are_read(tmp_path):
    safetensors.save_file({"w": np.ones((2, 2), np.float32)}, tmp_path / "other.safetensors")
    np.testing.assert_array_equal(fd.load(tmp_path / "other.safetensors")["w"].numpy(), np.ones((2, 2)))


def test_a_type_that_tensors_do_not_hold(tmp_path):
    safetensors.save_file({"w": np.ones(2, np.float16)}, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match="half.safetensors: w: dtype must be float32.*got float16"):
        fd.load(tmp_path / "half.safetensors")


def test_a_flat_state_is_plain_safetensors(tmp_path):
    fd.save({"w": np.arange(3.0)}, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(safetensors.load_file(tmp_path / "w.safetensors")["w"], np.arange(3.0))


def test_both_orders_of_arguments(tmp_path):
    fd.save(tmp_path / "w.safetensors", {"w": np.arange(3.0)})
    assert fd.load(tmp_path / "w.safetensors")["w"].shape == (3,)


@pytest.mark.parametrize(
    "state, error, text",
    [
        ([1], TypeError, "save: state must be a dict of tensors, got list"),
        ({"a": object()}, TypeError, "save: a must be a tensor, array, number"),
        ({"a": {"b": {1, 2}}}, TypeError, "save: a.b must be a tensor, array, number"),
    ],
)
def test_what_cannot_be_saved(tmp_path, state, error, text):
    with pytest.raises(error, match=text):
        fd.save(state, tmp_path / "x.safetensors")
    assert os.listdir(tmp_path) == []


def _damage(tmp_path, change):
    path = tmp_path / "x.safetensors"
    fd.save({"x": np.arange(100, dtype=np.float32), "n": {"a": 1}}, path)
    raw = bytearray(path.read_bytes())
    path.write_bytes(bytes(change(raw)))
    return path


def _flip(at):
    def change(raw):
        raw[at] ^= 1
        return raw

    return change


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda raw: b"", "truncated or no safetensors"),
        (lambda raw: raw[:5], "truncated or no safetensors"),
        (lambda raw: raw[:60], "truncated or no safetensors"),
        (lambda raw: raw[:-1], "truncated or no safetensors"),
        (lambda raw: raw + b"!", "truncated or no safetensors"),
        (lambda raw: b"\xff" * len(raw), "truncated or no safetensors"),
        (lambda raw: b"PK\x03\x04" + raw[4:], "truncated or no safetensors"),
        (_flip(-1), "does not match its checksum"),
        (_flip(-200), "does not match its checksum"),
        (lambda raw: raw.replace(b'\\"a\\": 1', b'\\"a\\": 7'), "does not match its checksum"),
    ],
)
def test_damage_is_noticed(tmp_path, change, text):
    path = _damage(tmp_path, change)
    with pytest.raises(ValueError, match=text) as caught:
        fd.load(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fd.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(IsADirectoryError):
        fd.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fd.save({"x": np.zeros(1)}, tmp_path / "nowhere" / "x.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    fd.save({"x": np.zeros(3)}, path)

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        fd.save({"x": np.ones(3)}, path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["x.safetensors"]
    np.testing.assert_array_equal(fd.load(path)["x"].numpy(), np.zeros(3))


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    for name in (".x.safetensors.123.tmp", ".y.safetensors.123.tmp", "x.safetensors"):
        (tmp_path / name).write_bytes(b"")
    serialization.remove_stale(tmp_path / "x.safetensors")
    assert sorted(os.listdir(tmp_path)) == [".y.safetensors.123.tmp", "x.safetensors"]


def test_files_are_readable_for_others_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        fd.save({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o644
