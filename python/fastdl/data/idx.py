"""Read IDX files, the format of MNIST (Y. LeCun et al., "The MNIST database", "The IDX file format")."""

from __future__ import annotations

import math
import os

import numpy as np

_DTYPES = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_MAX_RANK = 32  # the most dimensions that every supported NumPy can hold
_DEFLATE_LIMIT = 1032  # no deflate stream expands by more than this (RFC 1951: 258 bytes from 2 bits)
_CHUNK = 1 << 20


def read_idx(path) -> np.ndarray:
    """Read one IDX file, plain or gzip-compressed (told apart by content, not by name).

    Args:
        path: the file.

    Returns:
        a new writable array of the shape in the file and dtype uint8, int8, int16, int32, float32 or
        float64, in the machine's byte order.

    Raises:
        OSError: the file can't be opened or read.
        ValueError: the file is no IDX file, is truncated or corrupt, or has bytes left over; the
            message names the file, what was expected and what was found. Memory grows with what the file
            really holds, never with what its header claims.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] != b"\x1f\x8b":
            return _parse(path, file, size)
        import gzip
        import zlib

        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parse(path, unzipped, size * _DEFLATE_LIMIT)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _error(path, "be a whole gzip file", f"a damaged one: {error}") from error


def _error(path: str, expected: str, got) -> ValueError:
    return ValueError(f"read_idx: {path} must {expected}, got {got}")


def _parse(path: str, file, limit: int) -> np.ndarray:
    """Parse the stream; `limit` is the most bytes that it can possibly hold."""
    magic = file.read(4)
    if len(magic) < 4:
        raise _error(path, "start with a magic number of 4 bytes", f"{len(magic)} bytes in all")
    dtype, rank = _DTYPES.get(magic[2]), magic[3]
    if magic[:2] != b"\0\0" or dtype is None:
        kinds = ", ".join(f"{code:02x}" for code in _DTYPES)
        raise _error(path, f"start with bytes 00 00 and a type of {kinds}", magic.hex(" "))
    if not 1 <= rank <= _MAX_RANK:
        raise _error(path, f"have 1 to {_MAX_RANK} dimensions", f"{rank} (magic number {magic.hex(' ')})")
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise _error(path, f"have a header of {4 + 4 * rank} bytes", f"{4 + len(header)} bytes in all")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    size = math.prod(shape) * dtype.itemsize
    expected = f"hold {size} bytes of data, as its header says for {dtype.name} {shape}"
    if size > limit:
        raise _error(path, expected, f"a file that can't hold more than {limit}")
    if math.prod(n for n in shape if n) * dtype.itemsize >= 2**63:  # NumPy refuses these, even when empty
        raise _error(path, "have a shape that can be addressed", shape)
    data = bytearray()
    while len(data) < size:
        chunk = file.read(min(_CHUNK, size - len(data)))
        if not chunk:
            raise _error(path, expected, len(data))
        data += chunk
    if file.read(1):  # reading past the end also makes gzip compare its checksum
        raise _error(path, expected, "more: bytes are left over at the end")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
