"""Capture on the GPU: a training step as one CUDA graph, replayed with one launch.

The first call runs the step as written, on a stream of its own: it makes what a graph can't make (workspaces, tables,
constants). The second runs it once more while that stream records, from memory of a pool of its own, and launches the
graph. The third replays and, from the same state, runs the step as written: both must give the same bits. What changes
from step to step (learning rates, step counts, counters of random streams, the cursor of a loader) is read from words
in the GPU's memory, written before every launch.
"""

from __future__ import annotations

import threading

import numpy as np

from . import _cpu, kernels, recording
from .session import Session
from .tensor import Tensor, wrap

_WORDS = 1024  # of 64 bits, for the numbers of one step that change
_streams = threading.local()


class GraphSession(Session):
    """Notes of a step on the GPU. runs: whether its kernels run as they are called, or are recorded only."""

    def __init__(self, program: GraphProgram, inputs, runs: bool):
        super().__init__(_cpu.Program([], []))  # an empty one, for Python's side of a replay
        self._inputs = {id(x) for x in inputs}  # arrays of which replays get copies
        self._words, self.runs = program.words, runs
        self._write = program.kernels.write_words
        self.values = np.zeros(_WORDS, np.int64)  # of the words, in the host's memory
        self.used = 0
        self._hosts: dict = {}  # id of a number's place on the GPU: its place in `values`, and that on the GPU
        self._counters: list = []  # (word, generator, how many draws before it)
        self._cursors: list = []  # (word, loader)
        self._owns = program.owns
        self._kept: dict = {}  # id: an array that a graph reads and nobody else may keep
        self.rounded_buffers: dict = {}  # id: a flat buffer whose copy in bfloat16 is read
        self.mutable: dict = {}  # id: an array that the step changes in place

    def on_gpu(self, arrays) -> None:
        """A kernel reads or changes these arrays."""
        for array in arrays:
            self.keep(array)

    def keep(self, array) -> None:
        """The step reads this array: unless it is of the graph's own memory it must live as long as the program."""
        if kernels.on_gpu(array) and not self._owns(array):
            self._kept[id(array)] = array

    def leaves(self, what: str, array) -> None:
        """Values leave for Python, which would have to wait for them."""
        if kernels.on_gpu(array):
            self.refuse(f"{what}, which hands a value on the GPU to Python or NumPy")

    def outside(self, what: str, array) -> None:
        """CuPy's kernels are recorded like fastdl's."""
        self.keep(array)

    def changed(self, tensor) -> None:
        """A tensor's memory is changed in place."""
        super().changed(tensor)
        if id((tensor if tensor._base is None else tensor._base).data) in self._inputs:
            self.refuse("a change of an input in place, of which a graph has a copy")
        if not self._owns(tensor.data):  # what the step makes itself is made again
            self.mutable[id(tensor.data)] = tensor.data

    def draw(self, generator, counter: int, on_host: bool):
        """The place of the counter of a stream that a kernel draws from."""
        if on_host:
            self.refuse("random numbers that are drawn on the host; draw them before the step")
            return super().draw(generator, counter, on_host)
        super().draw(generator, counter, on_host)
        before = next(entry[1] for entry in self.generators if entry[0] is generator) - 1
        self._counters.append((self.used, generator, before))
        return self.number(counter, np.int64)

    def cursor(self, loader):
        """The place of the number of a loader's batch."""
        self._cursors.append((self.used, loader))
        return self.number(loader.current, np.int64)

    def rounded(self, flat) -> None:
        """The copy of a flat buffer in bfloat16 is read, which must be up to date before a replay."""
        self.rounded_buffers[id(flat)] = flat

    def refresh_rounded(self) -> None:
        """Bring these copies up to date, where weights were changed by anything but a step."""
        for flat in self.rounded_buffers.values():
            flat.refresh_rounded()

    def place_of(self, number):
        """Where a replay writes the value of a number that kernels read on the GPU."""
        return self._hosts[id(number)][0]

    def follow(self) -> None:
        """Python's side of a replay: `values` are those of this step, and what counts steps goes on."""
        self._follow_counters()
        self.program.run([])

    def rehearse(self) -> None:
        """The same without touching Python objects."""
        self._follow_counters()
        self.program.rehearse([])

    def _follow_counters(self) -> None:
        """The values of the counters of random streams and of the cursors of loaders."""
        for word, generator, before in self._counters:
            self.values[word] = _signed(generator.counter + before)
        for word, loader in self._cursors:
            self.values[word] = loader.current

    def finish(self) -> None:
        """Hand the notes over, once the step has run."""
        super().finish()
        self.program.watch(kernels.__dict__, "tf32", kernels.tf32)
        for generator, _ in self.generators:
            self.program.watch(generator.__dict__, "seed", generator.seed)
        self.program.finish([], [])

    def undo(self) -> None:
        """Take back what the step did to Python objects; its kernels have not run."""
        for generator, draws in self.generators:
            generator.counter = (generator.counter - draws) % 2**64
        for update in self.updates:
            if update.counts:
                update.flat.steps[update.first : update.last] = [update.steps] * (update.last - update.first)
        for counter, changes in self._changes.values():
            counter[0] -= changes
        for leaf in self._touched:
            leaf._grad = self._grads.get(leaf)

    def number(self, value, dtype):
        """A 0-d array on the GPU whose value a replay takes from the word of the same place in `values`."""
        if self.used == _WORDS:
            raise RuntimeError(f"more than {_WORDS} learning rates, step counts and random streams")
        part = slice(self.used, self.used + 1)
        self.used += 1
        host, there = (words[part].view(dtype).reshape(()) for words in (self.values, self._words))
        host[...] = _signed(value) if dtype is np.int64 else value
        if self.runs:
            self._write(self._words[part], self.values[part])
        self._hosts[id(there)] = host, there
        return there


def _signed(value: int) -> int:
    """A 64-bit word as a signed int."""
    return (value + 2**63) % 2**64 - 2**63


class GraphProgram:
    """The graph of a step for one kind of input, with what its replays need from Python."""

    def __init__(self, key, inputs):
        self.key = key
        self.kernels = kernels.backend("cuda")
        self._cupy, self._array = self.kernels.cupy, self.kernels.cupy.ndarray
        self._kinds = [_kind(t) for t in inputs]
        self._leaves = [(i, t, t.data) for i, t in enumerate(inputs) if t._requires]
        self.words = self._cupy.zeros(_WORDS, np.int64)
        self._graph = self._session = self._pool = self._own = self._staging = None
        self._gradients = []
        self.structure = None  # of what the step returns
        self.trusted = False

    def __del__(self):
        self.close()

    def close(self) -> None:
        """Give the graph's memory back; a pool that is just dropped would keep it."""
        self._graph = self._session = self._staging = None
        self._gradients = []
        if self._pool is not None:
            self._pool.free_all_blocks()
            self._pool = None

    def owns(self, array) -> bool:
        """Whether the array lies in the memory that the graph's own pool has handed out."""
        return self._own is not None and getattr(array.data.mem, "pool", None) == self._own

    # -- the three first calls ---------------------------------------------------------------------------------

    @property
    def recorded(self) -> bool:
        """Whether there is a graph."""
        return self._graph is not None

    def run_once(self, function, args, kwargs, inputs, flatten) -> tuple:
        """(result, reasons why the step can't be replayed) of the step as written, on the stream that will record."""
        here, there = self._cupy.cuda.get_current_stream(), _stream(self._cupy)
        there.wait_event(here.record())
        session = GraphSession(self, [t.data for t in inputs if not t._requires], runs=True)
        session.program.start()  # for kernels on the host, of which there should be none
        try:
            with there, _recording(session):
                result = function(*args, **kwargs)
        finally:
            session.program.stop()
            here.wait_event(there.record())
        reasons, tensors = list(session.reasons), []
        try:
            flatten(result, tensors)
        except TypeError as error:
            reasons.append(str(error))
        if not all(kernels.on_gpu(t.data) for t in (*inputs, *tensors)):
            reasons.append("it takes or returns tensors in the host's memory")
        if session.program.calls():
            reasons.append("it runs kernels on the host in a step on the GPU")
        if not reasons:
            session.finish()
            self._session = session
        del session, tensors
        self._cupy.get_default_memory_pool().free_all_blocks(stream=there)  # which only this call allocates on
        return result, reasons

    def record(self, function, inputs, flatten, unflatten) -> list[str]:
        """Record the graph; the reasons why it can't be, after which Python's side is as if nothing had been called."""
        stream, fixed = _stream(self._cupy), {i for i, _, _ in self._leaves}
        self._session.refresh_rounded()
        self._pool = self._cupy.cuda.MemoryPool()
        error, graph, tensors = "", None, []
        with self._cupy.cuda.using_allocator(self._pool.malloc):
            self._own = self._cupy.zeros(1, np.uint8).data.mem.pool
            staged = [t.data if i in fixed else self.kernels.clone(t.data) for i, t in enumerate(inputs)]
            session = GraphSession(self, [x for i, x in enumerate(staged) if i not in fixed], runs=False)
            given = iter([t if i in fixed else wrap(x) for i, (t, x) in enumerate(zip(inputs, staged))])
            args, kwargs = unflatten(self.key[0], given), unflatten(self.key[1], given) or {}
            with stream, _recording(session):
                stream.begin_capture()
                try:
                    self.structure = flatten(function(*args, **kwargs), tensors)
                except Exception as raised:
                    error = str(raised)  # the exception itself would keep the arrays of its frames
                except BaseException:
                    session.undo()
                    raise
                finally:
                    try:
                        graph = stream.end_capture()
                    except Exception as raised:
                        error = error or str(raised)
        reasons = session.reasons + ([f"recording a CUDA graph failed: {error}"] if error else [])
        if reasons:
            session.undo()
            return reasons
        session.finish()
        self._session, self._graph = session, graph
        self._staging = self.kernels.Staging(self.words, staged, [t.data for t in inputs], [t.data for t in tensors])
        self._gradients = session.new_gradients()
        return []

    def check(self, function, args, kwargs, inputs, flatten) -> tuple:
        """(result of the step as written, what a replay from the same state made different: a word or nothing)."""
        self._session.refresh_rounded()
        state = self._mutable()
        before = [self.kernels.clone(x) for x in state]
        self._session.rehearse()
        replayed = self.launch([t.data for t in inputs])
        left = [None if gradient is None else gradient.data for _, gradient in self._gradients]
        after, left = ([x if x is None else self.kernels.clone(x) for x in arrays] for arrays in (state, left))
        for x, saved in zip(state, before):
            self.kernels.assign(x, saved)
        result = function(*args, **kwargs)
        tensors: list = []
        if flatten(result, tensors) != self.structure or not _same([t.data for t in tensors], replayed):
            return result, "the result"
        if not _same(state, after):
            return result, "what it changes in place"
        now = [leaf._grad for leaf, _ in self._gradients]
        if not _same([None if gradient is None else gradient.data for gradient in now], left):
            return result, "the gradients"
        self.trusted = True
        return result, ""

    def _mutable(self) -> list:
        """The arrays that the step changes: buffers of optimizers whole, others one by one."""
        arrays = dict(self._session.mutable)
        for update in self._session.updates:
            flat = update.flat
            arrays.update({id(x): x for x in (flat.data, flat.grad, *flat.states.values())})
        return list(arrays.values())

    # -- replay ----------------------------------------------------------------------------------------------------

    def usual(self, args: tuple):
        """One call with plain tensors of the recorded kinds, in as little Python as it takes; or NotImplemented."""
        if len(args) != len(self._kinds) or self._leaves or recording.session is not None:
            return NotImplemented
        arrays = []
        for t, (shape, strides, dtype, *_) in zip(args, self._kinds):
            array = t.data if type(t) is Tensor else None
            if type(array) is not self._array or array.shape != shape:
                return NotImplemented
            if array.dtype is not dtype or array.strides != strides or t._requires:
                return NotImplemented
            arrays.append(array)
        if not self._session.program.accepts([]):
            return NotImplemented
        results = self.replay(arrays)
        if isinstance(self.structure, tuple):
            return tuple(map(wrap, results))
        return wrap(results[0]) if results else None

    def accepts(self, inputs) -> bool:
        """Whether a replay would do what the function would do."""
        return (
            len(inputs) == len(self._kinds)
            and all(_kind(t) == kind for t, kind in zip(inputs, self._kinds))
            and all(inputs[i] is t and t.data is array for i, t, array in self._leaves)
            and self._session.program.accepts([])
        )

    def launch(self, arrays: list) -> list:
        """Copy the inputs in and write the words, launch the graph; copies of its results."""
        self._staging.enter(self._session.values[: self._session.used], arrays)
        self._graph.launch()
        return self._staging.results()

    def replay(self, arrays: list) -> list:
        """One call of the step."""
        self._session.refresh_rounded()
        self._session.follow()
        return self.launch(arrays)

    def rebuild(self, arrays, unflatten):
        """What the function returns, around these arrays."""
        return unflatten(self.structure, iter([wrap(array) for array in arrays]))


def _kind(t) -> tuple:
    array = t.data
    return array.shape, array.strides, array.dtype, kernels.on_gpu(array), t._requires


def _stream(cupy):
    """The stream that this thread records on, one for each GPU."""
    found = _streams.__dict__.setdefault(cupy, {})
    device = cupy.cuda.runtime.getDevice()
    if device not in found:
        found[device] = cupy.cuda.Stream(non_blocking=True)
    return found[device]


class _recording:
    def __init__(self, session):
        self._session = session

    def __enter__(self):
        recording.session = self._session

    def __exit__(self, *error):
        recording.session = None


def _same(arrays: list, others: list) -> bool:
    """Whether the arrays (or None) have the same bits."""

    def same(a, b) -> bool:
        if a is None or b is None:
            return a is b
        return a.shape == b.shape and kernels.to_host(a).tobytes() == kernels.to_host(b).tobytes()

    return len(arrays) == len(others) and all(map(same, arrays, others))
