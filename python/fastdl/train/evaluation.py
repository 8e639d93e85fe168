"""Evaluation mode."""

from __future__ import annotations

import contextlib

from ..autograd import no_grad


@contextlib.contextmanager
def evaluating(model, autocast):
    """Evaluation mode without gradients, in the precision of `autocast`; every module's mode is put back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad(), autocast:
            yield
    finally:
        for module, training in modes:
            module.training = training
