"""Automatic differentiation: recording operations, and the walk back along them.

An operation is a small class with `forward` and `backward`, both made of kernel calls on arrays. `apply` runs forward
and, where a gradient is wanted, keeps the operation object as the node of the graph that made the result.
"""

from __future__ import annotations

import functools
import threading

import numpy as np

from . import kernels, recording
from .tensor import Tensor, changed, wrap


class _Mode(threading.local):
    enabled = True


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return _mode.enabled


class set_grad_enabled:
    """Switch recording on or off: at once when called, or until the block ends; also a decorator."""

    def __init__(self, mode: bool):
        self._before = _mode.enabled
        self._mode = bool(mode)
        _mode.enabled = self._mode

    def __enter__(self):
        _mode.enabled = self._mode

    def __exit__(self, *error):
        _mode.enabled = self._before

    def __call__(self, function):
        _mode.enabled = self._before
        return _decorate(function, self._mode)


class _Switch:
    """A context manager and decorator that sets the mode; `@no_grad` and `@no_grad()` both work."""

    _value: bool

    def __new__(cls, function=None):
        return object.__new__(cls) if function is None else _decorate(function, cls._value)

    def __enter__(self):
        # A stack, so that one object may be entered again inside its own block.
        self.__dict__.setdefault("_stack", []).append(_mode.enabled)
        _mode.enabled = self._value

    def __exit__(self, *error):
        _mode.enabled = self._stack.pop()

    def __call__(self, function):
        return _decorate(function, self._value)


class no_grad(_Switch):
    """Record nothing inside the block or the decorated function: results do not require a gradient."""

    _value = False


class enable_grad(_Switch):
    """Record again inside a `no_grad` block."""

    _value = True


def _decorate(function, value: bool):
    if not callable(function):
        raise TypeError(f"grad mode: the decorated object must be callable, got {type(function).__name__}")

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        before = _mode.enabled
        _mode.enabled = value
        try:
            return function(*args, **kwargs)
        finally:
            _mode.enabled = before

    return wrapped


class Operation:
    """One operation: forward on arrays, backward from the output's gradient to the inputs' gradients.

    A subclass keeps attributes (stride, axis) in slots of its own, and puts the arrays that backward reads
    into the tuple `saved` during forward. Saved arrays that belong to an input or are the output are watched:
    changing them in place before backward raises. `need` says for each input whether its gradient is wanted.
    """

    __slots__ = ("edges", "need", "saved", "watched", "__weakref__")
    fresh = False  # backward returns new arrays only: none is dy, a saved array, a view, or returned twice
    relu = False  # forward ends in a ReLU, whose backward comes first in backward unless `gated` is set, then unset
    gates = False  # backward makes it for the first input where its `gate` is set, then unset
    places = False  # backward(dy, out) writes the gradients of inputs 1 and 2 into the arrays of `out`, or None
    adds = False  # backward(dy, out, more) takes a second dy, or None, which it adds to the first
    view = False  # the output shows the memory of the first input
    stand_ins = ()  # arrays that forward read in place of those of the inputs, and that change with them; or None

    def forward(self, *arrays):
        raise NotImplementedError

    def backward(self, dy):
        raise NotImplementedError


def apply(op: Operation, *inputs) -> Tensor:
    """Run op.forward on the arrays of the inputs (Tensor or None) and record it if a gradient is wanted."""
    arrays, need, enabled = [], [], _mode.enabled
    try:
        for t in inputs:
            if t is None:
                arrays.append(None)
                need.append(False)
            else:
                if t._base is not None and enabled:
                    refresh(t)
                arrays.append(t.data)
                need.append(enabled and t._requires)
    except AttributeError:
        raise _not_a_tensor(op, inputs) from None
    op.need = need
    op.saved = ()
    y = op.forward(*arrays)
    out = wrap(y)
    if op.view:
        first = inputs[0]
        out._counter = first._counter
        out._base = first if first._base is None else first._base
        followed = enabled or not (first._requires or out._base._requires)
        out._chain = (*first._chain, op) if followed and first._chain is not None else None
        out._seen = first._counter[0]
    if True in need:
        out._requires = True
        out._node = op
        op.edges = [(t._node or t) if n else None for t, n in zip(inputs, need)]
        watched = []
        for array in op.saved:
            if array is y:
                watched.append((out._counter, out._counter[0], -1, array))
            elif array is not None:
                for i, t in enumerate(inputs):
                    if t is not None and (t.data is array or (op.stand_ins and op.stand_ins[i] is array)):
                        watched.append((t._counter, t._counter[0], i, array))
                        break
        op.watched = watched
    return out


def _not_a_tensor(op: Operation, inputs) -> TypeError:
    for name, value in zip(_argument_names(op), inputs):
        if value is not None and not isinstance(value, Tensor):
            return TypeError(f"{name_of(op)}: {name} must be a Tensor, got {type(value).__name__}")
    return TypeError(f"{name_of(op)}: inputs must be Tensors")


def _argument_names(op: Operation) -> list:
    import inspect  # only needed for an error message, and slow to import

    return list(inspect.signature(getattr(op, "op", op).forward).parameters)


def name_of(op) -> str:
    """The operation's name as errors and `repr` show it."""
    return getattr(op, "name", type(op).__name__)


def refresh(t: Tensor) -> None:
    """Bring the history of a view up to date after its memory was changed in place through another tensor.

    Raises RuntimeError for a view taken inside `no_grad`, which is not to be followed but shows memory that now is.
    """
    if t._seen == t._counter[0] or not (t._requires or t._base._requires):
        return
    if t._chain is None:
        raise RuntimeError(
            "a view that was taken inside no_grad() shows memory that was modified in place and that autograd "
            "follows; take the view again, or clone() it inside no_grad()"
        )
    again = t._base
    for op in t._chain:
        again = apply(_again(op), again)
    t._requires, t._node, t._chain, t._seen = again._requires, again._node, again._chain, again._seen


def _again(op: Operation) -> Operation:
    """The same operation, not recorded yet."""
    new = object.__new__(type(op))
    for slot in type(op).__slots__:
        setattr(new, slot, getattr(op, slot))
    return new


def _check_saved(op: Operation) -> None:
    if op.saved is None:
        raise RuntimeError(
            f"backward: the graph was already freed at {name_of(op)} by an earlier backward(); "
            "call backward(retain_graph=True) the first time to go through it again"
        )
    for counter, version, index, _ in op.watched:
        if counter[0] != version:
            names = _argument_names(op)
            what = "its output" if index < 0 else f"its input '{names[min(index, len(names) - 1)]}'"
            raise RuntimeError(
                f"backward: {name_of(op)} needs {what} as it was, but an in-place operation modified it "
                f"(version {counter[0]}, expected {version}); compute out of place (x = x + y, not x += y) "
                "or clone() it first"
            )


def _consumers(root) -> dict:
    """For each node and leaf below `root`: how many operations will send it a gradient."""
    counts, stack = {root: 0}, [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Operation):
            for edge in node.edges:
                if edge is None:
                    continue
                if edge in counts:
                    counts[edge] += 1
                else:
                    counts[edge] = 1
                    stack.append(edge)
    return counts


def backward(self: Tensor, gradient: Tensor | None = None, retain_graph: bool = False) -> None:
    """Add the gradient of this tensor with respect to every leaf that it depends on to the leaf's `.grad`.

    Args:
        gradient: the gradient of some scalar with respect to this tensor, same shape and dtype; may be left
            out for a one-element tensor, where it is 1.
        retain_graph: keep what the graph saved, so that backward can run through it again.

    Raises:
        RuntimeError: the tensor does not require grad, is not a scalar and no gradient was given, the graph
            was freed by an earlier backward, or a tensor that backward needs was modified in place.
        TypeError, ValueError: gradient has another dtype or shape.
    """
    if self._base is not None:
        refresh(self)
    if not self._requires:
        raise RuntimeError("backward: the tensor does not require grad and was not computed from one that does")
    root = self._node or self
    counts = _consumers(root)
    pending, more = {root: (_seed(self, gradient), False)}, {}
    ready = [root]
    while ready:
        node = ready.pop()
        dy, owned = pending.pop(node)
        if not isinstance(node, Operation):
            _accumulate_leaf(node, dy, owned)
            continue
        if node.saved is None or node.watched:
            _check_saved(node)
        if node.gates:
            _hand_over_relu(node, dy, counts, pending)
        if node.adds:
            other = more.pop(node, None)
            grads = node.backward(dy, _places(node, counts, dy, other), other)
        else:
            grads = node.backward(dy, _places(node, counts, dy)) if node.places else node.backward(dy)
        fresh = node.fresh
        for edge, grad in zip(node.edges, grads):
            if edge is None:
                continue
            before = pending.get(edge)
            if before is None:
                pending[edge] = grad, fresh
            elif counts[edge] == 1 and isinstance(edge, Operation) and edge.adds:
                more[edge] = grad
            elif before[1]:
                kernels.of(grad).accumulate(before[0], grad)
            else:
                pending[edge] = kernels.of(grad).add(before[0], grad), True
            counts[edge] -= 1
            if counts[edge] == 0:
                ready.append(edge)
        if not retain_graph and node.saved:
            node.saved, node.watched = None, ()


def _hand_over_relu(node: Operation, dy, counts: dict, pending: dict) -> None:
    """Let the node make the backward of the ReLU before it, in one pass on the GPU, if it alone reads that one."""
    edge = node.edges[0]
    if isinstance(edge, Operation) and edge.relu and counts[edge] == 1 and edge not in pending and kernels.on_gpu(dy):
        node.gate = edge.gated = True


def _places(node: Operation, counts: dict, *gradients):
    """Where an optimizer wants the gradients of a weight and a bias, which get no other: on the GPU, where copying each
    there is a launch. None: nowhere.
    """
    if not kernels.gpu_arrays:
        return None
    places = [None, None]
    for i, edge in enumerate(node.edges[1:3]):
        if edge is None or isinstance(edge, Operation) or edge._grad is not None or counts[edge] > 1:
            continue
        slot = edge._grad_slot
        if kernels.on_gpu(slot) and not any(_overlap(slot, array) for array in (*gradients, *node.saved)):
            places[i] = slot
    return tuple(places) if any(place is not None for place in places) else None


def _overlap(slot, array) -> bool:
    """Whether an array on the GPU begins in this one's memory, or the other way round: a gradient that was kept."""
    if array is None:
        return False
    a, b = slot.data.ptr, array.data.ptr
    return a < b + array.nbytes and b < a + slot.nbytes


def _seed(t: Tensor, gradient) -> np.ndarray:
    if gradient is None:
        if t.data.size != 1:
            raise RuntimeError(
                f"backward: gradient must be given for a tensor of shape {t.shape}; only a scalar has one"
            )
        one = _one(t.data)
        return one.reshape(t.data.shape) if t.data.ndim else one
    if not isinstance(gradient, Tensor):
        raise TypeError(f"backward: gradient must be a Tensor, got {type(gradient).__name__}")
    if gradient.data.dtype != t.data.dtype:
        raise TypeError(f"backward: gradient must be {t.data.dtype} like the tensor, got {gradient.data.dtype}")
    if gradient.data.shape != t.data.shape:
        raise ValueError(f"backward: gradient must have shape {t.data.shape}, got {gradient.data.shape}")
    if gradient.device != t.device:
        raise TypeError(f"backward: gradient must lie on {t.device!r} like the tensor, got one on {gradient.device!r}")
    return gradient.data


def _one(like):
    """The number 1 in the dtype and on the device of `like`, always the same array."""
    if kernels.on_gpu(like):
        return kernels.of(like).constant(1, like.dtype)
    return _one_on_host(like.dtype)


@functools.cache
def _one_on_host(dtype):
    one = np.array(1, dtype)
    one.setflags(write=False)
    return one


def is_one(dy) -> bool:
    """Whether dy is what backward() begins with at a scalar."""
    return dy.ndim == 0 and dy is _one(dy)


def _accumulate_leaf(leaf: Tensor, grad: np.ndarray, owned: bool) -> None:
    """Add to leaf.grad; the first gradient goes into the leaf's slot if it has one, else becomes .grad itself."""
    if recording.session is not None:
        recording.session.grad_read(leaf)
    if leaf._grad is not None:
        kernels.of(grad).accumulate(leaf._grad.data, grad)
        changed(leaf._grad)
        return
    slot = leaf._grad_slot
    if slot is not None:
        if grad is not slot:
            kernels.of(grad).assign(slot, grad)
        leaf._grad = wrap(slot)
        if leaf._slot_counter is not None:
            leaf._slot_counter[0] += 1  # a gradient that was kept from before shows the new one now
            leaf._grad._counter = leaf._slot_counter
    else:
        # An array that the graph may still use elsewhere (x + x sends one dy twice) must not become a leaf's
        # own.
        if not owned:
            grad = kernels.of(grad).clone(grad)
        leaf._grad = wrap(grad)


def clear_grad(leaf: Tensor, set_to_none: bool) -> None:
    """Forget the gradient of a leaf, or fill it with zeros."""
    if set_to_none:
        if recording.session is not None:
            recording.session.grad_set(leaf)
        leaf._grad = None
    elif leaf.grad is not None:
        grad = leaf._grad
        kernels.of(grad.data).assign(grad.data, np.zeros((), grad.dtype, like=grad.data))
        changed(grad)
