"""Random words, as dropout and shuffles draw them."""

from ..case import Case, calls


def cases(rivals):
    for n in (1000, 1_000_000):
        yield Case("philox", f"{n} words", calls("random_words", 1, 2, n), bytes=4.0 * n)
