"""What more threads bring: LeNet-5's step on all of them beside the same step on one."""

from functools import partial

import fastdl as fd

from .. import gpu
from ..case import Case
from ._step import STEPS, fastdl_step
from .cnn import lenet5


def cases(rivals):
    if rivals.threads > 1 and not gpu.in_use():
        task = lenet5()
        runs = partial(_runs, task, rivals.threads)
        name = f"LeNet-5, {rivals.threads} over 1"
        yield Case("threads", name, runs, task.flops, reference="1 thread", steps=STEPS)


def _runs(task, threads: int) -> dict:
    one = fastdl_step(task)

    def on_one():
        fd.set_num_threads(1)
        loss = one()
        fd.set_num_threads(threads)
        return loss

    return {"fastdl": fastdl_step(task), "1 thread": on_one}
