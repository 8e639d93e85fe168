"""Streams and graphs of the stand-in for CuPy: while a stream captures, calls are kept instead of made."""

import numpy as np


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class Graph:
    """`cupy.cuda.Graph`: the calls that were made while a stream was capturing; they run when it is launched."""

    def __init__(self):
        self.calls, self.broken = [], None

    def launch(self, stream=None):
        """Run them."""
        assert _graph is None
        for call in self.calls:
            call()


class Stream:
    """`cupy.cuda.Stream`: everything happens at once, so that there is nothing to wait for."""

    def __init__(self, non_blocking=False):
        self._non_blocking = non_blocking

    def __enter__(self):
        current.append(self)
        return self

    def __exit__(self, *error):
        current.pop()

    def record(self, event=None):
        """An event."""
        return self

    def wait_event(self, event):
        """Nothing to wait for."""
        if _graph is not None:
            _graph.broken = "waiting for an event of another stream"

    def is_capturing(self):
        """Whether it records."""
        return _graph is not None

    def begin_capture(self, mode=None):
        """Record from now on what is called, in place of running it."""
        global _graph
        if not self._non_blocking:
            raise RuntimeError("cannot capture on a stream that blocks")
        _graph = Graph()

    def end_capture(self):
        """The graph."""
        global _graph
        graph, _graph = _graph, None
        if graph.broken:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureInvalidated: {graph.broken}")
        return graph


_graph = None  # that is being recorded
current = [Stream()]


def note(call):
    """Do this when the graph that is being recorded runs."""
    if _graph is not None:
        _graph.calls.append(call)


def wait():
    """What waits for the GPU breaks a capture."""
    if _graph is not None:
        _graph.broken = "waiting for the GPU"
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")


def work(compute, given):
    """compute(), from the NumPy arrays `given`.

    While a stream captures, the call is in the graph and its result still to come: floats are NaN.
    """
    global _graph
    if _graph is None:
        return compute()
    before = [x.copy() for x in given]
    graph, _graph = _graph, None  # what the bindings do with CuPy is part of the call
    try:
        result = _no_numbers(compute())
    finally:
        _graph = graph
    for x, old in zip(given, before):
        if x.size and x.flags.writeable and x.tobytes() != old.tobytes():
            x[...] = old
    made = [x for x in flat(result) if isinstance(x, np.ndarray)]
    made = [x for x in made if not any(np.may_share_memory(x, other) for other in given)]
    if made or result is None or any(x is item for x in given for item in flat(result)):
        for x in made:
            if x.dtype.kind == "f":
                x.fill(np.nan)
        _graph.calls.append(lambda: _again(compute, result, made))
    return result


def _no_numbers(result):
    return np.asarray(result) if isinstance(result, np.generic) else result


def _again(compute, result, made):
    for old, new in zip(flat(result), flat(_no_numbers(compute()))):
        if any(old is x for x in made):
            old[...] = new


def flat(value):
    """The items of nested dicts, lists and tuples."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [x for item in value for x in flat(item)]
    return [value]
