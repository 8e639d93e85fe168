"""IDX files: what is valid comes back exactly, everything else is a ValueError that names the file."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from fastdl.data import read_idx

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(array):
    """The array as an IDX file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def sample(dtype, shape, seed=0):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    return (values - (0 if dtype == "uint8" else 50)).astype(dtype)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(7,), (1,), (3, 5), (2, 3, 4), (2, 1, 2, 1, 3), (0,), (0, 28, 28)], ids=str)
@pytest.mark.parametrize("dtype", CODES)
def test_reads_what_was_written(tmp_path, dtype, shape, packed):
    want = sample(dtype, shape)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx_bytes(want)) if packed else idx_bytes(want))
    got = read_idx(path)
    assert got.dtype == np.dtype(dtype) and got.dtype.isnative and got.shape == shape
    np.testing.assert_array_equal(got, want)
    assert got.flags.writeable and got.flags.c_contiguous


def test_reads_bytes_written_by_hand(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 0x0B, 1, 0, 0, 0, 3, 0x01, 0x02, 0xFF, 0xFF, 0x80, 0x00]))
    assert read_idx(str(path)).tolist() == [258, -1, -32768]


def test_reads_more_than_one_chunk(tmp_path):
    want = sample("uint8", (3, 1 << 20))
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx_bytes(want), 1))
    np.testing.assert_array_equal(read_idx(path), want)


GOOD = idx_bytes(sample("uint8", (4, 3)))
GZIP = gzip.compress(GOOD, mtime=0)
HUGE = 0xFFFFFFFF


def header(code, *shape, rank=None):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape) if rank is None else rank, *shape)


BAD = {
    "empty": (b"", "start with a magic number of 4 bytes, got 0 bytes in all"),
    "magic cut": (GOOD[:3], "start with a magic number of 4 bytes, got 3 bytes in all"),
    "magic wrong": (b"\1" + GOOD[1:], "got 01 00 08 02"),
    "type unknown": (
        b"\0\0\x0a" + GOOD[3:],
        "start with bytes 00 00 and a type of 08, 09, 0b, 0c, 0d, 0e, got",
    ),
    "text": (b"<html>not found</html>", "got 3c 68 74 6d"),
    "no dimensions": (header(8) + b"\5", "have 1 to 32 dimensions, got 0"),
    "too many dimensions": (header(8, *[1] * 33) + b"\5", "have 1 to 32 dimensions, got 33"),
    "header cut": (GOOD[:9], "have a header of 12 bytes, got 9 bytes in all"),
    "data cut": (GOOD[:-1], "hold 12 bytes of data, as its header says for uint8 (4, 3), got 11"),
    "no data": (GOOD[:12], "hold 12 bytes of data, as its header says for uint8 (4, 3), got 0"),
    "bytes left over": (GOOD + b"\0", "got more: bytes are left over at the end"),
    "count too small": (header(8, 3, 3) + GOOD[12:], "hold 9 bytes of data"),
    "terabytes": (header(0x0E, HUGE, HUGE, HUGE) + GOOD, "a file that can't hold more than"),
    "terabytes in gzip": (
        gzip.compress(header(8, 1 << 20, 1 << 20) + GOOD),
        "a file that can't hold more than",
    ),
    "megabytes in gzip": (gzip.compress(header(8, 40000) + GOOD), "got 24"),
    "empty but unaddressable": (header(8, 0, HUGE, HUGE, HUGE), "have a shape that can be addressed"),
    "gzip cut": (GZIP[:-9], "be a whole gzip file"),
    "gzip header cut": (GZIP[:5], "be a whole gzip file"),
    "gzip without checksum": (GZIP[:-8], "be a whole gzip file"),
    "gzip checksum wrong": (GZIP[:-8] + bytes([GZIP[-8] ^ 1]) + GZIP[-7:], "be a whole gzip file"),
    "gzip stream wrong": (GZIP[:10] + b"\xff" + GZIP[11:], "be a whole gzip file"),
    "gzip with rubbish behind": (GZIP + b"rubbish", "be a whole gzip file"),
    "gzip of bytes left over": (gzip.compress(GOOD + b"\0"), "got more: bytes are left over at the end"),
    "gzip of text": (gzip.compress(b"not found"), "got 6e 6f 74 20"),
    "gzip of nothing": (gzip.compress(b""), "start with a magic number of 4 bytes, got 0 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / "broken-file"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_idx(path)
    assert str(error.value).startswith(f"read_idx: {path} must ")
    assert message in str(error.value)


def test_memory_follows_the_file_not_its_header(tmp_path):
    path = tmp_path / "file"
    noise = np.random.default_rng(0).bytes(300_000)  # does not pack, so that the claim is within gzip's limit
    path.write_bytes(gzip.compress(header(8, 300_000_000) + noise))
    tracemalloc.start()
    with pytest.raises(ValueError, match="must hold 300000000 bytes of data, .*, got 300000"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_missing_file_stays_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        read_idx(tmp_path)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_damage_is_a_value_error_or_a_valid_array(tmp_path, packed):
    """Random cuts, flipped bits and overwritten bytes: an array or a ValueError, no third way."""
    rng = np.random.default_rng(20 + packed)
    path = tmp_path / "file"
    refused = 0
    for trial in range(600):
        dtype = list(CODES)[trial % len(CODES)]
        content = idx_bytes(sample(dtype, tuple(rng.integers(1, 5, rng.integers(1, 4))), seed=trial))
        content = bytearray(gzip.compress(content, mtime=0) if packed else content)
        kind = rng.integers(3)
        if kind == 0:
            del content[rng.integers(len(content)) :]
        else:
            # Half of the damage goes where it hurts most: the headers.
            reach = len(content) if rng.integers(2) else min(24, len(content))
            for at in rng.integers(reach, size=rng.integers(1, 4)):
                content[at] = rng.integers(256) if kind == 1 else content[at] ^ (1 << rng.integers(8))
        path.write_bytes(content)
        try:
            array = read_idx(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert array.dtype.name in CODES and array.nbytes <= 1 << 20
    assert refused > 150
