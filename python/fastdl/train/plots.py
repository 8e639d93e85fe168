"""Pictures of a training: curves of loss and accuracy, and the weights of the first layer (needs matplotlib)."""

from __future__ import annotations

import math

import numpy as np

from ..serialization import replacing, to_numpy

_TRAIN, _VALIDATION = "#4C78A8", "#E4572E"
_INK, _GRID = "#333333", "#E6E6E6"


def curves(history: list[dict], path, title: str = "") -> None:
    """Draw loss and accuracy over epochs, for training and validation, into a PNG file.

    history: `Trainer.history`. Metrics other than accuracy are left out. Raises ValueError for an empty history,
    ImportError when matplotlib is missing.
    """
    if not history:
        raise ValueError("curves: history must hold at least one row, got none")
    names = [name for name in ("loss", "accuracy") if name in history[0]]
    figure, axes = _figure(5.2 * len(names), 3.9, len(names))
    for axis, name in zip(axes, names):
        _curve(axis, history, name)
    if title:
        figure.suptitle(title, fontsize=11, color=_INK, x=0.01, ha="left")
    _save(figure, path)


def _curve(axis, history: list[dict], name: str) -> None:
    percent = 100.0 if name == "accuracy" else 1.0
    epochs = [row["epoch"] for row in history]
    mark = "o" if len(epochs) <= 30 else None
    lines = {"train": (name, _TRAIN), "validation": (f"val_{name}", _VALIDATION)}
    drawn = []
    for label, (key, color) in lines.items():
        if key not in history[0]:
            continue
        values = [percent * row[key] for row in history]
        drawn.append(values)
        axis.plot(epochs, values, color=color, linewidth=1.8, marker=mark, markersize=3.2, label=label)
    best = max if name == "accuracy" else min
    label, values = list(lines)[len(drawn) - 1], drawn[-1]
    where = values.index(best(values))
    text = f"{values[where]:.2f} %" if name == "accuracy" else f"{values[where]:.4g}"
    axis.set_title(f"{name}: best {label} {text} in epoch {epochs[where]}", fontsize=10, color=_INK, loc="left")
    axis.set_xlabel("epoch")
    axis.set_ylabel("%" if name == "accuracy" else "")
    _limits(axis, drawn, name)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=9, loc="lower right" if name == "accuracy" else "upper right")


def _limits(axis, drawn: list, name: str) -> None:
    """Logarithmic where a loss falls a long way; accuracy from what matters: a note tells what lies below."""
    values = np.concatenate(drawn)
    if name == "loss":
        if values.min() > 0 and values.max() > 8 * values.min():
            axis.set_yscale("log")
            _plain_log(axis)
        return
    first = 0 if len(drawn[0]) < 4 else max(1, len(drawn[0]) // 50)
    low = min(min(series[first:]) for series in drawn)
    span = max(values.max() - low, 1.0)
    bottom = max(min(low, values.max() - 1) - 0.06 * span, -3)
    axis.set_ylim(bottom, values.max() + 0.06 * span)
    below = values[values < bottom]
    if len(below):
        text = f"{len(below)} values below the picture, from" if len(below) > 1 else "one value below the picture:"
        axis.set_xlabel(f"epoch ({text} {below.min():.2f} %)")


def _plain_log(axis) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_ylim()
    wide = high / low > 100
    axis.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def first_layer(model, path, image_shape: tuple | None = None, most: int = 100) -> None:
    """Draw the weights of the first layer, one image per output unit, into a PNG file.

    model: the first parameter with 2 or 4 dimensions is drawn: (O, C, kh, kw) of a convolution, or (O, I) of a dense
        layer, whose rows are shown as images of image_shape (C, H, W) if that has I numbers, else as strips.
    most: at most so many units are shown, the first ones.
    Three channels are shown as colours, other numbers side by side. Red is positive, blue negative, white zero; all
    images share one scale. Raises ValueError for a model without such a parameter.
    """
    found = ((n, to_numpy(p)) for n, p in model.named_parameters() if len(p.shape) in (2, 4))
    name, weight = next(found, (None, None))
    if weight is None:
        raise ValueError("first_layer: model must have a parameter with 2 or 4 dimensions, got none")
    images = _as_images(weight, image_shape)
    shown = images[:most]
    scale = float(np.quantile(np.abs(shown), 0.998)) or 1.0  # a few large weights shall not pale the rest
    picture = _mosaic(shown)
    height, width = picture.shape[:2]
    long = min(7.0 / max(height, width), 0.08)  # inches per pixel
    figure, (axis,) = _figure(max(long * width, 2.6) + 0.9, max(long * height, 0.8) + 0.5, 1)
    axis.grid(False)
    axis.set(xticks=[], yticks=[])
    axis.spines["bottom"].set_visible(False)
    units = f"{len(shown)} of {len(images)} units" if len(shown) < len(images) else f"{len(shown)} units"
    figure.suptitle(f"first layer: {name}, {units}", fontsize=10, color=_INK, x=0.01, ha="left")
    if picture.ndim == 3:
        axis.imshow(np.clip(np.nan_to_num(0.5 + 0.5 * picture / scale, nan=1.0), 0, 1), interpolation="nearest")
    else:
        drawn = axis.imshow(picture, cmap=_colours(), vmin=-scale, vmax=scale, interpolation="nearest")
        bar = figure.colorbar(drawn, ax=axis, fraction=0.035, pad=0.02, aspect=30)
        bar.ax.tick_params(labelsize=8, length=0, colors=_INK)
        bar.outline.set_visible(False)
    _save(figure, path)


def _mosaic(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W[, 3]) side by side in rows, NaN between them; about 1.4 times as wide as high."""
    fine = max(1, 12 // max(images.shape[1:3]))  # small images are magnified, so that the gaps look thin
    images = images.repeat(fine, axis=1).repeat(fine, axis=2)
    count, height, width = images.shape[:3]
    ideal = math.sqrt(1.4 * count * height / width)
    choices = range(max(1, int(0.7 * ideal)), max(2, min(count, int(1.4 * ideal)) + 1))
    columns = min(choices, key=lambda c: (-count % c, abs(c - ideal)))  # fill the last row, if one can
    rows = -(-count // columns)
    gap = 2 if fine == 1 else 1
    out = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[3:]), np.nan)
    for number, image in enumerate(images):
        y, x = (number // columns) * (height + gap), (number % columns) * (width + gap)
        out[y : y + height, x : x + width] = image
    return out


def _colours():
    """Blue to red over white, with grey between the images."""
    import matplotlib

    return matplotlib.colormaps["RdBu_r"].with_extremes(bad="#D0D0D0")


def _as_images(weight: np.ndarray, image_shape: tuple | None) -> np.ndarray:
    """(O, H, W), or (O, H, W, 3) for three channels."""
    if weight.ndim == 2:
        outputs, inputs = weight.shape
        fits = image_shape is not None and math.prod(image_shape) == inputs
        weight = weight.reshape(outputs, *(image_shape if fits else (1, 1, inputs)))
    if weight.shape[1] == 3:
        return weight.transpose(0, 2, 3, 1)
    return np.concatenate(list(weight.transpose(1, 0, 2, 3)), axis=2)


def _figure(width: float, height: float, columns: int):
    """(figure, flat array of axes), drawn without a display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "fastdl[train]"') from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, columns, squeeze=False)).reshape(-1)
    for axis in axes:
        axis.grid(axis="y", color=_GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(which="both", colors=_INK, labelsize=9, length=0)
        for side, spine in axis.spines.items():
            spine.set(visible=side == "bottom", color="#BBBBBB")
    return figure, axes


def _save(figure, path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
