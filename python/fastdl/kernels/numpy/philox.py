"""Philox 4x32-10: the one source of random bits, the same on every backend.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3.3. A block of
four words depends on nothing but the key and its counter, so any part of a stream can be made by any thread.
"""

import numpy as np

from . import _check

__all__ = ["random_words"]

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
LOW, WORD = np.uint64(0xFFFFFFFF), np.uint64(32)


def random_words(seed: int, counter: int, n: int) -> np.ndarray:
    """Words 0 .. n-1 of the Philox 4x32-10 stream (seed, counter).

    Word e is word e % 4 of the block with key (seed low, seed high) and counter
    (e // 4 low, e // 4 high, counter low, counter high); "low" and "high" are the 32-bit halves.

    Args:
        seed: int in [0, 2**64).
        counter: int in [0, 2**64), the number of the random call; or a 0-d int64 array with its bits, read when the
            kernel runs.
        n: how many words, at least 0.

    Returns: uint32 array (n,).
    Raises: TypeError for arguments that are not ints, ValueError for one out of range.

    >>> [hex(word) for word in random_words(0, 0, 2).tolist()]
    ['0x6627e8d5', '0xe169c58d']
    """
    _check.integer("random_words", "seed", seed, 0, 2**64)
    counter = _check.counter("random_words", counter)
    _check.integer("random_words", "n", n, 0, 2**62)
    seed = int(seed)
    e = np.arange((int(n) + 3) // 4, dtype=np.uint64)
    blocks = philox(
        (e & LOW, e >> WORD, np.uint64(counter & 0xFFFFFFFF), np.uint64(counter >> 32)),
        (seed & 0xFFFFFFFF, seed >> 32),
    )
    return blocks.reshape(-1)[:n].astype(np.uint32)


def philox(counters: tuple, key: tuple) -> np.ndarray:
    """The cipher: four counter words (uint64 holding 32 bits each) and two key ints -> (blocks, 4) uint64."""
    c0, c1, c2, c3 = counters
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> WORD) ^ c1 ^ np.uint64(k0),
            product1 & LOW,
            (product0 >> WORD) ^ c3 ^ np.uint64(k1),
            product0 & LOW,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1)
