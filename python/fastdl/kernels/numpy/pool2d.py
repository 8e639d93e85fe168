"""Reference of the pool2d family: maximum, average and adaptive average over windows of x (N, C, H, W).

kernel_size, stride, padding, dilation, output_size and input_size are pairs (vertical, horizontal);
input_size is the (H, W) of the forward input. Output sizes and ceil_mode follow `_geometry` (PyTorch's
rules); padding is at most half the kernel size. Each function loops over the taps (i, j) of the window and
treats all windows at once.
"""

from __future__ import annotations

import numpy as np

from . import _check, _geometry
from .activation import relu_backward

__all__ = [
    "max_pool2d_forward",
    "max_pool2d_backward",
    "max_pool2d_indices",
    "avg_pool2d_forward",
    "avg_pool2d_backward",
    "adaptive_avg_pool2d_forward",
    "adaptive_avg_pool2d_backward",
]


def _check_image(kernel: str, name: str, x) -> None:
    _check.array(kernel, name, x)
    _check.rank(kernel, name, x, 4, "(N, C, H, W)")


def _check_input(kernel: str, x) -> None:
    _check_image(kernel, "x", x)
    if min(x.shape[2:]) < 1:
        raise ValueError(f"{kernel}: x must have a height and width of at least 1, got shape {x.shape}")


def _check_window(kernel: str, kernel_size, stride, padding, dilation) -> None:
    _geometry.check_window(kernel, kernel_size, stride, padding, dilation)
    if any(2 * p > k for p, k in zip(padding, kernel_size)):
        half = f"at most half of kernel_size {tuple(kernel_size)}"
        raise ValueError(f"{kernel}: padding must be {half}, got {tuple(padding)}")


def _check_max_window(kernel: str, kernel_size, stride, padding, dilation) -> None:
    _check_window(kernel, kernel_size, stride, padding, dilation)
    if kernel_size[0] * kernel_size[1] > _geometry.LARGEST:
        taps = f"hold at most {_geometry.LARGEST} taps"
        raise ValueError(f"{kernel}: kernel_size must {taps}, got {tuple(kernel_size)}")


def _check_divisor(kernel: str, divisor) -> None:
    if divisor is None:
        return
    if not isinstance(divisor, (int, np.integer)):
        raise TypeError(f"{kernel}: divisor_override must be an int or None, got {type(divisor).__name__}")
    if divisor == 0:
        raise ValueError(f"{kernel}: divisor_override must not be 0, got 0")


def _inside(tap: int, size: int, out: int, stride: int, padding: int, dilation: int):
    """The windows of one axis whose tap lies in the input, and where: two index arrays (window, position)."""
    position = np.arange(out) * stride - padding + tap * dilation
    window = np.flatnonzero((position >= 0) & (position < size))
    return window, position[window]


def _reach(taps: int, size: int, out: int, stride: int, padding: int, dilation: int) -> range:
    """The taps of one axis that lie in the input for some window: all of them, but for a huge kernel."""
    first = -(-(padding - (out - 1) * stride) // dilation)
    last = (size - 1 + padding) // dilation
    return range(max(first, 0), min(last + 1, taps))


def _taps(input_size, output_size, kernel_size, stride, padding, dilation):
    """Each tap's number i * kw + j and two index tuples that pair windows of the output with pixels of x."""
    rows, columns = zip(input_size, output_size, stride, padding, dilation)
    for i in _reach(kernel_size[0], *rows):
        for j in _reach(kernel_size[1], *columns):
            (oh, h), (ow, w) = _inside(i, *rows), _inside(j, *columns)
            windows = (slice(None), slice(None), oh[:, None], ow)
            pixels = (slice(None), slice(None), h[:, None], w)
            yield i * kernel_size[1] + j, windows, pixels


def max_pool2d_forward(x, kernel_size, stride, padding, dilation, ceil_mode):
    """y[n, c, oh, ow] = max over i, j of x[n, c, oh * sh - ph + i * dh, ow * sw - pw + j * dw]; (y, offsets).

    offsets holds the winner's place in its window, i * kw + j: uint8 if kh * kw <= 256, else int32. Taps in
    the padding never win; of equal values the first in row order wins; NaN wins over all numbers, the last
    NaN over other NaNs (PyTorch). A window with all its taps in the padding, possible with dilation, gives
    -inf and offset 0.
    """
    kernel = "max_pool2d_forward"
    _check_input(kernel, x)
    _check_max_window(kernel, kernel_size, stride, padding, dilation)
    size = x.shape[2:]
    out = _geometry.window_output_size(kernel, size, kernel_size, stride, padding, dilation, ceil_mode)
    y = np.full(x.shape[:2] + out, -np.inf, x.dtype)
    offsets = np.full(y.shape, -1, np.int32)
    for tap, windows, pixels in _taps(size, out, kernel_size, stride, padding, dilation):
        value = x[pixels]
        wins = (offsets[windows] < 0) | (value > y[windows]) | np.isnan(value)
        y[windows] = np.where(wins, value, y[windows])
        offsets[windows] = np.where(wins, tap, offsets[windows])
    return y, np.maximum(offsets, 0).astype(_offset_dtype(kernel_size))


def _offset_dtype(kernel_size):
    return np.dtype(np.uint8 if kernel_size[0] * kernel_size[1] <= 256 else np.int32)


def _check_offsets(kernel: str, offsets, input_size, kernel_size, stride, padding, dilation) -> None:
    """offsets could come from `max_pool2d_forward` of this geometry, with or without ceil_mode."""
    _geometry.check_pair(kernel, "input_size", input_size, 1)
    _check_max_window(kernel, kernel_size, stride, padding, dilation)
    if not isinstance(offsets, np.ndarray):
        raise TypeError(f"{kernel}: offsets must be a NumPy array, got {_check.type_name(offsets)}")
    if offsets.dtype != _offset_dtype(kernel_size):
        raise TypeError(f"{kernel}: offsets must be {_offset_dtype(kernel_size)}, got {offsets.dtype}")
    _check.rank(kernel, "offsets", offsets, 4, "(N, C, OH, OW)")
    up = _geometry.window_output_size(kernel, input_size, kernel_size, stride, padding, dilation, True)
    down = tuple(map(_geometry.axis_output_size, input_size, kernel_size, stride, padding, dilation))
    if offsets.shape[2:] not in (up, down):
        raise ValueError(f"{kernel}: offsets must have {down} or {up} windows, got shape {offsets.shape}")
    _check.indices(kernel, "offsets", offsets, kernel_size[0] * kernel_size[1])


def max_pool2d_backward(dy, offsets, input_size, kernel_size, stride, padding, dilation, y=None):
    """dx (N, C, H, W): dy added at the pixel that won each window of `max_pool2d_forward`, zero elsewhere.

    dy, offsets and y (N, C, OH, OW); an offset that points into the padding adds nothing. y, the result of
    `max_pool2d_forward` for an x that a ReLU made: dx is what `relu_backward` would make of it. Raises ValueError if
    the shapes do not fit together, IndexError for an offset outside [0, kh * kw).
    """
    kernel = "max_pool2d_backward"
    _check_image(kernel, "dy", dy)
    _check_offsets(kernel, offsets, input_size, kernel_size, stride, padding, dilation)
    _check.shape(kernel, "dy", dy, offsets.shape)
    if y is not None:
        _check.array(kernel, "y", y)
        _check.like(kernel, "y", y, "dy", dy)
        _check.shape(kernel, "y", y, offsets.shape)
        dy = relu_backward(dy, y)
    dx = np.zeros(dy.shape[:2] + tuple(input_size), dy.dtype)
    for tap, windows, pixels in _taps(input_size, dy.shape[2:], kernel_size, stride, padding, dilation):
        dx[pixels] += np.where(offsets[windows] == tap, dy[windows], 0)
    return dx


def max_pool2d_indices(offsets, input_size, kernel_size, stride, padding, dilation):
    """PyTorch's indices (N, C, OH, OW), int64: the winner's place h * W + w, -1 for one in the padding."""
    kernel = "max_pool2d_indices"
    _check_offsets(kernel, offsets, input_size, kernel_size, stride, padding, dilation)
    indices = np.full(offsets.shape, -1, np.int64)
    for tap, windows, pixels in _taps(input_size, offsets.shape[2:], kernel_size, stride, padding, dilation):
        place = pixels[2] * input_size[1] + pixels[3]
        indices[windows] = np.where(offsets[windows] == tap, place, indices[windows])
    return indices


def _divisors(input_size, output_size, kernel_size, stride, padding, count_include_pad, divisor_override):
    """(OH, OW): what each window's sum is divided by."""
    if divisor_override is not None:
        return np.full(output_size, float(divisor_override))
    counts = []
    for size, out, k, s, p in zip(input_size, output_size, kernel_size, stride, padding):
        first = np.arange(out) * s - p
        last = np.minimum(first + k, size + p)  # with ceil_mode a window may hang over: never counted
        if not count_include_pad:
            first, last = np.maximum(first, 0), np.minimum(last, size)
        counts.append(last - first)
    return np.multiply.outer(*counts).astype(np.float64)


def avg_pool2d_forward(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """y[n, c, oh, ow] = (sum of x over the window) / divisor.

    The padding adds nothing to the sum. divisor is divisor_override if not None, else the number of taps that
    lie in the padded input (count_include_pad) or in the input itself.
    """
    kernel = "avg_pool2d_forward"
    _check_input(kernel, x)
    _check_window(kernel, kernel_size, stride, padding, (1, 1))
    _check_divisor(kernel, divisor_override)
    size = x.shape[2:]
    out = _geometry.window_output_size(kernel, size, kernel_size, stride, padding, (1, 1), ceil_mode)
    y = np.zeros(x.shape[:2] + out)
    for _, windows, pixels in _taps(size, out, kernel_size, stride, padding, (1, 1)):
        y[windows] += x[pixels]
    y /= _divisors(size, out, kernel_size, stride, padding, count_include_pad, divisor_override)
    return y.astype(x.dtype)


def avg_pool2d_backward(dy, input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """dx (N, C, H, W) of `avg_pool2d_forward`: a pixel gets dy / divisor from each of its windows."""
    kernel = "avg_pool2d_backward"
    _check_image(kernel, "dy", dy)
    _geometry.check_pair(kernel, "input_size", input_size, 1)
    _check_window(kernel, kernel_size, stride, padding, (1, 1))
    _check_divisor(kernel, divisor_override)
    out = _geometry.window_output_size(kernel, input_size, kernel_size, stride, padding, (1, 1), ceil_mode)
    _check.shape(kernel, "dy", dy, dy.shape[:2] + out)
    share = dy / _divisors(input_size, out, kernel_size, stride, padding, count_include_pad, divisor_override)
    dx = np.zeros(dy.shape[:2] + tuple(input_size))
    for _, windows, pixels in _taps(input_size, out, kernel_size, stride, padding, (1, 1)):
        dx[pixels] += share[windows]
    return dx.astype(dy.dtype)


def _adaptive(input_size, output_size):
    """(window, count, pixels) of each adaptive window; rows floor(i H / OH) up to ceil((i + 1) H / OH)."""
    spans = [
        [slice(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
        for size, out in zip(input_size, output_size)
    ]
    for i, rows in enumerate(spans[0]):
        for j, columns in enumerate(spans[1]):
            count = (rows.stop - rows.start) * (columns.stop - columns.start)
            yield (..., i, j), count, (..., rows, columns)


def adaptive_avg_pool2d_forward(x, output_size):
    """y (N, C, OH, OW): averages over OH x OW windows that cover x evenly, as torch.nn.AdaptiveAvgPool2d.

    Window i of an axis holds the pixels floor(i * H / OH) up to, not including, ceil((i + 1) * H / OH).
    """
    kernel = "adaptive_avg_pool2d_forward"
    _check_input(kernel, x)
    _geometry.check_pair(kernel, "output_size", output_size, 1)
    y = np.empty(x.shape[:2] + tuple(output_size), x.dtype)
    for window, _, pixels in _adaptive(x.shape[2:], output_size):
        y[window] = x[pixels].mean((-2, -1), dtype=np.float64)
    return y


def adaptive_avg_pool2d_backward(dy, input_size):
    """dx (N, C, H, W) of `adaptive_avg_pool2d_forward`: a pixel gets dy / count from each of its windows."""
    kernel = "adaptive_avg_pool2d_backward"
    _check_image(kernel, "dy", dy)
    _geometry.check_pair(kernel, "input_size", input_size, 1)
    if min(dy.shape[2:]) < 1:
        raise ValueError(f"{kernel}: dy must have a height and width of at least 1, got shape {dy.shape}")
    dx = np.zeros(dy.shape[:2] + tuple(input_size))
    for window, count, pixels in _adaptive(input_size, dy.shape[2:]):
        dx[pixels] += (dy[window] / count)[..., None, None]
    return dx.astype(dy.dtype)
