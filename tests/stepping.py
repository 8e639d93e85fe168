"""What the tests of the optimizer kernels share: flat arrays, ten steps, layouts that must be refused."""

import numpy as np

# 0, 1, primes, around vector widths, and enough to be split among threads
SIZES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 65, 257, 100_003)


def arrays(n, dtype, count, seed=0):
    """`count` random arrays (n)."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(n).astype(dtype) for _ in range(count)]


def steps(step, n, dtype, states, count=10):
    """Run step(param, grad, states, i) `count` times on the same random data; returns [param, *states].

    states: for each state array True (zeros) or False (None).
    """
    (param,) = arrays(n, dtype, 1)
    state = [np.zeros(n, dtype) if wanted else None for wanted in states]
    for i in range(count):
        (grad,) = arrays(n, dtype, 1, seed=i + 1)
        before = grad.tobytes()
        assert step(param, grad, state, i) is None
        assert grad.tobytes() == before, "the kernel altered the gradient"
    return [param, *(s for s in state if s is not None)]


def layout_errors(kernel, name, call):
    """Rows (call with the bad array, error, message) for one in-place argument; call(x) runs the kernel on
    (6,) arrays.
    """
    room = np.zeros(12, "float32")
    locked = np.zeros(6, "float32")
    locked.flags.writeable = False
    form = f"{kernel}: {name} must"
    rows = [
        ([1.0], TypeError, f"{form} be a NumPy array, got list"),
        (None, TypeError, f"{form} be a NumPy array, got NoneType"),
        (np.zeros(6, "int64"), TypeError, f"{form} be float32 or float64, got int64"),
        (np.zeros((2, 3), "float32"), ValueError, f"{form} have 1 dimensions (n), got shape (2, 3)"),
        (room[::2], ValueError, f"{form} be contiguous, got strides (8,)"),
        (room[5::-1], ValueError, f"{form} be contiguous, got strides (-4,)"),
        (np.zeros(25, np.uint8)[1:].view("float32"), ValueError, f"{form} be aligned to its items, got an odd address"),
        (locked, ValueError, f"{form} be writeable, got a read-only array"),
    ]
    if name != "param":
        rows += [
            (np.zeros(6), TypeError, f"{form} be float32 like param, got float64"),
            (np.zeros(5, "float32"), ValueError, f"{form} have shape (6,), got (5,)"),
        ]
    return [((lambda x=x: call(x)), error, message) for x, error, message in rows]
