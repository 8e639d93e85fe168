"""A training step in fastdl, PyTorch and JAX from one description of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .. import gpu, precision
from ..case import Case, to_numpy

STEPS = 4  # whose losses must agree: the first shows forward, the others backward and the update
BYTES = {"SGD": 3, "Momentum": 5, "Adam": 7}  # floats read and written to update one parameter


@dataclass
class Task:
    """What is trained, and how.

    build: makes the model from a module like torch.nn, fastdl.nn or torch.nn. shape: of a batch; classes: 0 for one
    logit and binary cross-entropy, else their number, and cross-entropy. optimizer, options: class in `optim` and its
    arguments. flops: of the products of one step, forward and backward. target: as in `Case`.
    """

    name: str
    build: Callable
    shape: tuple[int, ...]
    classes: int
    optimizer: str
    flops: float
    options: dict = field(default_factory=dict)
    target: dict[str, float] = field(default_factory=dict)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The fixed batch: inputs and labels (or 0.0 and 1.0 for binary cross-entropy)."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal(self.shape, np.float32)
        if self.classes:
            return x, rng.integers(0, self.classes, self.shape[0])
        return x, rng.integers(0, 2, (self.shape[0], 1)).astype(np.float32)

    def loss(self, functional) -> Callable:
        """The loss function, from fastdl.nn.functional or torch.nn.functional."""
        return functional.cross_entropy if self.classes else functional.binary_cross_entropy_with_logits


def step_case(rivals, task: Task) -> Case:
    """The case of one task; the runs are made when it is its turn."""
    import fastdl as fd

    reference = "torch" if rivals.torch else "jax" if rivals.jax else "numpy"
    case = Case("training", task.name, lambda: runs(rivals, task), task.flops, reference=reference, steps=STEPS)
    fd.manual_seed(0)
    parameters = sum(p.numel() for p in task.build(fd.nn).parameters())
    case.bytes, case.target = 4.0 * BYTES[task.optimizer] * parameters, task.target
    return case


def runs(rivals, task: Task) -> dict:
    """The steps of fastdl and of the chosen rivals, all from the same weights.

    "fastdl" is a captured step where fastdl can capture; the plain one is then "eager". "numpy" is fastdl's NumPy
    backend.
    """
    import fastdl as fd

    made = {"fastdl": fastdl_step(task)}
    if hasattr(fd, "capture") and fd.get_device() != "numpy":
        made["eager"] = fastdl_step(task, captured=False)
    with fd.device("numpy"):
        made["numpy"] = _on_numpy(fastdl_step(task, captured=False))
    if "torch" in rivals:
        made["torch"] = _torch_ways(rivals, task)
    if "torch-compile" in rivals:
        made["torch-compile"] = _torch_ways(rivals, task, compiled=True)
    if "torch-graph" in rivals:
        made["torch-graph"] = {way: gpu.torch_graph(run) for way, run in _torch_ways(rivals, task).items()}
    if rivals.jax:
        from . import _jax

        made["jax"] = _jax.make(_model(task), *task.batch(), task.optimizer, task.options)
    return made


def _model(task: Task):
    """fastdl's model; the same weights at every call."""
    import fastdl as fd

    fd.manual_seed(0)
    return task.build(fd.nn)


def _bound(step, x, y) -> Callable:
    return lambda: step(x, y)


def fastdl_step(task: Task, captured: bool = True) -> Callable:
    """fastdl's step; captured: by `fastdl.capture` where it is there."""
    import fastdl as fd

    model = _model(task)
    optimizer = getattr(fd.optim, "SGD" if task.optimizer == "Momentum" else task.optimizer)
    step = _step(fd, model, optimizer(model.parameters(), **task.options), task.loss(fd.nn.functional))
    capture = getattr(fd, "capture", None) if captured else None
    batch = tuple(map(fd.tensor, task.batch()))
    if capture and fd.get_device() == "cuda":  # the batch stays where it is, as for PyTorch's graph
        return capture(_bound(step, *batch))
    return _bound(capture(step) if capture else step, *batch)


def _on_numpy(run) -> Callable:
    import fastdl as fd

    def on_numpy():
        with fd.device("numpy"):
            return run()

    return on_numpy


def _step(library, model, optimizer, loss_function) -> Callable:
    """One step as a person writes it."""

    def step(x, y):
        optimizer.zero_grad()
        with precision.autocast(library):
            loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _torch_ways(rivals, task: Task, compiled: bool = False) -> dict:
    """PyTorch's steps: images in both memory formats; on a GPU the compiler itself turns them channels-last."""
    formats = ("channels_last", "contiguous") if len(task.shape) == 4 else ("",)
    formats = formats[:1] if compiled and gpu.in_use() else formats
    return {name: _torch_step(rivals, task, name == "channels_last", compiled) for name in formats}


def _torch_step(rivals, task: Task, channels_last: bool, compiled: bool) -> Callable:
    """compiled: model and loss by torch.compile, forward and backward; the fused optimizer stays eager.

    Compiled too, it made the step of the MLPs slower; on LeNet-5 single runs went either way. On a GPU the mode is
    "reduce-overhead".
    """
    torch = rivals.torch
    model = task.build(torch.nn)
    weights = {key: torch.tensor(to_numpy(value)) for key, value in _model(task).state_dict().items()}
    model.load_state_dict(weights)
    x, y = (rivals.tensor(array, low=False) for array in task.batch())
    if channels_last:
        last = {"memory_format": torch.channels_last}
        x, model = x.contiguous(**last), model.to(**last)
    optimizer = getattr(torch.optim, "SGD" if task.optimizer == "Momentum" else task.optimizer)
    capturable = {"capturable": True} if gpu.in_use() and task.optimizer == "Adam" else {}
    optimizer = optimizer(model.parameters(), fused=True, **task.options, **capturable)
    loss_function = task.loss(torch.nn.functional)
    if not compiled:
        return _bound(_step(torch, model, optimizer, loss_function), x, y)
    torch._dynamo.config.recompile_limit = 1000  # every task compiles the same lambda
    if not gpu.in_use():
        torch._inductor.config.compile_threads = 1  # no pool of compilers beside the timings
    mode = "reduce-overhead" if gpu.in_use() else None
    loss = torch.compile(lambda x, y: loss_function(model(x), y), dynamic=False, mode=mode)
    return _bound(_step(torch, lambda x: x, optimizer, loss), x, y)
