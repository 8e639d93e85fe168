"""Philox: known answers of its authors, an independent scalar cipher, streams, threads, bad input."""

import re

import numpy as np
import pytest

# Random123 1.14, tests/kat_vectors, philox4x32 10: counter, key, words.
KNOWN_ANSWERS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
BIG = 2**64 - 1


def scalar_philox(counter, key):
    """The cipher once more, on Python's ints, straight from the paper."""
    (a, b, c, d), (k0, k1) = counter, key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ k0, right % 2**32, (left >> 32) ^ d ^ k1, left % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return a, b, c, d


@pytest.mark.parametrize("counter, key, words", KNOWN_ANSWERS)
def test_known_answers(reference, counter, key, words):
    from fastdl.kernels.numpy.philox import philox

    assert scalar_philox(counter, key) == words
    assert tuple(philox(tuple(map(np.uint64, counter)), key).reshape(-1).tolist()) == words


@pytest.mark.parametrize("seed", [0, 1, 0x299F31D0A4093822, BIG])
@pytest.mark.parametrize("counter", [0, 7, 0x0370734413198A2E, BIG])
def test_words(backend, seed, counter):
    """Every counter and key word is in its place; sizes around a block and a vector of blocks."""
    blocks = [
        scalar_philox((block, 0, counter % 2**32, counter >> 32), (seed % 2**32, seed >> 32)) for block in range(40)
    ]
    want = np.array(blocks, np.uint32).reshape(-1)
    for n in (0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 160):
        got = backend.random_words(seed, counter, n)
        assert got.dtype == np.uint32 and got.shape == (n,)
        np.testing.assert_array_equal(got, want[:n])


def test_words_look_random(backend):
    """Each of the 32 bits is set in half of 2**16 words, give or take 6 standard deviations (128 each)."""
    words = backend.random_words(3, 1, 2**16)
    set_bits = ((words[:, None] >> np.arange(32, dtype=np.uint32)) & 1).sum(0, dtype=np.int64)
    assert np.abs(set_bits - 2**15).max() < 6 * 128
    assert len(np.unique(words)) > 2**16 - 10


def test_instruction_sets(cpu, reference, isa):
    for n in (1, 4, 61, 64, 67, 1000):
        np.testing.assert_array_equal(cpu.random_words(5, 2, n), reference.random_words(5, 2, n))


def test_threads_do_not_change_bits(cpu, reference, threads):
    np.testing.assert_array_equal(cpu.random_words(5, 2, 1_000_003), reference.random_words(5, 2, 1_000_003))


INVALID = (
    ((-1, 0, 1), ValueError, "random_words: seed must lie in [0, 18446744073709551616), got -1"),
    ((2**64, 0, 1), ValueError, f"random_words: seed must lie in [0, 18446744073709551616), got {2**64}"),
    ((0, -5, 1), ValueError, "random_words: counter must lie in [0, 18446744073709551616), got -5"),
    ((0, 0, -1), ValueError, "random_words: n must lie in [0, 4611686018427387904), got -1"),
    ((1.0, 0, 1), TypeError, "random_words: seed must be an int, got float"),
    ((0, None, 1), TypeError, "random_words: counter must be an int, got NoneType"),
    ((0, 0, "3"), TypeError, "random_words: n must be an int, got str"),
)


@pytest.mark.parametrize("args, error, message", INVALID)
def test_invalid(backend, args, error, message):
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        backend.random_words(*args)


def test_numpy_ints(backend):
    got = backend.random_words(np.int64(3), np.uint8(4), np.int32(5))
    np.testing.assert_array_equal(got, backend.random_words(3, 4, 5))
