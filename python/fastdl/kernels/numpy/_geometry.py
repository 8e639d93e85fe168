"""Sizes of sliding windows, shared by im2col, conv2d and pool2d; csrc/core/window.h holds the compiled twin."""

from __future__ import annotations

from . import _check

LARGEST = 2**31 - 1  # of each window attribute, so that sizes computed from them stay within 64 bits


def check_pair(kernel: str, name: str, value, minimum: int) -> None:
    """value is a pair of ints in [minimum, LARGEST]; minimum is 1 (kernel_size, stride, dilation) or 0 (padding)."""
    _check.pair(kernel, name, value, minimum)
    if max(value) > LARGEST:
        raise ValueError(f"{kernel}: {name} must be at most {LARGEST}, got ({value[0]}, {value[1]})")


def axis_output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool = False) -> int:
    """Number of windows along one axis; 0 or less if not even one fits.

    floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; with ceil_mode the division rounds
    up, and a last window that would start in the right-hand padding is dropped (PyTorch's rule).
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    out = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + padding:
        out -= 1
    return out


def window_output_size(
    kernel: str, input_size: tuple, kernel_size: tuple, stride: tuple, padding: tuple, dilation: tuple,
    ceil_mode: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """(oh, ow), the windows of kernel_size over input_size (h, w); the pairs must have been checked
    (`check_window`).

    Raises ValueError if the kernel is larger than the padded input.
    """
    axes = zip(input_size, kernel_size, stride, padding, dilation)
    out = tuple(axis_output_size(*axis, ceil_mode) for axis in axes)
    if min(out) < 1:
        padded = tuple(size + 2 * pad for size, pad in zip(input_size, padding))
        raise ValueError(
            f"{kernel}: kernel_size {tuple(kernel_size)} with dilation {tuple(dilation)} must fit into the padded "
            f"input, got {padded}"
        )
    return out


def check_window(kernel: str, kernel_size, stride, padding, dilation) -> None:
    """The four pairs of a sliding window: kernel_size, stride, dilation positive, padding at least 0."""
    check_pair(kernel, "kernel_size", kernel_size, 1)
    check_pair(kernel, "stride", stride, 1)
    check_pair(kernel, "padding", padding, 0)
    check_pair(kernel, "dilation", dilation, 1)
