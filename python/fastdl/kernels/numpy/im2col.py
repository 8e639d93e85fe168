"""Sliding windows as columns, and their sum back into an image (PyTorch's unfold and fold)."""

import numpy as np

from . import _check, _geometry

__all__ = ["im2col", "col2im"]


def im2col(x, kernel_size, dilation, padding, stride):
    """cols[n, (c kh + i) kw + j, p ow + q] = x[n, c, p sh + i dh - ph, q sw + j dw - pw], 0 outside of x.

    x (N, C, H, W) float32 or float64, any strides; kernel_size (kh, kw), dilation (dh, dw) and stride (sh,
    sw) pairs of ints of at least 1, padding (ph, pw) of at least 0. Returns (N, C kh kw, oh ow) with (oh,
    ow) as in `_geometry.axis_output_size`.

    Raises TypeError for another kind or dtype, ValueError for a wrong rank, an attribute out of range, or a
    kernel larger than the padded input.
    """
    kernel = "im2col"
    _check.array(kernel, "x", x)
    _check.rank(kernel, "x", x, 4, "(N, C, H, W)")
    _geometry.check_window(kernel, kernel_size, stride, padding, dilation)
    _geometry.window_output_size(kernel, x.shape[2:], kernel_size, stride, padding, dilation)
    return columns(x, kernel_size, stride, padding, dilation)


def col2im(cols, output_size, kernel_size, dilation, padding, stride):
    """The adjoint of im2col: x[n, c, h, w] = sum of all entries of cols that im2col would read from x[n, c,
    h, w].

    cols (N, C kh kw, L) float32 or float64 with L = oh ow windows of the image; output_size (H, W) at least
    0; the other attributes as in im2col. Returns (N, C, H, W).

    Raises as im2col does, and ValueError if the rows of cols are not a multiple of kh kw or its columns are
    not L.
    """
    kernel = "col2im"
    _check.array(kernel, "cols", cols)
    _check.rank(kernel, "cols", cols, 3, "(N, C*kh*kw, L)")
    _geometry.check_pair(kernel, "output_size", output_size, 0)
    _geometry.check_window(kernel, kernel_size, stride, padding, dilation)
    out = _geometry.window_output_size(kernel, output_size, kernel_size, stride, padding, dilation)
    taps = kernel_size[0] * kernel_size[1]
    if cols.shape[1] % taps:
        raise ValueError(f"{kernel}: cols must have a multiple of {taps} rows (kernel_size), got shape {cols.shape}")
    if cols.shape[2] != out[0] * out[1]:
        raise ValueError(
            f"{kernel}: cols must have {out[0] * out[1]} columns ({out[0]} x {out[1]} windows), got shape {cols.shape}"
        )
    shape = (cols.shape[0], cols.shape[1] // taps, *output_size)
    return sum_columns(cols, shape, kernel_size, stride, padding, dilation)


def columns(x, kernel_size, stride, padding, dilation):
    """im2col of checked arguments."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel_size, stride, padding, dilation
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    extent = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    n, c, oh, ow = windows.shape[:4]
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * kh * kw, oh * ow)


def sum_columns(cols, shape, kernel_size, stride, padding, dilation):
    """col2im of checked arguments; shape is that of the image, (N, C, H, W)."""
    (n, c, h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = shape, kernel_size, stride, padding, dilation
    oh = _geometry.axis_output_size(h, kh, sh, ph, dh)
    ow = _geometry.axis_output_size(w, kw, sw, pw, dw)
    cols = cols.reshape(n, c, kh, kw, oh, ow)
    x = np.zeros((n, c, h + 2 * ph, w + 2 * pw), cols.dtype)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            x[:, :, top : top + sh * (oh - 1) + 1 : sh, left : left + sw * (ow - 1) + 1 : sw] += cols[:, :, i, j]
    return x[:, :, ph : ph + h, pw : pw + w]
