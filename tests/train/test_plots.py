"""The pictures: real PNG files, weights in their places, what can't be drawn refused."""

import sys

import numpy as np
import pytest

import fastdl as fd
from fastdl import nn
from fastdl.train import plots

pytest.importorskip("matplotlib")


def _history(epochs, start=1.0):
    rows = []
    for epoch in range(1, epochs + 1):
        loss = start / epoch
        rows.append({"epoch": epoch, "loss": loss, "accuracy": 1 - loss / 3, "val_loss": loss, "val_accuracy": 0.9})
    return rows


def _pixels(path):
    import matplotlib.image

    return matplotlib.image.imread(path)[..., :3]


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves(tmp_path, epochs):
    path = tmp_path / "curves.png"
    plots.curves(_history(epochs), path, title="a title")
    picture = _pixels(path)
    assert picture.shape[1] > 1.5 * picture.shape[0]
    for colour in ("4C78A8", "E4572E"):  # both curves are there
        wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        assert (np.abs(picture - wanted).max(axis=-1) < 0.02).sum() > 50
    assert [entry.name for entry in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(
    "train, validation, label",
    [
        ([0.1, 0.9, 0.92, 0.94], [0.91, 0.92, 0.93, 0.94], "epoch (one value below the picture: 10.00 %)"),
        ([0.1, 0.9, 0.92, 0.94], [0.2, 0.92, 0.93, 0.94], "epoch (2 values below the picture, from 10.00 %)"),
        ([0.9, 0.9, 0.92, 0.94], [0.91, 0.92, 0.93, 0.94], "epoch"),
        ([0.1, 0.9], [0.9, 0.9], "epoch"),
    ],
)
def test_what_lies_below_the_picture_is_noted(tmp_path, train, validation, label, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    pairs = enumerate(zip(train, validation), 1)
    plots.curves([{"epoch": i, "accuracy": a, "val_accuracy": b} for i, (a, b) in pairs], tmp_path / "curves.png")
    (axis,) = figures[0].axes
    assert axis.get_xlabel() == label


def test_curves_without_validation_or_accuracy(tmp_path):
    path = tmp_path / "curves.png"
    plots.curves([{"epoch": 1, "loss": 0.0}, {"epoch": 2, "loss": -1.0}], path)
    picture = _pixels(path)
    assert picture.shape[1] < 1.5 * picture.shape[0]


@pytest.mark.parametrize(
    "model, shape",
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 32, 3)), None),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 5)), None),
        (lambda: nn.Sequential(nn.Conv2d(2, 7, 5)), None),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 120)), (1, 28, 28)),
        (lambda: nn.Linear(2, 3), None),
        (lambda: nn.Linear(1, 1), None),
    ],
)
def test_first_layer(tmp_path, model, shape):
    path = tmp_path / "first_layer.png"
    plots.first_layer(model(), path, image_shape=shape)
    assert _pixels(path).std() > 0.01


def test_weights_are_in_their_places():
    weight = np.arange(2 * 1 * 12 * 12, dtype=np.float32).reshape(2, 1, 12, 12)
    images = plots._as_images(weight, None)
    np.testing.assert_array_equal(images, weight[:, 0])
    mosaic = plots._mosaic(images)
    np.testing.assert_array_equal(mosaic[:12, :12], weight[0, 0])
    np.testing.assert_array_equal(mosaic[-12:, -12:], weight[1, 0])
    assert np.isnan(mosaic).sum() == 2 * 12


def test_images_of_dense_and_of_coloured_layers():
    dense = np.arange(3 * 8, dtype=np.float32).reshape(3, 8)
    assert plots._as_images(dense, None).shape == (3, 1, 8)
    assert plots._as_images(dense, (1, 5, 5)).shape == (3, 1, 8)
    np.testing.assert_array_equal(plots._as_images(dense, (1, 2, 4))[1], dense[1].reshape(2, 4))
    np.testing.assert_array_equal(plots._as_images(dense, (2, 2, 2))[0], [[0, 1, 4, 5], [2, 3, 6, 7]])
    coloured = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 2, 2)
    assert plots._as_images(coloured, None).shape == (2, 2, 2, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 32, 96, 100])
def test_a_mosaic_holds_every_image(count):
    images = np.broadcast_to(np.arange(1, count + 1, dtype=np.float64)[:, None, None], (count, 12, 12))
    mosaic = plots._mosaic(np.ascontiguousarray(images))
    values, sizes = np.unique(mosaic[~np.isnan(mosaic)], return_counts=True)
    assert values.tolist() == list(range(1, count + 1)) and set(sizes) == {144}


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="history must hold at least one row"):
        plots.curves([], tmp_path / "x.png")
    with pytest.raises(ValueError, match="model must have a parameter with 2 or 4 dimensions"):
        plots.first_layer(nn.BatchNorm1d(3), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_missing_matplotlib_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError) as caught:
        plots.curves(_history(2), tmp_path / "x.png")
    assert 'pip install "fastdl[train]"' in str(caught.value)
    assert fd.train.plots is plots
