"""Capture: run a training step once as written, then replay its kernels from C++.

The first call runs the function; every kernel call is appended to a program (csrc/core/program.h), every other thing
that a replay must know about to a `Session`. Later calls with inputs of the same shapes, dtypes and memory order replay
the program: no Python code of the step, no autograd, no allocation, the GIL released.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

from . import kernels, recording
from .device import get_device
from .session import Session
from .tensor import Tensor, wrap

_DIFFERS = (
    "a replay from the same state gave other bits than the function for {}: a value that changes from step to step was "
    "computed outside fastdl's kernels (NumPy, Python numbers) and is a constant of the program, or something else "
    "changed memory (NumPy on t.data)"
)
_MOST_PROGRAMS = 32  # of one step; the one recorded first makes room


class CaptureError(RuntimeError):
    """A step can't be replayed; the message says what it does outside fastdl's kernels, and where."""


def capture(function: Callable | None = None, *, fallback: bool = False):
    """A function that records `function` once per kind of input and replays it from then on; also a decorator.

    function: a training step: any function or bound method of Tensors (and tuples, lists, dicts of them; other
        arguments are constants of the program) made of fastdl operations, modules, optimizers. It may return Tensors
        in the same structures; they carry no graph.
    fallback: where the step can't be captured, warn once and run it as written instead of raising.

    The first call runs as written. The second is made both ways, replayed and as written from the same state, and must
    give the same bits, so that what happens outside the kernels is found; so is the first call, if it is a later one,
    with inputs in other memory than that of the recording. Learning rates, step counts, random streams,
    modes (`train`, `eval`), the settings of modules (attributes, children, hooks) and gradients that are None follow
    the Python objects; other values of Python that the step uses are constants of the program. New shapes, dtypes,
    modes or settings record a program of their own, kept beside the others. On the numpy backend the function is simply
    called.

    Raises:
        CaptureError: the step does something that a replay would not do again: `item()` on a result, hooks, a
            scheduler's step, NumPy arithmetic. The step has been done as written then.

    >>> @fd.capture
    ... def step(x, y):
    ...     optimizer.zero_grad()
    ...     loss = nn.functional.cross_entropy(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    """
    if function is None:
        return functools.partial(capture, fallback=fallback)
    if isinstance(function, CapturedStep):
        return function
    if not callable(function):
        raise TypeError(f"capture: function must be callable, got {type(function).__name__}")
    return CapturedStep(function, fallback)


class CapturedStep:
    """What `fastdl.capture` returns; call it like the function. `explain()` shows the recorded program."""

    def __init__(self, function: Callable, fallback: bool = False, device: str | None = None):
        functools.update_wrapper(self, function)
        self._device = device  # of a step without inputs; None: where new tensors are made
        self._function, self._fallback = function, fallback
        self._programs: list[_Program] = []
        self._graphs: list = []  # the programs on a GPU
        self._given_up = False
        self._usual = None  # replays the program that was used last, if its arguments are of the plain kind for it

    def __call__(self, *args, **kwargs):
        if self._usual is not None and not kwargs:
            result = self._usual(args)
            if result is not NotImplemented:
                return result
        if self._given_up or recording.session is not None:
            return self._function(*args, **kwargs)
        inputs: list = []
        key = (_flatten(args, inputs), _flatten(kwargs, inputs) if kwargs else None)
        if kernels.gpu_arrays and self._on_gpu(inputs):
            return self._call_on_gpu(key, inputs, args, kwargs)
        if kernels.host().name != "cpu":
            return self._function(*args, **kwargs)
        for program in self._programs:
            if program.key == key and program.accepts(inputs):
                break
        else:
            return self._record(key, inputs, args, kwargs)
        if not program.native.trusts([t.data for t in inputs]):
            return self._check(program, inputs, args, kwargs)
        self._usual = program.native.replay
        return program.rebuild(program.native.run([t.data for t in inputs]))

    def __get__(self, instance, owner=None):
        """Refuse to be a method: programs kept with the class would keep every instance, too."""
        if instance is None:
            return self
        name = getattr(self._function, "__name__", "step")
        advice = f"capture it for each object: self.{name} = fd.capture(self.{name})"
        raise TypeError(f"capture: {name} is a method; {advice}")

    def _drop(self, program) -> None:
        self._usual = None
        self._graphs.remove(program)
        program.close()

    def _is_plain(self, program) -> bool:
        """Whether the program takes tensors alone, and none only on a device of its own, and returns no more than one
        tuple of them."""
        args, kwargs = program.key
        results = program.structure if isinstance(program.structure, tuple) else (program.structure,)
        plain = kwargs is None and all(arg is _TENSOR for arg in args) and (args or self._device is not None)
        return bool(plain) and (program.structure is None or all(result is _TENSOR for result in results))

    def _on_gpu(self, inputs) -> bool:
        """Whether the step belongs on the GPU: an input is there, or it has none and new tensors are made there."""
        if inputs:
            return any(kernels.on_gpu(t.data) for t in inputs)
        return (self._device or get_device()) == "cuda"

    def _call_on_gpu(self, key, inputs, args, kwargs):
        from .graph import GraphProgram

        for program in self._graphs:
            if program.key == key and program.accepts(inputs):
                break
        else:
            program = GraphProgram(key, inputs)
            result, reasons = program.run_once(self._function, args, kwargs, inputs, _flatten)
            if reasons:
                return self._give_up(reasons, result)
            if len(self._graphs) == _MOST_PROGRAMS:
                self._drop(self._graphs[0])
            self._graphs.append(program)
            return _without_graph(result)
        if program.trusted:
            self._usual = program.usual if self._is_plain(program) else None
            return program.rebuild(program.replay([t.data for t in inputs]), _unflatten)
        if program.recorded:
            result, wrong = program.check(self._function, args, kwargs, inputs, _flatten)
            if wrong:
                self._drop(program)
                return self._give_up([_DIFFERS.format(wrong)], result)
            return _without_graph(result)
        reasons = program.record(self._function, inputs, _flatten, _unflatten)
        if reasons:
            self._drop(program)
            return self._give_up(reasons, self._function(*args, **kwargs))
        return program.rebuild(program.launch([t.data for t in inputs]), _unflatten)

    def explain(self, rounds: int = 5):
        """A table of the program that was replayed most often: each call with its shapes, bytes, time and share.

        Returns a `fastdl.explain.Report`: print it, or read its `rows`. Times are medians over `rounds` timed replays,
        after which everything is as before. Raises RuntimeError before the first call.
        """
        from .explain import Report

        if self._graphs and not self._programs:
            raise RuntimeError("explain: a step on the GPU is one CUDA graph; Nsight Systems shows its kernels")
        if not self._programs:
            raise RuntimeError("explain: nothing is recorded yet; call the step first")
        return Report.of(max(self._programs, key=lambda program: program.native.replays), rounds, len(self._programs))

    @property
    def programs(self) -> int:
        """How many programs are recorded."""
        return len(self._programs) + len(self._graphs)

    def _record(self, key, inputs, args, kwargs):
        """The first call: run the function and record it."""
        program = _Program(key, inputs)
        with program:
            result = self._function(*args, **kwargs)
        reasons = program.finish(result)
        if reasons:
            return self._give_up(reasons, result)
        if len(self._programs) == _MOST_PROGRAMS:
            self._programs.pop(0)
        self._programs.append(program)
        return program.rebuild(program.native.results([t.data for t in inputs]))

    def _check(self, program, inputs, args, kwargs):
        """The second call: replay, go back, run the function, compare.

        Again, once, when inputs lie elsewhere than those recorded, which the function may know by other names.
        """
        native, arrays = program.native, [t.data for t in inputs]
        state = native.save()
        replayed = native.rehearse(arrays)
        native.exchange(state)
        result = self._function(*args, **kwargs)
        kernel = native.differs(state)
        wrong = f"what {kernel} changes" if kernel else program.differs(result, replayed)
        if wrong:
            self._programs.remove(program)
            self._usual = None
            return self._give_up([_DIFFERS.format(wrong)], result)
        native.trust(arrays)
        native.set_gradients()
        self._usual = native.replay
        return program.rebuild(replayed)

    def _give_up(self, reasons: list[str], result):
        name = getattr(self._function, "__name__", "step")
        text = f"capture: {name} can't be replayed: " + "; ".join(dict.fromkeys(reasons))
        if not self._fallback:
            raise CaptureError(text + ". The step itself was done.")
        warnings.warn(text + ". It runs as written, slower.", RuntimeWarning, stacklevel=4)
        self._given_up, self._usual = True, None
        self._programs.clear()
        while self._graphs:
            self._graphs.pop().close()
        return result


class _Program:
    """One recorded program with what its replays need from Python."""

    def __init__(self, key, inputs):
        from . import _cpu

        self.key, self.shapes = key, [t.data.shape for t in inputs]
        self.native = _cpu.Program([t.data for t in inputs], [t._requires for t in inputs])
        self.session = Session(self.native)
        # Gradients go to these very tensors, and they may be changed in place.
        self._leaves = [(i, t, t.data) for i, t in enumerate(inputs) if t._requires]
        self._requires = [t._requires for t in inputs]

    def __enter__(self):
        recording.session = self.session
        self.native.start()

    def __exit__(self, *error):
        self.native.stop()
        recording.session = None

    def finish(self, result) -> list[str]:
        """Note what the function returned; the reasons why the program can't be replayed, if any."""
        session = self.session
        tensors: list = []
        reasons = list(session.reasons)
        try:
            self._returned = _flatten(result, tensors)
        except TypeError as error:
            reasons.append(str(error))
        if self.native.refused:
            reasons.append(f"it needs {self.native.refused}")
        if reasons:
            return reasons
        self._gradients = session.gradients()
        self.native.finish([t.data for t in tensors], [g for g in self._gradients if g is not None])
        session.finish()
        many = isinstance(self._returned, tuple) and all(item is _TENSOR for item in self._returned)
        usual = many or self._returned is _TENSOR or self._returned is None
        if usual and not self._leaves:
            args, kwargs = self.key
            if kwargs is None and not any(isinstance(arg, (tuple, list, dict)) for arg in args):
                flags = tuple([arg is _TENSOR for arg in args])
                self.native.set_signature(args, flags, many, wrap, Tensor)
        return reasons

    def accepts(self, inputs) -> bool:
        """Whether a replay would do what the function would do."""
        same = self._requires == [t._requires for t in inputs]
        same = same and all(inputs[i] is t and t.data is array for i, t, array in self._leaves)
        return same and self.native.accepts([t.data for t in inputs])

    def differs(self, result, arrays) -> str:
        """What the function returned or left as gradients and the replay did not: a word for it, or an empty string."""
        tensors: list = []
        if _flatten(result, tensors) != self._returned or not _same([t.data for t in tensors], arrays):
            return "the result"
        return "" if _same(self.session.gradients(), self._gradients) else "the gradients"

    def rebuild(self, arrays):
        """What the function returns, around these arrays."""
        return _unflatten(self._returned, iter([wrap(array) for array in arrays]))


def _without_graph(result):
    """The result with tensors that carry no graph, as a replay returns it."""
    tensors: list = []
    structure = _flatten(result, tensors)
    return _unflatten(structure, iter([wrap(t.data) for t in tensors]))


def _same(arrays: list, others: list) -> bool:
    """Whether the arrays (or None) have the same bits."""
    return all(
        a is b or (a is not None and b is not None and a.shape == b.shape and a.tobytes() == b.tobytes())
        for a, b in zip(arrays, others)
    )


_TENSOR = object()  # stands for a Tensor in a flattened structure


def _flatten(value, tensors: list):
    """The structure of `value` with its Tensors taken out into the list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _TENSOR
    if isinstance(value, tuple):
        return tuple([_flatten(item, tensors) for item in value])
    if isinstance(value, list):
        return [_flatten(item, tensors) for item in value]
    if isinstance(value, dict):
        return {key: _flatten(item, tensors) for key, item in value.items()}
    if kernels.is_array(value):
        words = "CuPy array; use fastdl.as_tensor" if kernels.on_gpu(value) else "NumPy array; use fastdl.from_numpy"
        raise TypeError(f"arguments and results must be Tensors, got a {words}")
    return value


def _unflatten(structure, tensors):
    if structure is _TENSOR:
        return next(tensors)
    if isinstance(structure, (tuple, list)):
        return type(structure)([_unflatten(item, tensors) for item in structure])
    if isinstance(structure, dict):
        return {key: _unflatten(item, tensors) for key, item in structure.items()}
    return structure
